// Growing one tree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/parallel.hpp"
#include "core/split.hpp"

namespace dask_annoy {

// The nodes of one tree in the order of the file: children before parents, the root last. Children at or above
// n_items count from n_items as the tree's first node, until the tree gets its place.
struct Tree {
  std::vector<char> nodes;

  std::size_t n_nodes(const Layout& layout) const { return nodes.size() / layout.node_size; }

  // Shifts the children for a tree whose first node gets the number n_items + `before`.
  void place(const Layout& layout, std::int32_t n_items, std::int32_t before);
};

// Grows the tree of that seed over the items `ids` (ascending, without holes).
Tree grow_tree(const Items& items, const std::vector<std::int32_t>& ids, std::uint64_t seed,
               Cancellation& cancellation);

}  // namespace dask_annoy
