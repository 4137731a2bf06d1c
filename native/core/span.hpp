// Elements one after the other that belong to somebody else: what std::span is from C++20 on. Installed.
#pragma once

#include <cassert>
#include <cstddef>
#include <iterator>
#include <type_traits>
#include <utility>

namespace dask_annoy {

template <class T>
class Span {
 public:
  constexpr Span() = default;
  constexpr Span(T* data, std::size_t size) : data_(data), size_(size) {}

  // From arrays, std::vector, std::array, std::span … of this very element type: a vector of double is not one of
  // float. Const spans may look at temporaries; they must not outlive them.
  template <class Container, class Element = std::remove_pointer_t<decltype(std::data(std::declval<Container&>()))>,
            class = std::enable_if_t<!std::is_same_v<std::decay_t<Container>, Span> &&
                                     std::is_convertible_v<Element (*)[], T (*)[]>>>
  constexpr Span(Container&& elements)  // NOLINT(google-explicit-constructor): a view of what is given
      : data_(std::data(elements)), size_(std::size(elements)) {}

  constexpr T* data() const { return data_; }
  constexpr std::size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr T* begin() const { return data_; }
  constexpr T* end() const { return data_ + size_; }
  constexpr T& operator[](std::size_t i) const {
    assert(i < size_);
    return data_[i];
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace dask_annoy
