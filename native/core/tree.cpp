#include "core/tree.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/errors.hpp"

namespace dask_annoy {

void Tree::place(const Layout& layout, std::int32_t n_items, std::int32_t before) {
  for (std::size_t at = 0; at < nodes.size(); at += layout.node_size) {
    const NodeView node(nodes.data() + at, layout);
    if (node.n_descendants() <= layout.list_capacity) continue;
    NodeWriter writer(nodes.data() + at, layout);
    for (const int side : {0, 1}) {
      if (node.child(side) >= n_items) writer.set_child(side, node.child(side) + before);
    }
  }
}

namespace {

// An inner node on the way from the root: its items are ids[begin, end), side 0 first.
struct Pending {
  std::size_t begin, middle, end;
  std::uint64_t seed;
  int first_side;  // the smaller subtree is written first
  int sides_done;
  std::int32_t children[2];
};

// Grows depth first with a stack of its own: depth is bounded by memory, not by the thread's stack.
class Grower {
 public:
  Grower(const Items& items, const std::vector<std::int32_t>& ids, Cancellation& cancellation)
      : items_(items),
        splitter_(items),
        cancellation_(cancellation),
        ids_(ids),
        sides_(ids.size()),
        moved_(ids.size()) {}

  Tree grow(std::uint64_t seed) {
    std::int32_t grown = enter(0, ids_.size(), seed);
    while (!path_.empty()) {
      Pending& node = path_.back();
      if (grown != kOpen) {
        node.children[current_side(node)] = grown;
        ++node.sides_done;
      }
      if (node.sides_done < 2) {
        const int side = current_side(node);
        const std::uint64_t child_seed = combine(node.seed, static_cast<std::uint64_t>(side) + 1);
        grown = side == 0 ? enter(node.begin, node.middle, child_seed) : enter(node.middle, node.end, child_seed);
      } else {
        grown = leave();
      }
    }
    return std::move(tree_);
  }

 private:
  static constexpr std::int32_t kOpen = -1;

  static int current_side(const Pending& node) { return node.sides_done == 0 ? node.first_side : 1 - node.first_side; }

  // The number of a finished subtree, or kOpen when a node was put on the path.
  std::int32_t enter(std::size_t begin, std::size_t end, std::uint64_t seed) {
    cancellation_.check();
    const Layout& layout = items_.layout;
    const bool is_root = path_.empty();
    const std::size_t n = end - begin;
    const auto capacity = static_cast<std::size_t>(layout.list_capacity);
    if (n == 1 && !is_root) return ids_[begin];
    // A root says n_items, holes included, so it can be a list only if that, too, passes for one.
    if (n <= capacity && (!is_root || items_.n_items <= layout.list_capacity)) return write_list(begin, end, is_root);

    planes_.resize(path_.size() * layout.node_size);
    planes_.resize((path_.size() + 1) * layout.node_size, 0);
    if (n == 1) {  // the root over one item among holes
      path_.push_back({begin, begin, end, seed, 1, 1, {ids_[begin], ids_[begin]}});
      return ids_[begin];
    }
    const Plane& plane = splitter_.split(ids_.data() + begin, n, seed, sides_.data());
    plane.write(NodeWriter(planes_.data() + path_.size() * layout.node_size, layout), layout);
    const std::size_t middle = part(begin, end);
    const int smaller = middle - begin <= end - middle ? 0 : 1;
    path_.push_back({begin, middle, end, seed, smaller, 0, {0, 0}});
    return kOpen;
  }

  std::int32_t leave() {
    const Pending node = path_.back();
    path_.pop_back();
    const Layout& layout = items_.layout;
    const bool is_root = path_.empty();
    const std::int32_t id = next_id();
    char* bytes = append(planes_.data() + path_.size() * layout.node_size);
    NodeWriter writer(bytes, layout);
    writer.set_n_descendants(is_root ? items_.n_items : static_cast<std::int32_t>(node.end - node.begin));
    writer.set_child(0, node.children[0]);
    writer.set_child(1, node.children[1]);
    return id;
  }

  std::int32_t write_list(std::size_t begin, std::size_t end, bool is_root) {
    const std::int32_t id = next_id();
    char* bytes = append(nullptr);
    NodeWriter writer(bytes, items_.layout);
    writer.set_n_descendants(is_root ? items_.n_items : static_cast<std::int32_t>(end - begin));
    std::copy(ids_.begin() + static_cast<std::ptrdiff_t>(begin), ids_.begin() + static_cast<std::ptrdiff_t>(end),
              writer.list());
    return id;
  }

  // Moves side 0 to the front, keeping the order on both sides.
  std::size_t part(std::size_t begin, std::size_t end) {
    std::size_t zeros = begin;
    std::size_t ones = 0;
    for (std::size_t i = begin; i < end; ++i) {
      if (sides_[i - begin] == 0) {
        ids_[zeros++] = ids_[i];
      } else {
        moved_[ones++] = ids_[i];
      }
    }
    std::copy(moved_.begin(), moved_.begin() + static_cast<std::ptrdiff_t>(ones),
              ids_.begin() + static_cast<std::ptrdiff_t>(zeros));
    return zeros;
  }

  std::int32_t next_id() const {
    const std::size_t id = static_cast<std::size_t>(items_.n_items) + tree_.nodes.size() / items_.layout.node_size;
    if (id >= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
      throw StateError("a tree would have nodes beyond number 2^31 - 2; build smaller shards");
    }
    return static_cast<std::int32_t>(id);
  }

  char* append(const char* bytes) {
    const std::size_t at = tree_.nodes.size();
    tree_.nodes.resize(at + items_.layout.node_size, 0);
    if (bytes != nullptr) std::memcpy(tree_.nodes.data() + at, bytes, items_.layout.node_size);
    return tree_.nodes.data() + at;
  }

  const Items& items_;
  Splitter splitter_;
  Cancellation& cancellation_;
  std::vector<std::int32_t> ids_;
  std::vector<std::uint8_t> sides_;
  std::vector<std::int32_t> moved_;
  std::vector<Pending> path_;
  std::vector<char> planes_;  // planes of the nodes on the path, waiting until their children are written
  Tree tree_;
};

}  // namespace

Tree grow_tree(const Items& items, const std::vector<std::int32_t>& ids, std::uint64_t seed,
               Cancellation& cancellation) {
  return Grower(items, ids, cancellation).grow(seed);
}

}  // namespace dask_annoy
