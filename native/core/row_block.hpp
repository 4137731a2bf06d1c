// Vectors taken out of their nodes and laid side by side: what planes are chosen on and subtrees are grown over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/layout.hpp"
#include "kernels/table.hpp"

namespace dask_annoy {

class RowBlock {
 public:
  explicit RowBlock(const Layout& layout);

  // Bytes that one row takes, with all that belongs to it.
  static std::size_t bytes_of_row(const Layout& layout);

  // Room for `count` rows, whose content is then undefined.
  void resize(std::size_t count);
  void put(std::size_t row, std::int32_t number, const NodeView& item);

  const Layout& layout() const { return layout_; }
  std::size_t count() const { return numbers_.size(); }
  const float* floats(std::size_t row) const { return reinterpret_cast<const float*>(at(row)); }
  const std::uint64_t* bits(std::size_t row) const { return reinterpret_cast<const std::uint64_t*>(at(row)); }
  float scalar(std::size_t row) const { return scalars_[row]; }  // as the item's node has it
  std::int32_t number(std::size_t row) const { return numbers_[row]; }

  // The rows of those positions, for the kernels.
  RowSet rows(const std::int32_t* positions, std::size_t n) const { return {base(), stride_, positions, n}; }

 private:
  const char* base() const { return vectors_.get() + aligned_; }
  const char* at(std::size_t row) const { return base() + row * stride_; }

  Layout layout_;
  std::size_t stride_;
  std::size_t aligned_ = 0;  // where the first row starts, so that rows do not straddle cache lines
  std::size_t capacity_ = 0;
  std::unique_ptr<char[]> vectors_;
  std::vector<float> scalars_;
  std::vector<std::int32_t> numbers_;
};

}  // namespace dask_annoy
