#include "core/row_block.hpp"

#include <cstring>

namespace dask_annoy {

namespace {

constexpr std::size_t kCacheLine = 64;

std::size_t stride_of(const Layout& layout) {
  const std::size_t bytes = layout.vector_bytes();
  return bytes < kCacheLine ? bytes : (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

}  // namespace

RowBlock::RowBlock(const Layout& layout) : layout_(layout), stride_(stride_of(layout)) {}

std::size_t RowBlock::bytes_of_row(const Layout& layout) {
  return stride_of(layout) + sizeof(float) + sizeof(std::int32_t);
}

void RowBlock::resize(std::size_t count) {
  if (const std::size_t bytes = count * stride_ + kCacheLine; bytes > capacity_) {
    vectors_.reset();  // before the new room is taken
    vectors_.reset(new char[bytes]);
    capacity_ = bytes;
  }
  const std::size_t over = reinterpret_cast<std::uintptr_t>(vectors_.get()) % kCacheLine;
  aligned_ = over == 0 ? 0 : kCacheLine - over;
  scalars_.resize(count);
  numbers_.resize(count);
}

void RowBlock::put(std::size_t row, std::int32_t number, const NodeView& item) {
  std::memcpy(vectors_.get() + aligned_ + row * stride_, item.vector(), layout_.vector_bytes());
  scalars_[row] = item.scalar();
  numbers_[row] = number;
}

}  // namespace dask_annoy
