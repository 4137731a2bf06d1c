#include "core/tree_writer.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "core/errors.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kMostNodes = std::numeric_limits<std::int32_t>::max();

}  // namespace

TreeOutline TreeOutline::of(const TopTree& top, const std::vector<std::size_t>& bucket_counts, const Layout& layout) {
  TreeOutline outline;
  const auto& nodes = top.nodes();
  const auto part_of = [&](std::size_t first, std::size_t last, std::size_t count, std::uint64_t seed) {
    outline.parts.push_back({first, last, count, seed});
  };
  if (nodes.empty()) {
    part_of(0, 1, bucket_counts[0], top.bucket_seed(0));
    return outline;
  }
  struct Range {
    std::size_t first, last, count;
  };
  std::vector<Range> ranges(nodes.size());
  const auto range_of = [&](std::int32_t child) {
    if (child >= 0) return ranges[static_cast<std::size_t>(child)];
    const auto bucket = static_cast<std::size_t>(-1 - child);
    return Range{bucket, bucket + 1, bucket_counts[bucket]};
  };
  for (std::size_t i = nodes.size(); i-- > 0;) {
    const Range left = range_of(nodes[i].children[0]);
    const Range right = range_of(nodes[i].children[1]);
    ranges[i] = {left.first, right.last, left.count + right.count};
  }
  const auto capacity = static_cast<std::size_t>(layout.list_capacity);
  const auto is_split = [&](std::size_t node) { return node == 0 || ranges[node].count > capacity; };
  // Parts left to right; nodes come in that order, too, but for those on the right of what lies below them.
  std::vector<std::int32_t> part_at(top.n_buckets(), -1);  // by first bucket
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!is_split(i)) continue;
    for (const std::int32_t child : nodes[i].children) {
      if (child >= 0 && is_split(static_cast<std::size_t>(child))) continue;
      const Range range = range_of(child);
      part_of(range.first, range.last, range.count,
              child >= 0 ? nodes[static_cast<std::size_t>(child)].seed : top.bucket_seed(range.first));
    }
  }
  std::sort(outline.parts.begin(), outline.parts.end(),
            [](const Part& a, const Part& b) { return a.first_bucket < b.first_bucket; });
  for (std::size_t p = 0; p < outline.parts.size(); ++p) {
    part_at[outline.parts[p].first_bucket] = static_cast<std::int32_t>(p);
  }
  std::vector<std::int32_t> split_at(nodes.size(), -1);
  for (std::size_t i = nodes.size(); i-- > 0;) {
    if (!is_split(i)) continue;
    Split split{i, ranges[i].count, {0, 0}};
    for (const int side : {0, 1}) {
      const std::int32_t child = nodes[i].children[side];
      split.children[side] = child >= 0 && is_split(static_cast<std::size_t>(child))
                                 ? split_at[static_cast<std::size_t>(child)]
                                 : -1 - part_at[range_of(child).first];
    }
    split_at[i] = static_cast<std::int32_t>(outline.splits.size());
    outline.splits.push_back(split);
  }
  return outline;
}

TreeWriter::TreeWriter(const Layout& layout, std::int32_t n_items, NodeStorage& storage, std::shared_mutex& moving,
                       std::size_t window)
    : layout_(layout), n_items_(n_items), storage_(storage), moving_(moving), window_(window) {}

bool TreeWriter::enough_unlocked() const {
  if (n_trees_ != -1) return roots_.size() >= static_cast<std::size_t>(n_trees_);
  return !roots_.empty() && n_finished_nodes_ >= static_cast<std::size_t>(n_items_);
}

bool TreeWriter::enough() const {
  const std::lock_guard lock(mutex_);
  return enough_unlocked();
}

void TreeWriter::begin_group(const std::vector<TopTree>& tops, const std::vector<TreeOutline>& outlines) {
  tops_ = &tops;
  outlines_ = &outlines;
  waiting_.clear();
  children_.clear();
  next_ = 0;
  tree_ = 0;
}

