#include "core/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "core/errors.hpp"

namespace dask_annoy {

File File::create(const std::string& path) {
  // Never emptied in place: another process may have the old file mapped.
  if (unlink(path.c_str()) != 0 && errno != ENOENT) throw FileError("cannot replace", path);
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) throw FileError("cannot create", path);
  return File(path, "", descriptor);
}

File File::scratch_beside(const std::string& path) {
  static std::atomic<unsigned> counter{0};
  std::string name;
  int descriptor = -1;
  do {
    name = path + "." + std::to_string(getpid()) + "-" + std::to_string(counter++) + ".scratch";
    descriptor = open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  } while (descriptor < 0 && errno == EEXIST);
  if (descriptor < 0) throw FileError("cannot create a scratch file beside", path);
  unlink(name.c_str());
  return File(path, " the scratch file beside", descriptor);
}

File::~File() {
  if (descriptor_ >= 0) close(descriptor_);
}

void File::fail(const char* verb, int code) const { throw FileError(std::string(verb) + noun_, path_, code); }

void File::resize(std::size_t bytes) {
  if (ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) fail("cannot grow", errno);
}

void File::write(std::size_t offset, const char* bytes, std::size_t n) {
  while (n > 0) {
    const ssize_t done = pwrite(descriptor_, bytes, n, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail("cannot write to", done == 0 ? ENOSPC : errno);
    bytes += done;
    offset += static_cast<std::size_t>(done);
    n -= static_cast<std::size_t>(done);
  }
}

void File::read(std::size_t offset, char* bytes, std::size_t n) const {
  while (n > 0) {
    const ssize_t done = pread(descriptor_, bytes, n, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) fail("cannot read from", done == 0 ? EIO : errno);
    bytes += done;
    offset += static_cast<std::size_t>(done);
    n -= static_cast<std::size_t>(done);
  }
}

}  // namespace dask_annoy
