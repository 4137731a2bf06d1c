// Splitting a set of items in two by a plane.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/layout.hpp"
#include "core/random.hpp"

namespace dask_annoy {

// The items that trees are grown over, in place.
struct Items {
  Layout layout;
  const char* nodes;
  std::int32_t n_items;  // highest number + 1: holes count
  float radius;          // dot: the largest norm, which all items have with their extra dimension

  NodeView node(std::int32_t id) const { return {nodes + static_cast<std::size_t>(id) * layout.node_size, layout}; }
};

struct Plane {
  std::vector<float> normal;  // dot: one more dimension than the vectors, the last being the extra one
  float offset = 0.0f;        // euclidean and manhattan
  std::uint64_t bit = 0;      // hamming, as split nodes count bits
  bool random = false;        // no plane parts these items: sides are drawn

  // Writes what queries need. A plane of zeros sends a query both ways.
  void write(NodeWriter node, const Layout& layout) const;
};

// Chooses planes; keeps its buffers from one node to the next.
class Splitter {
 public:
  explicit Splitter(const Items& items);

  // Chooses a plane for the `n` items and writes each one's side (0 or 1) to `sides`. Both sides get at least one
  // item. Depends on the items, their order and the seed only. n ≥ 2.
  const Plane& split(const std::int32_t* ids, std::size_t n, std::uint64_t seed, std::uint8_t* sides);

 private:
  // False when no plane can part the items, as they are all equal.
  bool choose_plane(const std::int32_t* ids, std::size_t n, Random& random);
  bool choose_bit(const std::int32_t* ids, std::size_t n, Random& random);
  void two_means(const std::int32_t* ids, std::size_t n, Random& random);
  void start_centroid(std::vector<float>& centroid, const std::int32_t id) const;
  float scale_of(const NodeView& item) const;
  float distance_to(const std::vector<float>& centroid, float squared_norm, const NodeView& item, float scale) const;
  void move(std::vector<float>& centroid, float weight, const NodeView& item, float scale) const;
  std::size_t take_sides(const std::int32_t* ids, std::size_t n, std::uint64_t seed, std::uint8_t* sides);
  std::size_t draw_sides(const std::int32_t* ids, std::size_t n, std::uint64_t seed, std::uint8_t* sides) const;

  const Items& items_;
  std::size_t dimensions_;  // of a centroid: one more than the width for dot
  Plane plane_;
  std::vector<float> p_, q_;
  std::vector<float> margins_;
};

}  // namespace dask_annoy
