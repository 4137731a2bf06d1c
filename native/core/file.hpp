// A file opened for reading and writing at any place.
#pragma once

#include <cstddef>
#include <string>

namespace dask_annoy {

class File {
 public:
  // Gives the name to a new file; one that had it before stays as it is for those who have it open or mapped.
  static File create(const std::string& path);

  // A file without a name in the folder of `path`: its room is free again once it is closed, however that happens.
  static File scratch_beside(const std::string& path);

  File(File&& other) noexcept : path_(std::move(other.path_)), noun_(other.noun_), descriptor_(other.descriptor_) {
    other.descriptor_ = -1;
  }
  File& operator=(File&&) = delete;
  ~File();

  int descriptor() const { return descriptor_; }
  const std::string& path() const { return path_; }

  // All throw FileError.
  void resize(std::size_t bytes);
  void write(std::size_t offset, const char* bytes, std::size_t n);
  void read(std::size_t offset, char* bytes, std::size_t n) const;

 private:
  File(const std::string& path, const char* noun, int descriptor) : path_(path), noun_(noun), descriptor_(descriptor) {}
  [[noreturn]] void fail(const char* verb, int code) const;

  std::string path_;
  const char* noun_;  // in errors, before the path
  int descriptor_;
};

}  // namespace dask_annoy
