#include "core/fixed_point.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/kernels.hpp"

namespace dask_annoy {

namespace {

constexpr float kOne = FixedPoint::kOne;
constexpr double kLongest = 1.001 * kOne;  // as lengths are rounded, too
constexpr double kRounded = 0.51;          // of an integer at the most: half of one, and what the scaling rounds
constexpr float kSmallestSquare = 1e-30f;  // squared lengths within which floats round as the bounds say
constexpr float kLargestSquare = 1e30f;
constexpr std::size_t kRowsAtOnce = 1024;
constexpr std::size_t kBlockBytes = std::size_t{1} << 16;  // less than malloc gives back only with luck
constexpr std::size_t kLanes = 32;                         // of the kernels' sums

bool measurable(float squared) { return squared > kSmallestSquare && squared < kLargestSquare; }

// To the nearest integer, |x| < 2^22: what 1.5 * 2^23 is added to has its integer in the last bits.
std::int16_t rounded(float x) {
  constexpr float kShift = 12582912.0f;
  constexpr std::int32_t kBitsOfShift = 0x4b400000;
  const float shifted = x + kShift;
  std::int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return static_cast<std::int16_t>(bits - kBitsOfShift);
}

void round_scaled(const float* values, const float* from, float scale, std::size_t n, std::int16_t* out) {
  if (from == nullptr) {
    for (std::size_t d = 0; d < n; ++d) out[d] = rounded(values[d] * scale);
  } else {
    for (std::size_t d = 0; d < n; ++d) out[d] = rounded((values[d] - from[d]) * scale);
  }
}

std::int32_t clamped(double x) {
  constexpr double kMost = std::numeric_limits<std::int32_t>::max();
  return static_cast<std::int32_t>(std::clamp(x, -kMost, kMost));
}

}  // namespace

std::size_t FixedPoint::integers_of_row(const PlaneFamily& family) {
  return (family.dimensions() + kIntegersOfStep - 1) / kIntegersOfStep * kIntegersOfStep;
}

FixedPoint::FixedPoint(const PlaneFamily& family, std::vector<float> centre, float reach)
    : family_(family), stride_(integers_of_row(family)) {
  if (directions()) return;
  centre_ = std::move(centre);
  centre_norm_ = std::sqrt(static_cast<double>(kernels().dot(centre_.data(), centre_.data(), centre_.size())));
  reach_ = reach;
}

float FixedPoint::length(const NodeView& item) const {
  float squared = kernels().squared_l2(item.vector(), centre_.data(), family_.layout.width);
  if (family_.lifted()) squared += item.scalar() * item.scalar();
  return std::sqrt(squared);
}

void FixedPoint::code(const float* vector, float scalar, std::int16_t* out) const {
  const std::size_t width = family_.layout.width;
  std::fill(out + width, out + stride_, std::int16_t{0});
  if (!directions()) {
    const float scale = kOne / reach_;
    round_scaled(vector, centre_.data(), scale, width, out);
    if (family_.lifted()) out[width] = rounded(scalar * scale);
    return;
  }
  const float squared = kernels().dot(vector, vector, width);
  if (measurable(squared)) {
    round_scaled(vector, nullptr, kOne / std::sqrt(squared), width, out);
  } else {
    std::fill(out, out + width, std::int16_t{0});  // whose product with any plane does not tell
  }
}

// With c an item's integers, w the plane's, their true values c + δ and w + ρ (|δ|, |ρ| ≤ kRounded in each dimension):
// the product of both is c·w + w·δ + c·ρ + δ·ρ, and Cauchy-Schwarz bounds the last three. `unit` is what an integer
// product of 1 is worth of the margin; where directions are compared, of the margin for an item of length 1.
void FixedPoint::code_plane(const float* normal, const SideRule& rule, FixedPlane& plane) const {
  const std::size_t width = family_.layout.width;
  plane.weights.resize(stride_);
  std::fill(plane.weights.data() + width, plane.weights.data() + stride_, std::int16_t{0});
  round_scaled(normal, nullptr, kOne, width, plane.weights.data());
  if (family_.lifted()) plane.weights.data()[width] = rounded(rule.extra * kOne);

  const auto dimensions = static_cast<double>(family_.dimensions());
  const double length = kLongest + kRounded * std::sqrt(dimensions);
  const double integers = 2.0 * length * kRounded * std::sqrt(dimensions) + kRounded * kRounded * dimensions;
  // What the floats round: each addition by 2^-24 of the sum at the most, in our own bias, too.
  const double floats = (dimensions / kLanes + 16.0) * 0x1p-23;
  const double unit = static_cast<double>(reach_) / (static_cast<double>(kOne) * kOne);
  const double bias = directions() ? 0.0
                                   : static_cast<double>(kernels().dot(normal, centre_.data(), width)) +
                                         static_cast<double>(rule.offset);
  const double unsure = unit * integers + floats * (static_cast<double>(reach_) * 1.01 + 2.0 * centre_norm_ +
                                                    std::fabs(static_cast<double>(rule.offset)));
  plane.above = clamped(std::ceil((unsure - bias) / unit));
  plane.below = clamped(std::floor((-unsure - bias) / unit));
}

std::optional<FixedPoint> FixedPoint::learn(const PlaneFamily& family, const RowBlock& sample,
                                            const NodeStorage& storage, std::size_t n, std::size_t n_threads,
                                            Cancellation& cancellation) {
  const Layout& layout = family.layout;
  if (!serves(family)) return std::nullopt;
  if (layout.metric == Metric::angular) return FixedPoint(family, {}, 1.0f);
  std::vector<float> centre(layout.width);
  if (layout.metric != Metric::dot) {  // whose directions from the origin count
    std::vector<double> sum(layout.width);
    for (std::size_t i = 0; i < sample.count(); ++i) {
      for (std::size_t d = 0; d < layout.width; ++d) sum[d] += static_cast<double>(sample.floats(i)[d]);
    }
    for (std::size_t d = 0; d < layout.width; ++d) {
      centre[d] = static_cast<float>(sum[d] / static_cast<double>(sample.count()));
    }
  }
  const FixedPoint from_centre(family, centre, 1.0f);
  const std::size_t at_once = std::max<std::size_t>(1, kBlockBytes / layout.node_size);
  std::vector<float> longest((n + at_once - 1) / at_once);
  parallel_for(longest.size(), n_threads, cancellation, [&](std::size_t block) {
    const std::size_t begin = block * at_once;
    const std::size_t count = std::min(at_once, n - begin);
    std::vector<char> copied;
    const char* nodes = storage.in_place();
    if (nodes == nullptr) {
      copied.resize(count * layout.node_size);
      storage.read(begin * layout.node_size, copied.data(), copied.size());
      nodes = copied.data();
    } else {
      nodes += begin * layout.node_size;
    }
    for (std::size_t i = 0; i < count; ++i) {
      const float length = from_centre.length(NodeView(nodes + i * layout.node_size, layout));
      longest[block] = std::isnan(length) ? std::numeric_limits<float>::infinity() : std::max(longest[block], length);
    }
  });
  const float reach = *std::max_element(longest.begin(), longest.end());
  if (!measurable(reach * reach) || !(from_centre.centre_norm_ < std::sqrt(kLargestSquare))) return std::nullopt;
  return FixedPoint(family, std::move(centre), reach);
}

FixedItems::FixedItems(const FixedPoint& fixed_point, const Layout& layout, const char* nodes, std::size_t n,
                       std::size_t n_threads, Cancellation& cancellation)
    : fixed_point_(fixed_point) {
  integers_.resize(n * fixed_point.stride());
  std::int16_t* integers = integers_.data();
  parallel_for((n + kRowsAtOnce - 1) / kRowsAtOnce, n_threads, cancellation, [&](std::size_t block) {
    const std::size_t end = std::min(n, (block + 1) * kRowsAtOnce);
    for (std::size_t i = block * kRowsAtOnce; i < end; ++i) {
      fixed_point.code_item(NodeView(nodes + i * layout.node_size, layout), integers + i * fixed_point.stride());
    }
  });
}

}  // namespace dask_annoy
