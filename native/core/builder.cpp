#include "core/builder.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <vector>

#include "core/errors.hpp"
#include "kernels/kernels.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
constexpr std::int32_t kMostNodes = std::numeric_limits<std::int32_t>::max();

std::size_t nodes_in_block(const Layout& layout) { return std::max<std::size_t>(1, kBlockBytes / layout.node_size); }

void write_item(const Layout& layout, const char* vector, char* node) {
  NodeWriter writer(node, layout);
  writer.set_n_descendants(1);
  std::memcpy(node + layout.vector_offset, vector, layout.vector_bytes());
  if (layout.metric == Metric::angular) {
    const float* v = NodeView(node, layout).vector();
    writer.set_scalar(kernels().dot(v, v, layout.width));
  }
}

}  // namespace

ForestBuilder::ForestBuilder(const Layout& layout, std::shared_ptr<NodeStorage> storage)
    : layout_(layout), storage_(std::move(storage)) {}

void ForestBuilder::add(const char* vectors, std::size_t stride, std::size_t count, std::int32_t first,
                        const std::int64_t* ids) {
  const auto id_of = [&](std::size_t i) {
    return ids ? ids[i] : static_cast<std::int64_t>(first) + static_cast<std::int64_t>(i);
  };
  std::int64_t highest = -1;
  for (std::size_t i = 0; i < count; ++i) {
    const std::int64_t id = id_of(i);
    if (id < 0) throw std::out_of_range("item number " + std::to_string(id) + " is negative");
    if (id >= kMostNodes) {
      throw std::out_of_range("item number " + std::to_string(id) + " is too large: Annoy's files count to 2^31 - 2");
    }
    highest = std::max(highest, id);
    if (ids == nullptr && i == 0) {
      highest = first + static_cast<std::int64_t>(count) - 1;
      if (highest >= kMostNodes) throw std::out_of_range("Annoy's files hold at most 2^31 - 2 items");
      break;
    }
  }
  const std::int32_t n_items = std::max(n_items_, static_cast<std::int32_t>(highest + 1));
  if (n_items > n_items_) storage_->resize(static_cast<std::size_t>(n_items) * layout_.node_size);
  try {
    write_items(vectors, stride, count, id_of);
  } catch (...) {
    storage_->resize(static_cast<std::size_t>(n_items_) * layout_.node_size);  // no items that were never written
    throw;
  }
  n_items_ = n_items;
}

template <class IdOf>
void ForestBuilder::write_items(const char* vectors, std::size_t stride, std::size_t count, const IdOf& id_of) {
  // Runs of numbers in sequence are written in one piece.
  const std::size_t most = nodes_in_block(layout_);
  std::vector<char> block(std::min(most, std::max<std::size_t>(count, 1)) * layout_.node_size);
  for (std::size_t begin = 0; begin < count;) {
    std::size_t end = begin + 1;
    while (end < count && end - begin < most && id_of(end) == id_of(end - 1) + 1) ++end;
    const std::size_t bytes = (end - begin) * layout_.node_size;
    std::fill(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(bytes), 0);
    for (std::size_t i = begin; i < end; ++i) {
      write_item(layout_, vectors + i * stride, block.data() + (i - begin) * layout_.node_size);
    }
    storage_->write(static_cast<std::size_t>(id_of(begin)) * layout_.node_size, block.data(), bytes);
    begin = end;
  }
}

void ForestBuilder::read_item(std::int32_t id, char* node) const {
  storage_->read(static_cast<std::size_t>(id) * layout_.node_size, node, layout_.node_size);
}

// Gives every item the extra dimension that lifts it to the largest norm (Bachrach et al., "Speeding up the Xbox
// recommender system using a Euclidean transformation for inner-product spaces", RecSys 2014). Returns that norm.
float ForestBuilder::prepare_dot() {
  const std::size_t most = nodes_in_block(layout_);
  std::vector<char> block(most * layout_.node_size);
  const auto each_block = [&](auto&& visit) {
    for (std::size_t begin = 0; begin < static_cast<std::size_t>(n_items_); begin += most) {
      const std::size_t count = std::min(most, static_cast<std::size_t>(n_items_) - begin);
      const std::size_t offset = begin * layout_.node_size;
      storage_->read(offset, block.data(), count * layout_.node_size);
      visit(offset, count);
    }
  };
  const auto squared_norm = [&](const char* node) {
    const float* v = NodeView(node, layout_).vector();
    return kernels().dot(v, v, layout_.width);
  };
  float largest = 0.0f;
  each_block([&](std::size_t, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      largest = std::max(largest, squared_norm(block.data() + i * layout_.node_size));
    }
  });
  each_block([&](std::size_t offset, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      char* node = block.data() + i * layout_.node_size;
      if (NodeView(node, layout_).n_descendants() != 1) continue;
      NodeWriter(node, layout_).set_scalar(std::sqrt(std::max(0.0f, largest - squared_norm(node))));
    }
    storage_->write(offset, block.data(), count * layout_.node_size);
  });
  return std::sqrt(largest);
}

