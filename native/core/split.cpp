#include "core/split.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/kernels.hpp"

namespace dask_annoy {

namespace {

// Of two-means. Annoy takes 200; on text256 and sift128 100 found as much with a budget of 1,000, and more with 10,000.
constexpr int kSteps = 100;
constexpr int kTries = 3;               // planes tried for a balance better than kGoodBalance
constexpr double kGoodBalance = 0.95;   // share of the larger side
constexpr double kWorstBalance = 0.99;  // beyond it, sides are drawn
constexpr int kBitsTried = 20;

double share_of_larger(std::size_t ones, std::size_t n) {
  return static_cast<double>(std::max(ones, n - ones)) / static_cast<double>(n);
}

}  // namespace

Splitter::Splitter(const PlaneFamily& family) : family_(family) {
  if (!is_binary(family.layout.metric)) {
    plane_.normal.resize(family.layout.width);
    p_.at.resize(family.dimensions());
    q_.at.resize(family.dimensions());
    integers_.resize(FixedPoint::integers_of_row(family));
    values_.resize(integers_.size());
  }
}

const Plane& Splitter::split(const RowBlock& rows, const std::int32_t* positions, std::size_t n, std::uint64_t seed,
                             std::uint8_t* sides) {
  Random random(seed);
  plane_.rule.random = false;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    if (!choose_plane(rows, positions, n, random)) break;  // nor would another try find one
    plane_.rule.coin_seed = combine(seed, static_cast<std::uint64_t>(attempt));
    const std::size_t ones = take_sides(rows, positions, n, sides);
    const double share = share_of_larger(ones, n);
    if (share < kGoodBalance || (attempt == kTries - 1 && share <= kWorstBalance && ones > 0 && ones < n)) {
      return plane_;
    }
  }
  plane_.rule.random = true;
  std::size_t ones = 0;
  for (std::uint64_t attempt = 0; ones == 0 || ones == n || share_of_larger(ones, n) > kWorstBalance; ++attempt) {
    plane_.rule.coin_seed = combine(seed, kTries + attempt);
    ones = take_sides(rows, positions, n, sides);
  }
  return plane_;
}

bool Splitter::choose_plane(const RowBlock& rows, const std::int32_t* positions, std::size_t n, Random& random) {
  const Metric metric = family_.layout.metric;
  if (is_binary(metric)) return choose_bit(rows, positions, n, random);
  two_means(rows, positions, n, random);
  plane_.rule.offset = 0.0f;
  plane_.rule.extra = 0.0f;
  const std::size_t width = plane_.normal.size();
  for (std::size_t i = 0; i < width; ++i) plane_.normal[i] = p_.at[i] - q_.at[i];
  float squared = kernels().dot(plane_.normal.data(), plane_.normal.data(), width);
  if (family_.lifted()) {
    plane_.rule.extra = p_.at[width] - q_.at[width];
    squared += plane_.rule.extra * plane_.rule.extra;
  }
  const float norm = std::sqrt(squared);
  if (!(norm > 0.0f) || !std::isfinite(norm)) {
    std::fill(plane_.normal.begin(), plane_.normal.end(), 0.0f);
    plane_.rule.extra = 0.0f;
    return true;
  }
  for (float& x : plane_.normal) x /= norm;
  plane_.rule.extra /= norm;
  if (metric == Metric::euclidean || metric == Metric::manhattan) {
    // Halfway between the two means.
    for (std::size_t i = 0; i < width; ++i) p_.at[i] = (p_.at[i] + q_.at[i]) / 2.0f;
    if (const FixedPoint* fixed_point = rows.fixed_point()) {
      for (std::size_t i = 0; i < width; ++i) {
        p_.at[i] = fixed_point->centre()[i] + p_.at[i] * fixed_point->unit();
      }
    }
    plane_.rule.offset = -kernels().dot(plane_.normal.data(), p_.at.data(), width);
  }
  return true;
}

// The first bit drawn that parts the rows; after some draws in vain, the first of all that does.
bool Splitter::choose_bit(const RowBlock& rows, const std::int32_t* positions, std::size_t n, Random& random) {
  const auto parts = [&](std::uint64_t bit) {
    const auto bit_of = [&](std::int32_t position) {
      return bit_of_split(rows.bits(static_cast<std::size_t>(position)), bit);
    };
    const bool first = bit_of(positions[0]);
    return std::any_of(positions + 1, positions + n, [&](std::int32_t position) { return bit_of(position) != first; });
  };
  const std::size_t width = family_.layout.width;
  for (int draw = 0; draw < kBitsTried; ++draw) {
    plane_.rule.bit = split_bit_of_dimension(random.below(width));
    if (parts(plane_.rule.bit)) return true;
  }
  for (std::size_t dimension = 0; dimension < width; ++dimension) {
    plane_.rule.bit = split_bit_of_dimension(dimension);
    if (parts(plane_.rule.bit)) return true;
  }
  return false;
}

