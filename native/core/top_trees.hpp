// The first levels of some trees, chosen on a sample of the items, and the buckets that they share the items out to.
//
// A tree over many items is grown in two steps: its first levels from a sample that fits into memory, the rest bucket
// by bucket, so that each step works on rows near by. What a bucket holds follows from the planes and not from how the
// rows come, so memory, disk and any number of threads give the same trees.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/layout.hpp"
#include "core/parallel.hpp"
#include "core/split.hpp"

namespace dask_annoy {

// How a forest's items are shared out. Depends on the items only, so that all builds of them agree.
struct BucketPlan {
  static BucketPlan of(const Layout& layout, std::size_t n_present);

  std::size_t n_sampled = 0;          // rows that the first levels are chosen on
  std::size_t sampled_of_bucket = 0;  // a node with at most so many of them is a bucket; 0: one bucket a tree

  bool one_bucket() const { return sampled_of_bucket == 0; }
};

// The first levels of one tree: an inner node has two children, a bucket has none.
class TopTree {
 public:
  struct Node {
    std::uint64_t seed = 0;
    SideRule rule;
    std::int32_t children[2] = {0, 0};  // a node, or −1 − a bucket
    std::int32_t parent = -1;
  };

  // Splits the sample until a part holds at most plan.sampled_of_bucket of its rows.
  TopTree(const RowBlock& sample, const BucketPlan& plan, std::uint64_t seed, Splitter& splitter,
          Cancellation& cancellation);

  std::size_t n_buckets() const { return bucket_seeds_.size(); }
  std::uint64_t bucket_seed(std::size_t bucket) const { return bucket_seeds_[bucket]; }
  const std::vector<Node>& nodes() const { return nodes_; }  // parents before children; [0] is the root
  const float* normal(std::size_t node) const { return normals_.data() + node * width_; }
  Plane plane(std::size_t node) const;

 private:
  std::size_t width_;  // of a normal; 0 for hamming
  std::vector<Node> nodes_;
  std::vector<float> normals_;
  std::vector<std::uint64_t> bucket_seeds_;
};

// Sends items down several trees at once: rows are read once for all of them. The trees stay while it is in use.
class Router {
 public:
  // `fixed_point` is that of the rows to be routed; null if they have no integers.
  Router(const std::vector<TopTree>& trees, const FixedPoint* fixed_point);

  // Buckets of the rows, which are few enough for a cache: buckets[t * stride + i] is that of row i in tree t. Holes
  // get a bucket, too, which means nothing.
  void route(const RowBlock& rows, std::uint16_t* buckets, std::size_t stride) const;

 private:
  const std::vector<TopTree>& trees_;
  std::vector<std::vector<FixedPlane>> fixed_planes_;  // by tree and node
};

}  // namespace dask_annoy
