#include "core/mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "core/errors.hpp"

namespace dask_annoy {

std::shared_ptr<const Mapping> Mapping::of_file(const std::string& path, bool prefault) {
  // Without O_NONBLOCK, to open a pipe waits for its writer; on regular files it says nothing.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) throw FileError("cannot open", path);
  struct stat info{};
  if (fstat(fd, &info) != 0) {
    const int code = errno;
    close(fd);
    throw FileError("cannot read the size of", path, code);
  }
  if (!S_ISREG(info.st_mode)) {
    close(fd);
    throw FileError("not a regular file:", path, S_ISDIR(info.st_mode) ? EISDIR : EINVAL);
  }
  try {
    auto mapping = of_descriptor(fd, static_cast<std::size_t>(info.st_size), path, prefault);
    close(fd);
    return mapping;
  } catch (...) {
    close(fd);
    throw;
  }
}

std::shared_ptr<const Mapping> Mapping::of_descriptor(int fd, std::size_t size, const std::string& path,
                                                      bool prefault) {
  if (size == 0) return std::shared_ptr<const Mapping>(new Mapping(nullptr, 0));
  int flags = MAP_SHARED;
#if defined(MAP_POPULATE)
  if (prefault) flags |= MAP_POPULATE;
#endif
  void* data = mmap(nullptr, size, PROT_READ, flags, fd, 0);
  if (data == MAP_FAILED) throw FileError("cannot map", path);
#if !defined(MAP_POPULATE)
  if (prefault) madvise(data, size, MADV_WILLNEED);
#endif
  return std::shared_ptr<const Mapping>(new Mapping(static_cast<const char*>(data), size));
}

void Mapping::read_ahead(std::size_t offset, std::size_t bytes) const {
  if (offset >= size_) return;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t begin = offset / page * page;
  madvise(const_cast<char*>(data_) + begin, std::min(offset + bytes, size_) - begin, MADV_WILLNEED);
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
}

}  // namespace dask_annoy
