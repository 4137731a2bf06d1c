#include "core/mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "core/errors.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kMappedAround = std::size_t{64} << 10;  // Linux's fault_around_bytes

std::int64_t mtime_ns(const struct stat& info) {
#if defined(__APPLE__)
  const timespec& time = info.st_mtimespec;
#else
  const timespec& time = info.st_mtim;
#endif
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

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
    const auto mapping = map(fd, static_cast<std::size_t>(info.st_size), path, prefault);
    mapping->file_ = std::make_shared<const MappedFile>(
        MappedFile{path, static_cast<std::uint64_t>(info.st_dev), static_cast<std::uint64_t>(info.st_ino),
                   static_cast<std::uint64_t>(info.st_size), mtime_ns(info)});
    close(fd);
    return mapping;
  } catch (...) {
    close(fd);
    throw;
  }
}

std::shared_ptr<const Mapping> Mapping::of_descriptor(int fd, std::size_t size, const std::string& path,
                                                      bool prefault) {
  return map(fd, size, path, prefault);
}

std::shared_ptr<Mapping> Mapping::map(int fd, std::size_t size, const std::string& path, bool prefault) {
  if (size == 0) return std::shared_ptr<Mapping>(new Mapping(nullptr, 0));
  int flags = MAP_SHARED;
#if defined(MAP_POPULATE)
  if (prefault) flags |= MAP_POPULATE;
#endif
  void* data = mmap(nullptr, size, PROT_READ, flags, fd, 0);
  if (data == MAP_FAILED) throw FileError("cannot map", path);
#if !defined(MAP_POPULATE)
  if (prefault) madvise(data, size, MADV_WILLNEED);
#endif
  return std::shared_ptr<Mapping>(new Mapping(static_cast<const char*>(data), size));
}

void Mapping::advise(std::size_t begin, std::size_t end, int advice) const {
  if (begin >= size_) return;
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  begin = begin / page * page;
  madvise(const_cast<char*>(data_) + begin, std::min(end, size_) - begin, advice);
}

void Mapping::read_ahead(std::size_t offset, std::size_t bytes) const { advise(offset, offset + bytes, MADV_WILLNEED); }

void Mapping::release(std::size_t offset, std::size_t bytes) const {
  // With a page that is asked for, the system maps others around it that are at hand.
  advise(offset - std::min(offset, kMappedAround), offset + bytes + kMappedAround, MADV_DONTNEED);
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
}

}  // namespace dask_annoy
