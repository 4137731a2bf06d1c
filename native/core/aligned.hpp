// An array whose start is a cache line's, so that rows of whole cache lines do not straddle them.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace dask_annoy {

template <class T>
class AlignedArray {
 public:
  static constexpr std::size_t kCacheLine = 64;

  // Room for `n`, whose content is then undefined. What there is is kept if it will do.
  void resize(std::size_t n) {
    if (n <= capacity_) return;
    data_.reset();  // before the new room is taken
    capacity_ = 0;
    data_.reset(static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{kCacheLine})));
    capacity_ = n;
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* data) const { ::operator delete(data, std::align_val_t{kCacheLine}); }
  };

  std::unique_ptr<T, Free> data_;
  std::size_t capacity_ = 0;
};

}  // namespace dask_annoy
