#include "core/side_test.hpp"

#include <algorithm>
#include <numeric>

#include "kernels/kernels.hpp"

namespace dask_annoy {

std::size_t SideTest::take(const RowBlock& rows, const std::int32_t* positions, std::size_t n, const float* normal,
                           const SideRule& rule, const FixedPlane* fixed, std::uint8_t* sides) {
  if (rule.random) {
    for (std::size_t i = 0; i < n; ++i) sides[i] = rule.coin(rows.number(static_cast<std::size_t>(positions[i])));
  } else if (is_binary(rows.layout().metric)) {
    for (std::size_t i = 0; i < n; ++i) {
      sides[i] = bit_of_split(rows.bits(static_cast<std::size_t>(positions[i])), rule.bit) ? 1 : 0;
    }
  } else {
    for (std::size_t begin = 0; begin < n; begin += kAtOnce) {
      const std::size_t count = std::min(kAtOnce, n - begin);
      if (fixed != nullptr) {
        by_integers(rows, positions + begin, count, normal, rule, *fixed, sides + begin);
      } else {
        by_floats(rows, positions + begin, count, normal, rule, sides + begin);
      }
    }
  }
  return std::accumulate(sides, sides + n, std::size_t{0});
}

void SideTest::by_floats(const RowBlock& rows, const std::int32_t* positions, std::size_t n, const float* normal,
                         const SideRule& rule, std::uint8_t* sides) {
  kernels().dot_rows(normal, rows.rows(positions, n, places_), rows.layout().width, margins_);
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::size_t>(positions[i]);
    sides[i] = rule.side(margins_[i], rule.extra == 0.0f ? 0.0f : rows.scalar(row), rows.number(row));
  }
}

void SideTest::by_integers(const RowBlock& rows, const std::int32_t* positions, std::size_t n, const float* normal,
                           const SideRule& rule, const FixedPlane& fixed, std::uint8_t* sides) {
  kernels().fixed_point_products(fixed.weights.data(), rows.fixed_rows(positions, n), rows.fixed_point()->stride(),
                                 products_);
  const std::size_t n_untold = kernels().tell_sides(products_, n, fixed.below, fixed.above, sides, asked_);
  if (n_untold == 0) return;
  for (std::size_t i = 0; i < n_untold; ++i) untold_[i] = positions[asked_[i]];
  by_floats(rows, untold_, n_untold, normal, rule, told_);
  for (std::size_t i = 0; i < n_untold; ++i) sides[asked_[i]] = told_[i];
}

// Without a branch on the side, which nobody could predict.
std::size_t part_by_sides(std::int32_t* positions, const std::uint8_t* sides, std::size_t n, std::int32_t* room) {
  std::size_t zeros = 0;
  std::size_t ones = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t position = positions[i];
    positions[zeros] = position;
    room[ones] = position;
    zeros += 1u - sides[i];
    ones += sides[i];
  }
  std::copy(room, room + ones, positions + zeros);
  return zeros;
}

}  // namespace dask_annoy
