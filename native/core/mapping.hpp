// A file mapped for reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace dask_annoy {

// Which file was mapped, and what tells it from one that has taken its place.
struct MappedFile {
  std::string path;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;
};

class Mapping {
 public:
  // Throws FileError. An empty file maps to no bytes.
  static std::shared_ptr<const Mapping> of_file(const std::string& path, bool prefault);
  static std::shared_ptr<const Mapping> of_descriptor(int fd, std::size_t size, const std::string& path,
                                                      bool prefault = false);

  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const char* data() const { return data_; }
  std::size_t size() const { return size_; }
  // Null for a mapping of_descriptor: that file is still written to.
  const std::shared_ptr<const MappedFile>& file() const { return file_; }

  // Begins to read bytes that will be asked for soon; what lies beyond the end is left out. Never fails: it is a hint.
  void read_ahead(std::size_t offset, std::size_t bytes) const;

  // The pages of those bytes stop counting as the process's memory; whoever looks at them gets them again. Never fails.
  void release(std::size_t offset, std::size_t bytes) const;

 private:
  Mapping(const char* data, std::size_t size) : data_(data), size_(size) {}
  void advise(std::size_t begin, std::size_t end, int advice) const;
  static std::shared_ptr<Mapping> map(int fd, std::size_t size, const std::string& path, bool prefault);

  const char* data_;
  std::size_t size_;
  std::shared_ptr<const MappedFile> file_;
};

}  // namespace dask_annoy
