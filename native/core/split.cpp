#include "core/split.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/kernels.hpp"

namespace dask_annoy {

namespace {

constexpr int kSteps = 200;             // of two-means
constexpr int kTries = 3;               // planes tried for a balance better than kGoodBalance
constexpr double kGoodBalance = 0.95;   // share of the larger side
constexpr double kWorstBalance = 0.99;  // beyond it, sides are drawn
constexpr int kBitsTried = 20;
constexpr std::size_t kMarginsAtOnce = 512;

double share_of_larger(std::size_t ones, std::size_t n) {
  return static_cast<double>(std::max(ones, n - ones)) / static_cast<double>(n);
}

// Stands in for a coin: the same for an item whatever the order in which items are looked at.
std::uint8_t coin(std::uint64_t seed, std::int32_t id) {
  return static_cast<std::uint8_t>(combine(seed, static_cast<std::uint64_t>(id)) & 1);
}

bool normalize(std::vector<float>& v) {
  const float norm = std::sqrt(kernels().dot(v.data(), v.data(), v.size()));
  if (!(norm > 0.0f) || !std::isfinite(norm)) return false;
  for (float& x : v) x /= norm;
  return true;
}

}  // namespace

void Plane::write(NodeWriter node, const Layout& layout) const {
  if (is_binary(layout.metric)) {
    if (!random) node.bits()[0] = bit;
    return;
  }
  if (random) return;
  std::copy(normal.begin(), normal.begin() + static_cast<std::ptrdiff_t>(layout.width), node.vector());
  // The extra dimension of dot is left out: a query has none, and Annoy 1.17.3 would add its square to the margin.
  if (layout.metric == Metric::euclidean || layout.metric == Metric::manhattan) node.set_scalar(offset);
}

Splitter::Splitter(const Items& items)
    : items_(items), dimensions_(items.layout.width + (items.layout.metric == Metric::dot ? 1 : 0)) {
  if (!is_binary(items.layout.metric)) {
    plane_.normal.resize(dimensions_);
    p_.resize(dimensions_);
    q_.resize(dimensions_);
    margins_.resize(kMarginsAtOnce);
  }
}

const Plane& Splitter::split(const std::int32_t* ids, std::size_t n, std::uint64_t seed, std::uint8_t* sides) {
  Random random(seed);
  plane_.random = false;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    if (!choose_plane(ids, n, random)) break;  // nor would another try find one
    const std::size_t ones = take_sides(ids, n, combine(seed, static_cast<std::uint64_t>(attempt)), sides);
    const double share = share_of_larger(ones, n);
    if (share < kGoodBalance || (attempt == kTries - 1 && share <= kWorstBalance && ones > 0 && ones < n)) {
      return plane_;
    }
  }
  plane_.random = true;
  std::size_t ones = 0;
  for (std::uint64_t attempt = 0; ones == 0 || ones == n || share_of_larger(ones, n) > kWorstBalance; ++attempt) {
    ones = draw_sides(ids, n, combine(seed, kTries + attempt), sides);
  }
  return plane_;
}

bool Splitter::choose_plane(const std::int32_t* ids, std::size_t n, Random& random) {
  if (is_binary(items_.layout.metric)) {
    return choose_bit(ids, n, random);
  }
  two_means(ids, n, random);
  for (std::size_t i = 0; i < dimensions_; ++i) plane_.normal[i] = p_[i] - q_[i];
  plane_.offset = 0.0f;
  if (!normalize(plane_.normal)) {
    std::fill(plane_.normal.begin(), plane_.normal.end(), 0.0f);
    return true;
  }
  if (items_.layout.metric == Metric::euclidean || items_.layout.metric == Metric::manhattan) {
    // Halfway between the two means.
    for (std::size_t i = 0; i < dimensions_; ++i) p_[i] = (p_[i] + q_[i]) / 2.0f;
    plane_.offset = -kernels().dot(plane_.normal.data(), p_.data(), dimensions_);
  }
  return true;
}

// The first bit drawn that parts the items; after some draws in vain, the first of all that does.
bool Splitter::choose_bit(const std::int32_t* ids, std::size_t n, Random& random) {
  const auto parts = [&](std::uint64_t bit) {
    const bool first = bit_of_split(items_.node(ids[0]).bits(), bit);
    return std::any_of(ids + 1, ids + n,
                       [&](std::int32_t id) { return bit_of_split(items_.node(id).bits(), bit) != first; });
  };
  for (int draw = 0; draw < kBitsTried; ++draw) {
    plane_.bit = split_bit_of_dimension(random.below(items_.layout.width));
    if (parts(plane_.bit)) return true;
  }
  for (std::size_t dimension = 0; dimension < items_.layout.width; ++dimension) {
    plane_.bit = split_bit_of_dimension(dimension);
    if (parts(plane_.bit)) return true;
  }
  return false;
}

