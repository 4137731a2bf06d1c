#include "core/top_trees.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/kernels.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kBucketBytes = std::size_t{2} << 20;  // about a second-level cache
constexpr std::size_t kSampleBytes = std::size_t{64} << 20;
constexpr std::size_t kSampledOfBucket = 128;
// Rows of a bucket for each one sampled, at the least. More samples would cost more than they improve.
constexpr std::size_t kRowsOfSampled = 4;
// Not more than buckets can be counted in 16 bits, were each row of the sample to get one of its own.
constexpr std::size_t kMostPlanned = (std::size_t{1} << 16) / kSampledOfBucket;
constexpr std::size_t kCacheLine = 64;

std::size_t divided_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

}  // namespace

BucketPlan BucketPlan::of(const Layout& layout, std::size_t n_present) {
  BucketPlan plan;
  plan.n_sampled = n_present;
  // Roots over few items are lists, or special for other reasons.
  if (n_present <= static_cast<std::size_t>(layout.list_capacity)) return plan;
  const std::size_t bytes = layout.vector_bytes();
  const std::size_t n_buckets = std::min({divided_up(n_present * bytes, kBucketBytes), kMostPlanned,
                                          std::max(kSampleBytes / bytes / kSampledOfBucket, std::size_t{8}),
                                          n_present / (kRowsOfSampled * kSampledOfBucket)});
  if (n_buckets < 2) return plan;
  plan.n_sampled = n_buckets * kSampledOfBucket;
  plan.sampled_of_bucket = kSampledOfBucket;
  return plan;
}

TopTree::TopTree(const RowBlock& sample, const BucketPlan& plan, std::uint64_t seed, Splitter& splitter,
                 Cancellation& cancellation)
    : width_(is_binary(sample.layout().metric) ? 0 : sample.layout().width) {
  if (plan.one_bucket()) {
    bucket_seeds_.push_back(seed);
    return;
  }
  struct Part {
    std::size_t begin, end;
    std::uint64_t seed;
    std::int32_t parent;
    int side;
  };
  std::vector<std::int32_t> positions(sample.count());
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<std::uint8_t> sides(sample.count());
  std::vector<std::int32_t> moved(sample.count());
  std::vector<Part> parts{{0, sample.count(), seed, -1, 0}};
  while (!parts.empty()) {
    cancellation.check();
    const Part part = parts.back();
    parts.pop_back();
    const std::size_t n = part.end - part.begin;
    if (n <= plan.sampled_of_bucket) {
      nodes_[static_cast<std::size_t>(part.parent)].children[part.side] =
          -1 - static_cast<std::int32_t>(bucket_seeds_.size());
      bucket_seeds_.push_back(part.seed);
      continue;
    }
    const Plane& plane = splitter.split(sample, positions.data() + part.begin, n, part.seed, sides.data());
    const auto id = static_cast<std::int32_t>(nodes_.size());
    if (part.parent >= 0) nodes_[static_cast<std::size_t>(part.parent)].children[part.side] = id;
    nodes_.push_back({part.seed, plane.rule, {0, 0}, part.parent});
    normals_.insert(normals_.end(), plane.normal.begin(), plane.normal.end());
    std::size_t zeros = part.begin;
    std::size_t ones = 0;
    for (std::size_t i = part.begin; i < part.end; ++i) {
      if (sides[i - part.begin] == 0) {
        positions[zeros++] = positions[i];
      } else {
        moved[ones++] = positions[i];
      }
    }
    std::copy(moved.begin(), moved.begin() + static_cast<std::ptrdiff_t>(ones),
              positions.begin() + static_cast<std::ptrdiff_t>(zeros));
    parts.push_back({zeros, part.end, seed_of_child(part.seed, 1), id, 1});
    parts.push_back({part.begin, zeros, seed_of_child(part.seed, 0), id, 0});  // taken next: buckets go left to right
  }
}

