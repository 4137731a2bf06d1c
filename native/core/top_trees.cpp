#include "core/top_trees.hpp"

#include <algorithm>
#include <memory>
#include <numeric>

#include "core/side_test.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kBucketBytes = std::size_t{2} << 20;  // about a second-level cache
constexpr std::size_t kSampleBytes = std::size_t{64} << 20;
constexpr std::size_t kSampledOfBucket = 128;
// Rows of a bucket for each one sampled, at the least. More samples would cost more than they improve.
constexpr std::size_t kRowsOfSampled = 4;
// Not more than buckets can be counted in 16 bits, were each row of the sample to get one of its own.
constexpr std::size_t kMostPlanned = (std::size_t{1} << 16) / kSampledOfBucket;

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
  std::vector<std::int32_t> moved(sample.count() + 1);
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
    const std::size_t zeros = part.begin + part_by_sides(positions.data() + part.begin, sides.data(), n, moved.data());
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

Router::Router(const std::vector<TopTree>& trees, const FixedPoint* fixed_point)
    : trees_(trees), fixed_planes_(trees.size()) {
  if (fixed_point == nullptr) return;
  for (std::size_t t = 0; t < trees.size(); ++t) {
    const std::vector<TopTree::Node>& nodes = trees[t].nodes();
    fixed_planes_[t].resize(nodes.size());
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (!nodes[i].rule.random) fixed_point->code_plane(trees[t].normal(i), nodes[i].rule, fixed_planes_[t][i]);
    }
  }
}

// All rows of a node at once, as one plane then serves many.
void Router::route(const RowBlock& rows, std::uint16_t* buckets, std::size_t stride) const {
  struct Pending {
    std::int32_t node;  // −1 − bucket
    std::size_t begin, end;
  };
  const auto side_test = std::make_unique<SideTest>();
  std::vector<std::int32_t> positions(rows.count());
  std::vector<std::int32_t> room(rows.count() + 1);
  std::vector<std::uint8_t> sides(rows.count());
  std::vector<Pending> path;
  for (std::size_t t = 0; t < trees_.size(); ++t) {
    const TopTree& tree = trees_[t];
    std::uint16_t* of_tree = buckets + t * stride;
    std::iota(positions.begin(), positions.end(), 0);
    path.push_back({tree.nodes().empty() ? -1 : 0, 0, rows.count()});
    while (!path.empty()) {
      const Pending part = path.back();
      path.pop_back();
      if (part.node < 0) {
        for (std::size_t i = part.begin; i < part.end; ++i) {
          of_tree[positions[i]] = static_cast<std::uint16_t>(-1 - part.node);
        }
        continue;
      }
      if (part.begin == part.end) continue;
      const auto node = static_cast<std::size_t>(part.node);
      const std::size_t n = part.end - part.begin;
      std::int32_t* of_part = positions.data() + part.begin;
      side_test->take(rows, of_part, n, tree.normal(node), tree.nodes()[node].rule,
                      fixed_planes_[t].empty() ? nullptr : &fixed_planes_[t][node], sides.data());
      const std::size_t middle = part.begin + part_by_sides(of_part, sides.data(), n, room.data());
      path.push_back({tree.nodes()[node].children[0], part.begin, middle});
      path.push_back({tree.nodes()[node].children[1], middle, part.end});
    }
  }
}

}  // namespace dask_annoy
