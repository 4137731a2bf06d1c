// Splitting rows in two by a plane.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/fixed_point.hpp"
#include "core/plane.hpp"
#include "core/random.hpp"
#include "core/row_block.hpp"
#include "core/side_test.hpp"

namespace dask_annoy {

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
  void take_row(const RowBlock& rows, std::size_t row);
  float scale_of_row(const RowBlock& rows) const;
  Relation relate(const Mean& mean) const;
  void take_in(Mean& mean, float product) const;
  std::size_t take_sides(const RowBlock& rows, const std::int32_t* positions, std::size_t n, std::uint8_t* sides);

  PlaneFamily family_;
  Plane plane_;
  Mean p_, q_;
  SideTest side_test_;
  FixedPlane fixed_plane_;
  std::vector<std::int16_t> integers_;  // of a row that has none at hand
  std::vector<float> values_;   // of a row of two-means, in the family's dimensions; rounded, in units of integers
  const float* row_ = nullptr;  // the same, or where they lie
  float scale_ = 0.0f;          // makes a unit vector of it, where directions are compared; 0 if it has none
};

}  // namespace dask_annoy