Plane TopTree::plane(std::size_t node) const {
  Plane plane;
  plane.rule = nodes_[node].rule;
  plane.normal.assign(normal(node), normal(node) + width_);
  return plane;
}

Router::Router(const Layout& layout, const std::vector<TopTree>& trees) : layout_(layout) {
  std::size_t n_nodes = 0;
  for (const TopTree& tree : trees) n_nodes += tree.nodes().size();
  rules_.reserve(n_nodes);
  children_.reserve(2 * n_nodes);
  if (!is_binary(layout.metric)) {
    normal_stride_ = divided_up(layout.width * sizeof(float), kCacheLine) * kCacheLine;
    normals_.resize(n_nodes * normal_stride_ + kCacheLine);
    const std::size_t over = reinterpret_cast<std::uintptr_t>(normals_.data()) % kCacheLine;
    aligned_ = over == 0 ? 0 : kCacheLine - over;
  }
  for (const TopTree& tree : trees) {
    const auto first = static_cast<std::int32_t>(rules_.size());
    roots_.push_back(tree.nodes().empty() ? -1 : first);
    for (std::size_t i = 0; i < tree.nodes().size(); ++i) {
      const TopTree::Node& node = tree.nodes()[i];
      if (normal_stride_ > 0) {
        std::memcpy(normals_.data() + aligned_ + rules_.size() * normal_stride_, tree.normal(i),
                    layout.width * sizeof(float));
      }
      rules_.push_back(node.rule);
      for (const std::int32_t child : node.children) children_.push_back(child >= 0 ? child + first : child);
    }
  }
}

void Router::route(const char* nodes, std::size_t count, std::int32_t first, std::uint16_t* buckets,
                   std::size_t stride) const {
  const std::size_t n_trees = roots_.size();
  std::vector<std::int32_t> at(n_trees);      // nodes to decide next …
  std::vector<std::size_t> tree_of(n_trees);  // … and whose they are
  std::vector<float> products(n_trees);
  for (std::size_t i = 0; i < count; ++i) {
    const NodeView item(nodes + i * layout_.node_size, layout_);
    const std::int32_t number = first + static_cast<std::int32_t>(i);
    if (is_binary(layout_.metric)) {
      route_bits(item, number, buckets + i, stride);
      continue;
    }
    const float scalar = item.scalar();
    std::size_t n = 0;
    for (std::size_t t = 0; t < n_trees; ++t) {
      if (roots_[t] < 0) {
        buckets[t * stride + i] = 0;
        continue;
      }
      at[n] = roots_[t];
      tree_of[n++] = t;
    }
    while (n > 0) {
      kernels().dot_rows(item.vector(), RowSet{normals_.data() + aligned_, normal_stride_, at.data(), n}, layout_.width,
                         products.data());
      std::size_t left = 0;
      for (std::size_t j = 0; j < n; ++j) {
        const auto node = static_cast<std::size_t>(at[j]);
        const SideRule& rule = rules_[node];
        const std::uint8_t side = rule.random ? rule.coin(number) : rule.side(products[j], scalar, number);
        const std::int32_t child = children_[2 * node + side];
        if (child >= 0) {
          at[left] = child;
          tree_of[left++] = tree_of[j];
        } else {
          buckets[tree_of[j] * stride + i] = static_cast<std::uint16_t>(-1 - child);
        }
      }
      n = left;
    }
  }
}

void Router::route_bits(const NodeView& item, std::int32_t number, std::uint16_t* buckets, std::size_t stride) const {
  for (std::size_t t = 0; t < roots_.size(); ++t) {
    std::int32_t node = roots_[t];
    while (node >= 0) {
      const SideRule& rule = rules_[static_cast<std::size_t>(node)];
      const std::uint8_t side = rule.random ? rule.coin(number) : bit_of_split(item.bits(), rule.bit) ? 1 : 0;
      node = children_[2 * static_cast<std::size_t>(node) + side];
    }
    buckets[t * stride] = static_cast<std::uint16_t>(-1 - node);
  }
}

}  // namespace dask_annoy
