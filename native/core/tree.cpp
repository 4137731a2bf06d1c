#include "core/tree.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "core/errors.hpp"

namespace dask_annoy {

void Subtree::place(const Layout& layout, std::int32_t n_items, std::size_t before) {
  const auto shift = static_cast<std::int32_t>(before);
  if (root >= n_items) root += shift;
  for (std::size_t at = 0; at < nodes.size(); at += layout.node_size) {
    const NodeView node(nodes.data() + at, layout);
    if (node.n_descendants() <= layout.list_capacity) continue;
    NodeWriter writer(nodes.data() + at, layout);
    for (const int side : {0, 1}) {
      if (node.child(side) >= n_items) writer.set_child(side, node.child(side) + shift);
    }
  }
}

void write_list(char* node, const Layout& layout, std::int32_t n_descendants, const std::int32_t* numbers,
                std::size_t n) {
  NodeWriter writer(node, layout);
  writer.set_n_descendants(n_descendants);
  std::copy(numbers, numbers + n, writer.list());
}

Grower::Grower(const PlaneFamily& family, std::int32_t n_items, Cancellation& cancellation)
    : layout_(family.layout), n_items_(n_items), splitter_(family), cancellation_(cancellation) {}

// Depth first with a stack of its own: depth is bounded by memory, not by the thread's stack.
Subtree Grower::grow(const RowBlock& rows, std::uint64_t seed, bool is_root) {
  is_root_ = is_root;
  positions_.resize(rows.count());
  std::iota(positions_.begin(), positions_.end(), 0);
  const auto by_number = [&](std::int32_t a, std::int32_t b) {
    return rows.number(static_cast<std::size_t>(a)) < rows.number(static_cast<std::size_t>(b));
  };
  if (!std::is_sorted(positions_.begin(), positions_.end(), by_number)) {
    std::sort(positions_.begin(), positions_.end(), by_number);
  }
  sides_.resize(rows.count());
  moved_.resize(rows.count() + 1);
  path_.clear();
  subtree_ = {};
  std::int32_t grown = enter(rows, 0, rows.count(), seed);
  while (!path_.empty()) {
    Pending& node = path_.back();
    if (grown != kOpen) {
      node.children[current_side(node)] = grown;
      ++node.sides_done;
    }
    if (node.sides_done < 2) {
      const int side = current_side(node);
      const std::uint64_t child_seed = seed_of_child(node.seed, side);
      grown =
          side == 0 ? enter(rows, node.begin, node.middle, child_seed) : enter(rows, node.middle, node.end, child_seed);
    } else {
      grown = leave();
    }
  }
  subtree_.root = grown;
  return std::move(subtree_);
}

// The number of a finished subtree, or kOpen when a node was put on the path.
std::int32_t Grower::enter(const RowBlock& rows, std::size_t begin, std::size_t end, std::uint64_t seed) {
  cancellation_.check();
  const std::size_t n = end - begin;
  const auto number_at = [&](std::size_t i) { return rows.number(static_cast<std::size_t>(positions_[i])); };
  if (n == 1 && !at_root()) return number_at(begin);
  // A root says n_items, holes included, so it can be a list only if that, too, passes for one.
  if (n <= static_cast<std::size_t>(layout_.list_capacity) && (!at_root() || n_items_ <= layout_.list_capacity)) {
    const std::int32_t id = next_id();
    for (std::size_t i = 0; i < n; ++i) moved_[i] = number_at(begin + i);
    write_list(append(nullptr), layout_, at_root() ? n_items_ : static_cast<std::int32_t>(n), moved_.data(), n);
    return id;
  }

  planes_.resize(path_.size() * layout_.node_size);
  planes_.resize((path_.size() + 1) * layout_.node_size, 0);
  if (n == 1) {  // the root over one item among holes
    const std::int32_t number = number_at(begin);
    path_.push_back({begin, begin, end, seed, 1, 1, {number, number}});
    return number;
  }
  const Plane& plane = splitter_.split(rows, positions_.data() + begin, n, seed, sides_.data());
  plane.write(NodeWriter(planes_.data() + path_.size() * layout_.node_size, layout_), layout_);
  const std::size_t middle = begin + part_by_sides(positions_.data() + begin, sides_.data(), n, moved_.data());
  const int smaller = middle - begin <= end - middle ? 0 : 1;
  path_.push_back({begin, middle, end, seed, smaller, 0, {0, 0}});
  return kOpen;
}

std::int32_t Grower::leave() {
  const Pending node = path_.back();
  path_.pop_back();
  const std::int32_t id = next_id();
  NodeWriter writer(append(planes_.data() + path_.size() * layout_.node_size), layout_);
  writer.set_n_descendants(at_root() ? n_items_ : static_cast<std::int32_t>(node.end - node.begin));
  writer.set_child(0, node.children[0]);
  writer.set_child(1, node.children[1]);
  return id;
}

std::int32_t Grower::next_id() const {
  const std::size_t id = static_cast<std::size_t>(n_items_) + subtree_.nodes.size() / layout_.node_size;
  if (id >= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    throw StateError("a tree would have nodes beyond number 2^31 - 2; build smaller shards");
  }
  return static_cast<std::int32_t>(id);
}

char* Grower::append(const char* bytes) {
  const std::size_t at = subtree_.nodes.size();
  subtree_.nodes.resize(at + layout_.node_size, 0);
  if (bytes != nullptr) std::memcpy(subtree_.nodes.data() + at, bytes, layout_.node_size);
  return subtree_.nodes.data() + at;
}

}  // namespace dask_annoy
