// Rows that planes are chosen on and subtrees are grown over: vectors side by side, or where their nodes lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/aligned.hpp"
#include "core/layout.hpp"
#include "kernels/table.hpp"

namespace dask_annoy {

class FixedItems;
class FixedPoint;

// Filled in one of three ways: by copies of vectors (resize, put); by items of a forest, whose vectors stay where they
// are, with copies of their integers (choose, put); by nodes in sequence (lay_over).
class RowBlock {
 public:
  explicit RowBlock(const Layout& layout);

  // Bytes that one row takes, with all that belongs to it, if its vector is copied.
  static std::size_t bytes_of_row(const Layout& layout);
  // The same if its vector stays where it is, and `integer_bytes` are copied.
  static std::size_t bytes_of_chosen(std::size_t integer_bytes) { return integer_bytes + sizeof(std::int32_t); }

  // Room for `count` rows, whose content is then undefined.
  void resize(std::size_t count);
  void put(std::size_t row, std::int32_t number, const NodeView& item);

  // Rows are those of the numbers, among nodes that stay where they are as long as the rows are in use.
  void choose(const char* nodes, const FixedItems& fixed, const std::int32_t* numbers, std::size_t count);

  // Rows are `count` nodes that lie side by side, the first of number `first`. `fixed` may be null.
  void lay_over(const char* nodes, std::int32_t first, std::size_t count, const FixedItems* fixed);

  const Layout& layout() const { return layout_; }
  std::size_t count() const { return numbers_.size(); }
  const float* floats(std::size_t row) const { return reinterpret_cast<const float*>(at(row)); }
  const std::uint64_t* bits(std::size_t row) const { return reinterpret_cast<const std::uint64_t*>(at(row)); }
  float scalar(std::size_t row) const {  // as the item's node has it
    return in_place_ ? NodeView(at(row) - layout_.vector_offset, layout_).scalar() : scalars_[row];
  }
  std::int32_t number(std::size_t row) const { return numbers_[row]; }

  // The rows of those positions, for the kernels; `places` is room for n numbers.
  RowSet rows(const std::int32_t* positions, std::size_t n, std::int32_t* places) const;

  // How the rows are rounded; null where they are not.
  const FixedPoint* fixed_point() const { return fixed_point_; }
  // For copies of vectors, which have no integers: says how their rounded values are found.
  void round_by(const FixedPoint* fixed_point) { fixed_point_ = fixed_point; }

  // Whether the rows have integers at hand.
  bool has_integers() const { return integers_ != nullptr; }
  const std::int16_t* integers(std::size_t row) const { return integers_ + row * integer_bytes_ / sizeof *integers_; }
  RowSet fixed_rows(const std::int32_t* positions, std::size_t n) const {
    return {reinterpret_cast<const char*>(integers_), integer_bytes_, positions, n};
  }

 private:
  const char* at(std::size_t row) const {
    return base_ + (in_place_ ? static_cast<std::size_t>(numbers_[row] - first_) : row) * stride_;
  }

  Layout layout_;
  bool in_place_ = false;
  const char* base_ = nullptr;  // the first vector
  std::size_t stride_ = 0;
  std::int32_t first_ = 0;  // the number of the node whose vector is the first
  AlignedArray<char> vectors_;
  std::vector<float> scalars_;
  std::vector<std::int32_t> numbers_;
  const FixedPoint* fixed_point_ = nullptr;
  const std::int16_t* integers_ = nullptr;
  std::size_t integer_bytes_ = 0;  // of a row
  AlignedArray<std::int16_t> copied_integers_;
};

}  // namespace dask_annoy
