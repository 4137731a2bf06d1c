#include "core/row_block.hpp"

#include <cstring>
#include <numeric>

#include "core/fixed_point.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kCacheLine = AlignedArray<char>::kCacheLine;
constexpr std::size_t kAhead = 8;  // rows fetched ahead

std::size_t stride_of(const Layout& layout) {
  const std::size_t bytes = layout.vector_bytes();
  return bytes < kCacheLine ? bytes : (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

}  // namespace

RowBlock::RowBlock(const Layout& layout) : layout_(layout) {}

std::size_t RowBlock::bytes_of_row(const Layout& layout) {
  return stride_of(layout) + sizeof(float) + sizeof(std::int32_t);
}

void RowBlock::resize(std::size_t count) {
  in_place_ = false;
  fixed_point_ = nullptr;
  integers_ = nullptr;
  stride_ = stride_of(layout_);
  vectors_.resize(count * stride_ + kCacheLine);
  base_ = vectors_.data();
  scalars_.resize(count);
  numbers_.resize(count);
}

void RowBlock::put(std::size_t row, std::int32_t number, const NodeView& item) {
  std::memcpy(vectors_.data() + row * stride_, item.vector(), layout_.vector_bytes());
  scalars_[row] = item.scalar();
  numbers_[row] = number;
}

void RowBlock::choose(const char* nodes, const FixedItems& fixed, const std::int32_t* numbers, std::size_t count) {
  lay_over(nodes, 0, 0, &fixed);
  numbers_.assign(numbers, numbers + count);
  const std::size_t stride = fixed.fixed_point().stride();
  copied_integers_.resize(count * stride);
  for (std::size_t i = 0; i < count; ++i) {
    if (i + kAhead < count) {
      const auto* ahead = reinterpret_cast<const char*>(fixed.at(static_cast<std::size_t>(numbers[i + kAhead])));
      for (std::size_t at = 0; at < integer_bytes_; at += kCacheLine) __builtin_prefetch(ahead + at);
    }
    std::memcpy(copied_integers_.data() + i * stride, fixed.at(static_cast<std::size_t>(numbers[i])), integer_bytes_);
  }
  integers_ = copied_integers_.data();
}

void RowBlock::lay_over(const char* nodes, std::int32_t first, std::size_t count, const FixedItems* fixed) {
  in_place_ = true;
  base_ = nodes + layout_.vector_offset;
  stride_ = layout_.node_size;
  first_ = first;
  numbers_.resize(count);
  std::iota(numbers_.begin(), numbers_.end(), first);
  fixed_point_ = nullptr;
  integers_ = nullptr;
  if (fixed == nullptr) return;
  fixed_point_ = &fixed->fixed_point();
  integers_ = fixed->at(static_cast<std::size_t>(first));
  integer_bytes_ = fixed->fixed_point().stride() * sizeof(std::int16_t);
}

RowSet RowBlock::rows(const std::int32_t* positions, std::size_t n, std::int32_t* places) const {
  if (!in_place_) return {base_, stride_, positions, n};
  for (std::size_t i = 0; i < n; ++i) places[i] = numbers_[static_cast<std::size_t>(positions[i])] - first_;
  return {base_, stride_, places, n};
}

}  // namespace dask_annoy
