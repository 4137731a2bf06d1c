#include "core/node_storage.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>

#include "core/file.hpp"

namespace dask_annoy {

namespace {

// Anonymous pages come zeroed and cost nothing until they are written.
class MemoryStorage final : public NodeStorage, public std::enable_shared_from_this<MemoryStorage> {
 public:
  ~MemoryStorage() override {
    if (base_ != nullptr) munmap(base_, reserved_);
  }

  std::size_t size() const override { return size_; }

  void resize(std::size_t bytes) override {
    if (bytes > reserved_) remap(std::max(bytes, reserved_ + reserved_ / 2));
    if (bytes < size_) std::memset(base_ + bytes, 0, size_ - bytes);
    size_ = bytes;
  }

  bool moves(std::size_t bytes) const override { return bytes > reserved_; }

  void reserve(std::size_t bytes) override {
    if (bytes <= reserved_) return;
    try {
      remap(bytes);
    } catch (const std::bad_alloc&) {
      // More than may be asked for ahead: room is made as the bytes come.
    }
  }

  void write(std::size_t offset, const char* bytes, std::size_t n) override { std::memcpy(base_ + offset, bytes, n); }
  void read(std::size_t offset, char* bytes, std::size_t n) const override { std::memcpy(bytes, base_ + offset, n); }
  std::shared_ptr<const char> bytes() const override { return {shared_from_this(), base_}; }
  const char* in_place() const override { return base_; }
  char* in_place() override { return base_; }

 private:
  void remap(std::size_t bytes) {
    void* grown = MAP_FAILED;
// ThreadSanitizer does not see mremap and takes the address of a mapping that was dropped for the same memory.
#if defined(__linux__) && !defined(__SANITIZE_THREAD__)
    if (base_ != nullptr) {
      grown = mremap(base_, reserved_, bytes, MREMAP_MAYMOVE);
      if (grown == MAP_FAILED) throw std::bad_alloc();
      base_ = static_cast<char*>(grown);
      reserved_ = bytes;
      return;
    }
#endif
    grown = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (grown == MAP_FAILED) throw std::bad_alloc();
    if (base_ != nullptr) {
      std::memcpy(grown, base_, size_);  // where there is no mremap, as on macOS
      munmap(base_, reserved_);
    }
    base_ = static_cast<char*>(grown);
    reserved_ = bytes;
  }

  char* base_ = nullptr;
  std::size_t size_ = 0;
  std::size_t reserved_ = 0;
};

class FileStorage final : public NodeStorage {
 public:
  explicit FileStorage(const std::string& path) : file_(File::create(path)) {}

  std::size_t size() const override { return size_; }

  void resize(std::size_t bytes) override {
    file_.resize(bytes);
    size_ = bytes;
  }

  void write(std::size_t offset, const char* bytes, std::size_t n) override { file_.write(offset, bytes, n); }
  void read(std::size_t offset, char* bytes, std::size_t n) const override { file_.read(offset, bytes, n); }

  std::shared_ptr<const char> bytes() const override {
    const auto mapped = mapping();
    return {mapped, mapped->data()};
  }

  std::shared_ptr<const Mapping> mapping() const override {
    return Mapping::of_descriptor(file_.descriptor(), size_, file_.path());
  }

  std::string path() const override { return file_.path(); }

 private:
  File file_;
  std::size_t size_ = 0;
};

}  // namespace

std::shared_ptr<NodeStorage> memory_storage() { return std::make_shared<MemoryStorage>(); }

std::shared_ptr<NodeStorage> file_storage(const std::string& path) { return std::make_shared<FileStorage>(path); }

}  // namespace dask_annoy
