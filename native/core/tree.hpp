// Growing a tree, or a part of one, over rows side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/parallel.hpp"
#include "core/split.hpp"

namespace dask_annoy {

// Nodes in the order of the file: children before parents, the root last. Children at or above n_items count from
// n_items as the first of these nodes, until they get their place.
struct Subtree {
  std::vector<char> nodes;
  std::int32_t root = 0;  // counted as children are: an item's number, where one item is all there is

  std::size_t n_nodes(const Layout& layout) const { return nodes.size() / layout.node_size; }

  // Shifts children and root for a first node of number n_items + `before`.
  void place(const Layout& layout, std::int32_t n_items, std::size_t before);
};

// The bytes of a list node over these items.
void write_list(char* node, const Layout& layout, std::int32_t n_descendants, const std::int32_t* numbers,
                std::size_t n);

// Grows subtrees; keeps its buffers from one to the next.
class Grower {
 public:
  // `n_items` is the index's: highest item number + 1, holes included.
  Grower(const PlaneFamily& family, std::int32_t n_items, Cancellation& cancellation);

  // The subtree of that seed over the rows, in whatever order they are. A root's node says n_items whatever it holds.
  Subtree grow(const RowBlock& rows, std::uint64_t seed, bool is_root);

 private:
  // An inner node on the way from the top: its rows are positions_[begin, end), side 0 first.
  struct Pending {
    std::size_t begin, middle, end;
    std::uint64_t seed;
    int first_side;  // the smaller subtree is written first
    int sides_done;
    std::int32_t children[2];
  };
  static constexpr std::int32_t kOpen = -1;

  static int current_side(const Pending& node) { return node.sides_done == 0 ? node.first_side : 1 - node.first_side; }
  std::int32_t enter(const RowBlock& rows, std::size_t begin, std::size_t end, std::uint64_t seed);
  std::int32_t leave();
  bool at_root() const { return is_root_ && path_.empty(); }
  std::int32_t next_id() const;
  char* append(const char* bytes);

  Layout layout_;
  std::int32_t n_items_;
  Splitter splitter_;
  Cancellation& cancellation_;
  bool is_root_ = false;
  std::vector<std::int32_t> positions_;
  std::vector<std::uint8_t> sides_;
  std::vector<std::int32_t> moved_;  // also the numbers of a list
  std::vector<Pending> path_;
  std::vector<char> planes_;  // of the nodes on the path, waiting until their children are written
  Subtree subtree_;
};

}  // namespace dask_annoy