// Makes a unit vector of an item where directions are compared; 0 for an item without one.
float Splitter::scale_of(const NodeView& item) const {
  float norm = 1.0f;
  if (items_.layout.metric == Metric::angular) norm = std::sqrt(item.scalar());
  if (items_.layout.metric == Metric::dot) norm = items_.radius;
  return norm > 0.0f && std::isfinite(norm) ? 1.0f / norm : 0.0f;
}

void Splitter::move(std::vector<float>& centroid, float weight, const NodeView& item, float scale) const {
  kernels().move_centroid(centroid.data(), weight, item.vector(), scale, items_.layout.width);
  if (items_.layout.metric == Metric::dot) {
    float& extra = centroid[items_.layout.width];
    extra = (extra * weight + item.scalar() * scale) / (weight + 1.0f);
  }
}

void Splitter::start_centroid(std::vector<float>& centroid, std::int32_t id) const {
  const NodeView item = items_.node(id);
  std::fill(centroid.begin(), centroid.end(), 0.0f);
  move(centroid, 0.0f, item, scale_of(item));
}

// Angular, and dot with its extra dimension, compare directions: 2 − 2 cos.
float Splitter::distance_to(const std::vector<float>& centroid, float squared_norm, const NodeView& item,
                            float scale) const {
  const Kernels& k = kernels();
  const std::size_t width = items_.layout.width;
  switch (items_.layout.metric) {
    case Metric::euclidean:
      return k.squared_l2(centroid.data(), item.vector(), width);
    case Metric::manhattan:
      return k.l1(centroid.data(), item.vector(), width);
    case Metric::angular:
    case Metric::dot: {
      float product = k.dot(centroid.data(), item.vector(), width);
      if (items_.layout.metric == Metric::dot) product += centroid[width] * item.scalar();
      return squared_norm > 0.0f ? 2.0f - 2.0f * product * scale / std::sqrt(squared_norm) : 2.0f;
    }
    case Metric::hamming:
      break;
  }
  return 0.0f;
}

// Two centroids that pull items towards them, each the less the more it has; as in Annoy.
void Splitter::two_means(const std::int32_t* ids, std::size_t n, Random& random) {
  const std::size_t i = random.below(n);
  std::size_t j = random.below(n - 1);
  if (j >= i) ++j;
  start_centroid(p_, ids[i]);
  start_centroid(q_, ids[j]);
  const Kernels& k = kernels();
  float p_norm = k.dot(p_.data(), p_.data(), dimensions_);
  float q_norm = k.dot(q_.data(), q_.data(), dimensions_);
  float p_weight = 1.0f;
  float q_weight = 1.0f;
  for (int step = 0; step < kSteps; ++step) {
    const NodeView item = items_.node(ids[random.below(n)]);
    const float scale = scale_of(item);
    if (scale == 0.0f) continue;  // no direction
    const float to_p = p_weight * distance_to(p_, p_norm, item, scale);
    const float to_q = q_weight * distance_to(q_, q_norm, item, scale);
    if (to_p < to_q) {
      move(p_, p_weight, item, scale);
      p_norm = k.dot(p_.data(), p_.data(), dimensions_);
      p_weight += 1.0f;
    } else if (to_q < to_p) {
      move(q_, q_weight, item, scale);
      q_norm = k.dot(q_.data(), q_.data(), dimensions_);
      q_weight += 1.0f;
    }
  }
}

std::size_t Splitter::take_sides(const std::int32_t* ids, std::size_t n, std::uint64_t seed, std::uint8_t* sides) {
  const Layout& layout = items_.layout;
  std::size_t ones = 0;
  if (is_binary(layout.metric)) {
    for (std::size_t i = 0; i < n; ++i) {
      sides[i] = bit_of_split(items_.node(ids[i]).bits(), plane_.bit) ? 1 : 0;
      ones += sides[i];
    }
    return ones;
  }
  for (std::size_t begin = 0; begin < n; begin += kMarginsAtOnce) {
    const std::size_t count = std::min(kMarginsAtOnce, n - begin);
    kernels().dot_rows(plane_.normal.data(),
                       RowSet{items_.nodes + layout.vector_offset, layout.node_size, ids + begin, count}, layout.width,
                       margins_.data());
    for (std::size_t i = 0; i < count; ++i) {
      float margin = margins_[i] + plane_.offset;
      if (layout.metric == Metric::dot) margin += plane_.normal[layout.width] * items_.node(ids[begin + i]).scalar();
      const std::uint8_t side = margin > 0.0f ? 1 : margin < 0.0f ? 0 : coin(seed, ids[begin + i]);
      sides[begin + i] = side;
      ones += side;
    }
  }
  return ones;
}

std::size_t Splitter::draw_sides(const std::int32_t* ids, std::size_t n, std::uint64_t seed,
                                 std::uint8_t* sides) const {
  std::size_t ones = 0;
  for (std::size_t i = 0; i < n; ++i) {
    sides[i] = coin(seed, ids[i]);
    ones += sides[i];
  }
  return ones;
}

}  // namespace dask_annoy