std::vector<std::int32_t> ForestBuilder::present_items(const char* nodes) const {
  std::vector<std::int32_t> ids;
  ids.reserve(static_cast<std::size_t>(n_items_));
  for (std::int32_t id = 0; id < n_items_; ++id) {
    if (NodeView(nodes + static_cast<std::size_t>(id) * layout_.node_size, layout_).n_descendants() == 1) {
      ids.push_back(id);
    }
  }
  return ids;
}

void ForestBuilder::require_room(std::size_t n_nodes) const {
  if (static_cast<std::size_t>(n_items_) + n_tree_nodes_ + n_nodes > static_cast<std::size_t>(kMostNodes)) {
    throw StateError("the forest would have more than 2^31 - 1 nodes; build fewer trees or smaller shards");
  }
}

void ForestBuilder::append(const Tree& tree) {
  const std::size_t before = static_cast<std::size_t>(n_items_) + n_tree_nodes_;
  const std::size_t added = tree.n_nodes(layout_);
  storage_->resize((before + added) * layout_.node_size);
  storage_->write(before * layout_.node_size, tree.nodes.data(), tree.nodes.size());
  n_tree_nodes_ += added;
}

Forest ForestBuilder::build(int n_trees, std::uint64_t seed, std::size_t n_threads, Cancellation& cancellation) {
  if (n_trees < 1 && n_trees != -1) {
    throw std::invalid_argument(
        "n_trees must be a positive number of trees, or -1 for as many as take the room of the items; got " +
        std::to_string(n_trees));
  }
  const float radius = layout_.metric == Metric::dot ? prepare_dot() : 0.0f;
  std::vector<std::size_t> roots;

  // Trees end in any order and are put down in theirs.
  std::mutex mutex;
  std::map<std::size_t, Tree> waiting;
  std::size_t next = 0;
  std::size_t counted = 0;  // tree nodes, with those that wait
  const auto enough = [&] {
    if (n_trees != -1) return next == static_cast<std::size_t>(n_trees);
    return next > 0 && counted >= static_cast<std::size_t>(n_items_);
  };
  const auto put_down = [&](Tree& tree) {
    require_room(tree.n_nodes(layout_));
    tree.place(layout_, n_items_, static_cast<std::int32_t>(n_tree_nodes_));
    append(tree);
    roots.push_back(static_cast<std::size_t>(n_items_) + n_tree_nodes_ - 1);
  };

  try {
    {
      const std::shared_ptr<const char> bytes = storage_->bytes();
      const Items items{layout_, bytes.get(), n_items_, radius};
      const std::vector<std::int32_t> ids = present_items(items.nodes);
      std::vector<Tree> kept;  // until nobody reads, where storage cannot grow before
      while (!enough()) {
        const std::size_t first = next;
        const std::size_t wave = n_trees == -1 ? n_threads : static_cast<std::size_t>(n_trees);
        parallel_for(wave, n_threads, cancellation, [&](std::size_t i) {
          Tree tree = grow_tree(items, ids, combine(seed, first + i), cancellation);
          const std::lock_guard<std::mutex> lock(mutex);
          waiting.emplace(first + i, std::move(tree));
          for (auto it = waiting.find(next); it != waiting.end() && !enough(); it = waiting.find(next)) {
            counted += it->second.n_nodes(layout_);
            if (storage_->grows_while_read()) {
              put_down(it->second);
            } else {
              kept.push_back(std::move(it->second));
            }
            waiting.erase(it);
            ++next;
          }
        });
      }
      waiting.clear();
      for (Tree& tree : kept) {
        put_down(tree);
        tree.nodes = {};
      }
    }
    // Annoy finds the roots by their copies at the end.
    require_room(roots.size());
    Tree copies;
    copies.nodes.resize(roots.size() * layout_.node_size);
    for (std::size_t r = 0; r < roots.size(); ++r) {
      storage_->read(roots[r] * layout_.node_size, copies.nodes.data() + r * layout_.node_size, layout_.node_size);
    }
    append(copies);
  } catch (...) {
    unbuild();
    throw;
  }

  Forest forest;
  forest.layout = layout_;
  forest.nodes = storage_->bytes();
  forest.n_nodes = static_cast<std::size_t>(n_items_) + n_tree_nodes_;
  forest.n_items = n_items_;
  for (std::size_t r = 0; r < roots.size(); ++r) {
    forest.roots.push_back(static_cast<std::int32_t>(forest.n_nodes - roots.size() + r));
  }
  for (std::int32_t id = 0; id < n_items_ && !forest.has_holes; ++id) {
    forest.has_holes = forest.node(id).n_descendants() != 1;
  }
  return forest;
}

void ForestBuilder::unbuild() {
  storage_->resize(static_cast<std::size_t>(n_items_) * layout_.node_size);
  n_tree_nodes_ = 0;
}

}  // namespace dask_annoy
