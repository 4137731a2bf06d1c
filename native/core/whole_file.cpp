#include "core/whole_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "core/errors.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kPiece = std::size_t{64} << 20;  // between two looks at the cancellation

// A new file beside the target. Removed at the end, unless it took the target's name.
class Beside {
 public:
  explicit Beside(const std::string& path) : path_(path) {
    // Not mkstemp: its files are private, and who looks up the umask to widen them changes it for other threads.
    static std::atomic<unsigned> counter{0};
    do {
      name_ = path + "." + std::to_string(getpid()) + "-" + std::to_string(counter++) + ".part";
      fd_ = open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (fd_ < 0 && errno == EEXIST);
    if (fd_ < 0) throw FileError("cannot create a file beside", path);
  }

  ~Beside() {
    if (fd_ >= 0) close(fd_);
    if (!renamed_) unlink(name_.c_str());
  }

  Beside(const Beside&) = delete;
  Beside& operator=(const Beside&) = delete;

  void write(const char* bytes, std::size_t n, Cancellation& cancellation) {
    for (std::size_t at = 0; at < n;) {
      cancellation.check();
      const ssize_t done = ::write(fd_, bytes + at, std::min(n - at, kPiece));
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) throw FileError("cannot write", path_, done == 0 ? EIO : errno);
      at += static_cast<std::size_t>(done);
    }
  }

  // A reader never sees half a file, and who has the old one mapped keeps it.
  void take_name() {
    if (fsync(fd_) != 0) throw FileError("cannot write", path_);
    const int fd = fd_;
    fd_ = -1;
    if (close(fd) != 0) throw FileError("cannot write", path_);
    if (rename(name_.c_str(), path_.c_str()) != 0) throw FileError("cannot replace", path_);
    renamed_ = true;
  }

 private:
  const std::string& path_;
  std::string name_;
  int fd_ = -1;
  bool renamed_ = false;
};

}  // namespace

void write_whole(const std::string& path, Cancellation& cancellation,
                 const std::function<void(const std::function<void(const char*, std::size_t)>&)>& fill) {
  Beside file(path);
  fill([&](const char* bytes, std::size_t n) { file.write(bytes, n, cancellation); });
  file.take_name();
}

}  // namespace dask_annoy
