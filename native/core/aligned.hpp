// An array whose start is a cache line's, so that rows of whole cache lines do not straddle them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace dask_annoy {

template <class T>
class AlignedArray {
 public:
  static constexpr std::size_t kCacheLine = 64;

  // Room for `n`, whose content is then undefined. What there is is kept if it will do.
  void resize(std::size_t n) {
    if (n <= capacity_) return;
    room_.reset();  // before the new room is taken
    capacity_ = 0;
    room_.reset(new char[n * sizeof(T) + kCacheLine]);
    const std::size_t over = reinterpret_cast<std::uintptr_t>(room_.get()) % kCacheLine;
    data_ = reinterpret_cast<T*>(room_.get() + (over == 0 ? 0 : kCacheLine - over));
    capacity_ = n;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }

 private:
  std::unique_ptr<char[]> room_;
  T* data_ = nullptr;
  std::size_t capacity_ = 0;
};

}  // namespace dask_annoy