void Splitter::take_row(const RowBlock& rows, std::size_t row) {
  const std::size_t width = family_.layout.width;
  if (const FixedPoint* fixed_point = rows.fixed_point()) {
    const std::int16_t* integers = integers_.data();
    if (rows.has_integers()) {
      integers = rows.integers(row);
    } else {
      fixed_point->code(rows.floats(row), rows.scalar(row), integers_.data());
    }
    kernels().widen(integers, fixed_point->stride(), values_.data());
    row_ = values_.data();
  } else if (family_.lifted()) {
    std::copy_n(rows.floats(row), width, values_.data());
    values_[width] = rows.scalar(row);
    row_ = values_.data();
  } else {
    row_ = rows.floats(row);
  }
  scale_ = scale_of_row(rows);
}

float Splitter::scale_of_row(const RowBlock& rows) const {
  float norm = 1.0f;
  if (family_.lifted()) {
    norm = family_.lifted_to;
    if (rows.fixed_point()) norm /= rows.fixed_point()->unit();
  } else if (family_.layout.metric == Metric::angular && rows.fixed_point()) {
    const bool has_direction = std::any_of(row_, row_ + family_.layout.width, [](float x) { return x != 0.0f; });
    norm = has_direction ? FixedPoint::kOne : 0.0f;  // but for what was rounded
  } else if (family_.layout.metric == Metric::angular || family_.layout.metric == Metric::dot) {
    norm = std::sqrt(kernels().dot(row_, row_, family_.layout.width));
  }
  return norm > 0.0f && std::isfinite(norm) ? 1.0f / norm : 0.0f;
}

// What the row is to a mean: the product of both, where directions are compared, and its squared length there.
Splitter::Relation Splitter::relate(const Mean& mean) const {
  const Kernels& k = kernels();
  const std::size_t dimensions = mean.at.size();
  switch (family_.layout.metric) {
    case Metric::euclidean:
      return {k.squared_l2(mean.at.data(), row_, dimensions), 0.0f};
    case Metric::manhattan:
      return {k.l1(mean.at.data(), row_, dimensions), 0.0f};
    case Metric::angular:
    case Metric::dot: {
      const float product = k.dot(mean.at.data(), row_, dimensions) * scale_;
      return {mean.squared_norm > 0.0f ? 2.0f - 2.0f * product / std::sqrt(mean.squared_norm) : 2.0f, product};
    }
    case Metric::hamming:
      break;
  }
  return {0.0f, 0.0f};
}

// Takes the row into a mean. The norm follows from what is known of both, without another pass.
void Splitter::take_in(Mean& mean, float product) const {
  const float part = 1.0f / (mean.weight + 1.0f);
  const float keep = mean.weight * part;
  kernels().move_centroid(mean.at.data(), keep, row_, scale_ * part, mean.at.size());
  mean.squared_norm = keep * keep * mean.squared_norm + 2.0f * keep * part * product + part * part;
  mean.weight += 1.0f;
}

// Two means that pull rows towards them, each the less the more it has; as in Annoy.
void Splitter::two_means(const RowBlock& rows, const std::int32_t* positions, std::size_t n, Random& random) {
  const auto row_at = [&](std::size_t i) { return static_cast<std::size_t>(positions[i]); };
  const std::size_t i = random.below(n);
  std::size_t j = random.below(n - 1);
  if (j >= i) ++j;
  const auto start = [&](Mean& mean, std::size_t row) {
    std::fill(mean.at.begin(), mean.at.end(), 0.0f);
    mean.squared_norm = 0.0f;
    mean.weight = 0.0f;
    take_row(rows, row);
    take_in(mean, 0.0f);
    if (scale_ == 0.0f) mean.squared_norm = 0.0f;
  };
  start(p_, row_at(i));
  start(q_, row_at(j));
  for (int step = 0; step < kSteps; ++step) {
    take_row(rows, row_at(random.below(n)));
    if (scale_ == 0.0f) continue;  // no direction
    const Relation to_p = relate(p_);
    const Relation to_q = relate(q_);
    const float p_pull = p_.weight * to_p.distance;
    const float q_pull = q_.weight * to_q.distance;
    if (p_pull < q_pull) {
      take_in(p_, to_p.product);
    } else if (q_pull < p_pull) {
      take_in(q_, to_q.product);
    }
  }
}

std::size_t Splitter::take_sides(const RowBlock& rows, const std::int32_t* positions, std::size_t n,
                                 std::uint8_t* sides) {
  const FixedPoint* fixed_point = !plane_.rule.random && rows.has_integers() ? rows.fixed_point() : nullptr;
  if (fixed_point != nullptr) fixed_point->code_plane(plane_.normal.data(), plane_.rule, fixed_plane_);
  return side_test_.take(rows, positions, n, plane_.normal.data(), plane_.rule,
                         fixed_point == nullptr ? nullptr : &fixed_plane_, sides);
}

}  // namespace dask_annoy
