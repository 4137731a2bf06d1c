// The planes that split rows, and the sides they give to rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/layout.hpp"
#include "core/random.hpp"

namespace dask_annoy {

// What all planes of a forest have in common.
struct PlaneFamily {
  Layout layout;
  // Dot: the largest norm, to which an extra dimension lifts every item; 0 where planes leave that dimension out.
  float lifted_to = 0.0f;

  bool lifted() const { return lifted_to > 0.0f; }
  std::size_t dimensions() const { return layout.width + (lifted() ? 1 : 0); }  // of a mean
};

// What a plane says of a row, given the product of its normal with it.
struct SideRule {
  float offset = 0.0f;          // euclidean and manhattan
  float extra = 0.0f;           // the normal's extra dimension
  std::uint64_t bit = 0;        // hamming, as split nodes count bits
  bool random = false;          // no plane parts these items: sides are drawn
  std::uint64_t coin_seed = 0;  // draws the side of items for which the plane does not tell

  std::uint8_t side(float product, float scalar, std::int32_t number) const {
    float margin = product + offset;
    if (extra != 0.0f) margin += extra * scalar;
    return margin > 0.0f ? 1 : margin < 0.0f ? 0 : coin(number);
  }
  // The same for an item whatever the order in which items are looked at.
  std::uint8_t coin(std::int32_t number) const {
    return static_cast<std::uint8_t>(combine(coin_seed, static_cast<std::uint64_t>(number)) & 1);
  }
};

struct Plane {
  std::vector<float> normal;  // of the layout's width; empty for hamming, zeros where sides are drawn
  SideRule rule;

  // Writes what queries need. A plane of zeros sends a query both ways.
  void write(NodeWriter node, const Layout& layout) const;
};

}  // namespace dask_annoy