void TreeWriter::take(std::size_t index, Subtree&& part, Cancellation& cancellation) {
  std::unique_lock lock(mutex_);
  while (index >= next_ + window_ && !enough_unlocked()) {
    put_one_down_.wait_for(lock, std::chrono::milliseconds(20));
    lock.unlock();
    cancellation.check();
    lock.lock();
  }
  waiting_.emplace(index, std::move(part));
  for (auto it = waiting_.find(next_); it != waiting_.end() && !enough_unlocked(); it = waiting_.find(next_)) {
    put_down(it->second);
    waiting_.erase(it);
    ++next_;
  }
  put_one_down_.notify_all();
}

void TreeWriter::put_down(Subtree& part) {
  require_room(part.n_nodes(layout_));
  part.place(layout_, n_items_, n_tree_nodes_);
  append(part.nodes);
  children_.push_back(part.root);
  if (children_.size() == (*outlines_)[tree_].parts.size()) finish_tree();
}

void TreeWriter::finish_tree() {
  const TreeOutline& outline = (*outlines_)[tree_];
  std::int32_t root = children_.front();
  if (!outline.splits.empty()) {
    require_room(outline.splits.size());
    const std::int32_t first = n_items_ + static_cast<std::int32_t>(n_tree_nodes_);
    std::vector<char> nodes(outline.splits.size() * layout_.node_size, 0);
    for (std::size_t s = 0; s < outline.splits.size(); ++s) {
      const TreeOutline::Split& split = outline.splits[s];
      const bool is_root = s + 1 == outline.splits.size();
      NodeWriter writer(nodes.data() + s * layout_.node_size, layout_);
      (*tops_)[tree_].plane(split.node).write(writer, layout_);
      writer.set_n_descendants(is_root ? n_items_ : static_cast<std::int32_t>(split.count));
      for (const int side : {0, 1}) {
        const std::int32_t child = split.children[side];
        writer.set_child(side, child >= 0 ? first + child : children_[static_cast<std::size_t>(-1 - child)]);
      }
    }
    append(nodes);
    root = n_items_ + static_cast<std::int32_t>(n_tree_nodes_) - 1;
  }
  roots_.push_back(root);
  n_finished_nodes_ = n_tree_nodes_;
  children_.clear();
  ++tree_;
}

void TreeWriter::append(const std::vector<char>& nodes) {
  if (nodes.empty()) return;
  const std::size_t before = static_cast<std::size_t>(n_items_) + n_tree_nodes_;
  const std::size_t added = nodes.size() / layout_.node_size;
  std::unique_lock<std::shared_mutex> moving;  // what lies behind the items is nobody else's
  if (storage_.moves((before + added) * layout_.node_size)) moving = std::unique_lock(moving_);
  storage_.resize((before + added) * layout_.node_size);
  storage_.write(before * layout_.node_size, nodes.data(), nodes.size());
  n_tree_nodes_ += added;
}

void TreeWriter::require_room(std::size_t n_nodes) const {
  if (static_cast<std::size_t>(n_items_) + n_tree_nodes_ + n_nodes > kMostNodes) {
    throw StateError("the forest would have more than 2^31 - 1 nodes; build fewer trees or smaller shards");
  }
}

std::vector<std::int32_t> TreeWriter::copy_roots() {
  require_room(roots_.size());
  std::vector<char> copies(roots_.size() * layout_.node_size);
  for (std::size_t r = 0; r < roots_.size(); ++r) {
    storage_.read(static_cast<std::size_t>(roots_[r]) * layout_.node_size, copies.data() + r * layout_.node_size,
                  layout_.node_size);
  }
  append(copies);
  std::vector<std::int32_t> numbers;
  const std::size_t n_nodes = static_cast<std::size_t>(n_items_) + n_tree_nodes_;
  for (std::size_t r = 0; r < roots_.size(); ++r) {
    numbers.push_back(static_cast<std::int32_t>(n_nodes - roots_.size() + r));
  }
  return numbers;
}

}  // namespace dask_annoy
