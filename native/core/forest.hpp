// A finished forest: the nodes of Annoy's format, where the roots are, and who owns the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/layout.hpp"
#include "core/mapping.hpp"
#include "core/parallel.hpp"

namespace dask_annoy {

struct Forest {
  Layout layout;
  std::shared_ptr<const char> nodes;
  std::size_t n_nodes = 0;
  std::int32_t n_items = 0;
  std::vector<std::int32_t> roots;
  bool has_holes = false;
  std::shared_ptr<const Mapping> mapping;  // that `nodes` is of, if of any
  std::shared_ptr<const MappedFile> file;  // the same, if of a whole file

  const char* at(std::int32_t id) const { return nodes.get() + static_cast<std::size_t>(id) * layout.node_size; }
  NodeView node(std::int32_t id) const { return {at(id), layout}; }
  // Brings a node into the cache before it is looked at.
  void fetch(std::int32_t id) const {
    for (std::size_t i = 0; i < layout.node_size; i += 64) __builtin_prefetch(at(id) + i);
  }
  std::size_t size() const { return n_nodes * layout.node_size; }
};

// What whoever holds the bytes is told of ranges (offset, count) of them; each may be absent.
struct ByteHints {
  std::function<void(std::size_t, std::size_t)> read_ahead;  // will be looked at some time later
  std::function<void(std::size_t, std::size_t)> release;     // have been looked at
};

// Finds the roots of the forest in `size` bytes and checks every node, so that no search can leave the bytes or fail
// to end: sizes, kinds, item numbers and children in range, split bits, one parent a node, no node left over.
// `where` names the bytes in errors; what is wrong with which node does not depend on the threads. For dot the bytes
// tell which of Annoy's two layouts they have, and the forest's layout says it. Throws CorruptFile, or Interrupted.
Forest parse_forest(std::shared_ptr<const char> bytes, std::size_t size, const Layout& layout, const std::string& where,
                    std::size_t n_threads, Cancellation& cancellation, const ByteHints& hints = {});

// Maps a file and parses it. Throws FileError too. Pages that were looked at do not stay the process's memory, unless
// `prefault` asks for all of them.
Forest open_forest(const std::string& path, const Layout& layout, bool prefault, std::size_t n_threads,
                   Cancellation& cancellation);

}  // namespace dask_annoy
