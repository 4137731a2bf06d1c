// Where a forest grows: in memory, or in a file on disk.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "core/mapping.hpp"

namespace dask_annoy {

// A growing run of zeroed bytes.
class NodeStorage {
 public:
  virtual ~NodeStorage() = default;

  virtual std::size_t size() const = 0;

  // Grows or cuts to `bytes`; what is new is zero.
  virtual void resize(std::size_t bytes) = 0;

  virtual void write(std::size_t offset, const char* bytes, std::size_t n) = 0;
  virtual void read(std::size_t offset, char* bytes, std::size_t n) const = 0;

  // All bytes written so far, in one piece, for reading.
  virtual std::shared_ptr<const char> bytes() const = 0;

  // The same as a mapping; null in memory.
  virtual std::shared_ptr<const Mapping> mapping() const { return nullptr; }

  // Where the bytes lie now, until the next resize(); null for a file, whose bytes() stay valid while it grows.
  virtual const char* in_place() const { return nullptr; }
  virtual char* in_place() { return nullptr; }

  // Whether growing to `bytes` would move it.
  virtual bool moves(std::size_t /*bytes*/) const { return false; }

  // Makes room if it can, so that growing to `bytes` moves nothing. Takes no memory yet.
  virtual void reserve(std::size_t /*bytes*/) {}

  // Of the file; empty in memory.
  virtual std::string path() const { return {}; }
};

std::shared_ptr<NodeStorage> memory_storage();

// Creates or empties the file. Items are written with pwrite and not through a mapping: pages of a mapping would
// count as the process's memory, which a Dask worker is killed for.
std::shared_ptr<NodeStorage> file_storage(const std::string& path);

}  // namespace dask_annoy
