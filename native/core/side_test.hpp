// The sides that a plane gives to rows: by integers where these tell, and by floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/fixed_point.hpp"
#include "core/plane.hpp"
#include "core/row_block.hpp"

namespace dask_annoy {

// Keeps its buffers from one plane to the next.
class SideTest {
 public:
  // Writes each row's side (0 or 1) to `sides`; returns the number of ones. `fixed` is the plane as integers; null
  // where the rows have none.
  std::size_t take(const RowBlock& rows, const std::int32_t* positions, std::size_t n, const float* normal,
                   const SideRule& rule, const FixedPlane* fixed, std::uint8_t* sides);

 private:
  void by_floats(const RowBlock& rows, const std::int32_t* positions, std::size_t n, const float* normal,
                 const SideRule& rule, std::uint8_t* sides);
  void by_integers(const RowBlock& rows, const std::int32_t* positions, std::size_t n, const float* normal,
                   const SideRule& rule, const FixedPlane& fixed, std::uint8_t* sides);

  static constexpr std::size_t kAtOnce = 512;

  float margins_[kAtOnce];
  std::int32_t products_[kAtOnce];
  std::int32_t places_[kAtOnce];
  std::int32_t untold_[kAtOnce];     // positions whose integers do not tell, and
  std::int32_t asked_[kAtOnce + 1];  // which of the rows asked for these are
  std::uint8_t told_[kAtOnce];
};

// Moves the positions of side 0 to the front, keeping the order on both sides, and returns their number. `room` is for
// n positions and one more.
std::size_t part_by_sides(std::int32_t* positions, const std::uint8_t* sides, std::size_t n, std::int32_t* room);

}  // namespace dask_annoy
