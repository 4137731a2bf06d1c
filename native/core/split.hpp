// Splitting rows in two by a plane.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/layout.hpp"
#include "core/random.hpp"
#include "core/row_block.hpp"

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

// Chooses planes; keeps its buffers from one node to the next.
class Splitter {
 public:
  explicit Splitter(const PlaneFamily& family);

  // Chooses a plane for the `n` rows and writes each one's side (0 or 1) to `sides`. Both sides get at least one row.
  // Depends on the rows, their order and the seed only. n ≥ 2.
  const Plane& split(const RowBlock& rows, const std::int32_t* positions, std::size_t n, std::uint64_t seed,
                     std::uint8_t* sides);

 private:
  struct Mean {
    std::vector<float> at;      // of the family's dimensions
    float squared_norm = 0.0f;  // where directions are compared
    float weight = 0.0f;        // rows taken in
  };
  struct Relation {
    float distance, product;
  };

  // False when no plane can part the rows, as they are all equal.
  bool choose_plane(const RowBlock& rows, const std::int32_t* positions, std::size_t n, Random& random);
  bool choose_bit(const RowBlock& rows, const std::int32_t* positions, std::size_t n, Random& random);
  void two_means(const RowBlock& rows, const std::int32_t* positions, std::size_t n, Random& random);
  float scale_of(const RowBlock& rows, std::size_t row) const;
  Relation relate(const Mean& mean, const RowBlock& rows, std::size_t row, float scale) const;
  void take_in(Mean& mean, const RowBlock& rows, std::size_t row, float scale, float product) const;
  std::size_t take_sides(const RowBlock& rows, const std::int32_t* positions, std::size_t n, std::uint8_t* sides);
  std::size_t draw_sides(const RowBlock& rows, const std::int32_t* positions, std::size_t n, std::uint8_t* sides) const;

  PlaneFamily family_;
  Plane plane_;
  Mean p_, q_;
  std::vector<float> margins_;
};

}  // namespace dask_annoy
