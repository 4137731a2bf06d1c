// Items and planes as 16-bit integers: most of a build's work on them costs a fraction of what it does on floats.
//
// An item's integers are its vector from a centre, scaled and rounded; a plane's are its normal. Planes are chosen
// among rounded items. The product of both lies within a known distance of the margin that the floats give, so beyond
// that distance it tells the side; nearer to the plane the floats decide. So sides are the same as without integers,
// and items and queries agree on what a plane says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/aligned.hpp"
#include "core/node_storage.hpp"
#include "core/parallel.hpp"
#include "core/plane.hpp"
#include "core/row_block.hpp"

namespace dask_annoy {

// A plane as integers: a product above `above` is of side 1, one below `below` of side 0, others do not tell.
struct FixedPlane {
  AlignedArray<std::int16_t> weights;  // FixedPoint::stride() of them
  std::int32_t below = 0, above = 0;
};

class FixedPoint {
 public:
  static constexpr float kOne = 32000.0f;  // what the largest length becomes; leaves room to 2^15 for what is rounded

  // Integers of a row, with zeros up to whole cache lines.
  static std::size_t integers_of_row(const PlaneFamily& family);
  static std::size_t bytes_of_row(const PlaneFamily& family) { return integers_of_row(family) * sizeof(std::int16_t); }
  // Whether integers take no more room than floats.
  static bool serves(const PlaneFamily& family) {
    return !is_binary(family.layout.metric) && bytes_of_row(family) <= family.layout.vector_bytes();
  }

  // For the first n nodes of the storage, of which the sample is one. Nothing if they would not be served, or are too
  // large or too small for the bounds on what is rounded.
  static std::optional<FixedPoint> learn(const PlaneFamily& family, const RowBlock& sample, const NodeStorage& storage,
                                         std::size_t n, std::size_t n_threads, Cancellation& cancellation);

  // `reach`: the largest length of an item, from the centre. Neither is used where directions are compared, as each
  // item has length 1 then.
  FixedPoint(const PlaneFamily& family, std::vector<float> centre, float reach);

  std::size_t stride() const { return stride_; }  // integers_of_row()
  void code_item(const NodeView& item, std::int16_t* out) const { code(item.vector(), item.scalar(), out); }
  void code(const float* vector, float scalar, std::int16_t* out) const;
  void code_plane(const float* normal, const SideRule& rule, FixedPlane& plane) const;

  float unit() const { return reach_ / kOne; }  // what an integer of 1 is worth; where directions are compared, of 1
  const std::vector<float>& centre() const { return centre_; }

 private:
  bool directions() const { return family_.layout.metric == Metric::angular; }
  float length(const NodeView& item) const;

  PlaneFamily family_;
  std::size_t stride_;
  std::vector<float> centre_;  // of the layout's width; empty where directions are compared
  double centre_norm_ = 0.0;
  float reach_ = 1.0f;
};

// The integers of all items, in memory.
class FixedItems {
 public:
  // Of n nodes.
  FixedItems(const FixedPoint& fixed_point, const Layout& layout, const char* nodes, std::size_t n,
             std::size_t n_threads, Cancellation& cancellation);

  const FixedPoint& fixed_point() const { return fixed_point_; }
  const std::int16_t* at(std::size_t item) const { return integers_.data() + item * fixed_point_.stride(); }

 private:
  const FixedPoint& fixed_point_;
  AlignedArray<std::int16_t> integers_;
};

}  // namespace dask_annoy
