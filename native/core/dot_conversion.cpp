#include "core/dot_conversion.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/errors.hpp"
#include "core/forest_check.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
constexpr std::int32_t kMostNodes = std::numeric_limits<std::int32_t>::max();

}  // namespace

void copy_item(const NodeView& item, const Layout& layout, char* node) {
  std::memset(node, 0, layout.node_size);
  if (item.n_descendants() != 1) return;  // a hole may hold what its writer made of a vector of zeros
  NodeWriter writer(node, layout);
  writer.set_n_descendants(1);
  // No search reads the extra dimension of an item, so one that cannot be is better left out: see parse_forest.
  if (std::isfinite(item.scalar()) && item.scalar() > 0.0f) writer.set_scalar(item.scalar());
  std::memcpy(node + layout.vector_offset, item.vector(), layout.vector_bytes());
}

DotConversion::DotConversion(const Forest& forest)
    : forest_(forest),
      layout_(Layout::of(Metric::dot, forest.layout.width)),
      n_nodes_(static_cast<std::size_t>(forest.n_items)),
      numbers_(forest.n_nodes - static_cast<std::size_t>(forest.n_items)) {
  for (const std::int32_t root : forest_.roots) number_tree(root);
  twice_ = forest_.n_items <= layout_.list_capacity ||
           (!is_list(forest_.roots.back()) && is_whole_tree(forest_, forest_.roots.back()));
  const std::size_t n_roots = forest_.roots.size();
  take_numbers(static_cast<std::int32_t>(n_roots));
  if (twice_) take_numbers(static_cast<std::int32_t>(n_roots));
}

bool DotConversion::is_list(std::int32_t id) const {
  return forest_.node(id).n_descendants() <= forest_.layout.list_capacity;
}

bool DotConversion::is_parted(std::int32_t id) const {
  return is_list(id) && forest_.node(id).n_descendants() > layout_.list_capacity;
}

std::int32_t DotConversion::new_number(std::int32_t id) const {
  return id < forest_.n_items ? id : numbers_[static_cast<std::size_t>(id - forest_.n_items)];
}

std::int32_t DotConversion::take_numbers(std::int32_t count) {
  const std::size_t first = n_nodes_;
  n_nodes_ += static_cast<std::size_t>(count);
  if (n_nodes_ > static_cast<std::size_t>(kMostNodes)) {
    throw StateError("in the nodes of Annoy 1.17.3 the forest would have more than 2^31 - 1 of them");
  }
  return static_cast<std::int32_t>(first);
}

// Depth first, with a stack of its own; the nodes below a root, in reverse, have children before parents.
void DotConversion::number_tree(std::int32_t root) {
  const auto begin = static_cast<std::ptrdiff_t>(order_.size());
  std::vector<std::int32_t> waiting;
  const auto meet = [&](std::int32_t id) {
    if (is_list(id)) return;
    for (const int side : {0, 1}) {
      const std::int32_t child = forest_.node(id).child(side);
      if (child >= forest_.n_items) waiting.push_back(child);
    }
  };
  if (is_parted(root)) order_.push_back(root);
  for (meet(root); !waiting.empty();) {
    const std::int32_t id = waiting.back();
    waiting.pop_back();
    order_.push_back(id);
    meet(id);
  }
  std::reverse(order_.begin() + begin, order_.end());
  for (auto id = order_.begin() + begin; id != order_.end(); ++id) {
    if (is_root(*id)) {
      number(*id) = take_numbers(2);
    } else if (is_parted(*id)) {
      number(*id) = take_numbers(3) + 2;  // the split comes after its lists
    } else {
      number(*id) = take_numbers(1);
    }
  }
}

// Collects nodes and hands them on in larger pieces.
class DotConversion::Writer {
 public:
  Writer(const DotConversion& conversion, const ByteSink& sink)
      : c_(conversion), layout_(c_.layout_), sink_(sink), most_(std::max<std::size_t>(1, kBlockBytes / node_size())) {}

  void item(std::int32_t id) { copy_item(c_.forest_.node(id), layout_, next()); }

  void inner(std::int32_t id) {
    const NodeView node = c_.forest_.node(id);
    const std::int32_t n = node.n_descendants();
    if (!c_.is_parted(id)) return top(id, n == c_.forest_.n_items ? kMostNodes : n);
    const std::int32_t half = n / 2;
    list(half, node.list(), half);
    list(n - half, node.list() + half, n - half);
    if (!c_.is_root(id)) top(id, n == c_.forest_.n_items ? kMostNodes : n);
  }

  void root(std::int32_t id) { top(id, c_.forest_.n_items); }

  void flush() {
    if (!block_.empty()) sink_(block_.data(), block_.size());
    block_.clear();
  }

 private:
  std::size_t node_size() const { return layout_.node_size; }

  // A split's own number of descendants says only that it is a split, but no inner one may pass for a root.
  void top(std::int32_t id, std::int32_t n_descendants) {
    const NodeView node = c_.forest_.node(id);
    if (c_.is_list(id) && !c_.is_parted(id)) return list(n_descendants, node.list(), node.n_descendants());
    char* const bytes = next();
    NodeWriter writer(bytes, layout_);
    writer.set_n_descendants(n_descendants);
    if (c_.is_list(id)) {
      const std::int32_t first = c_.new_number(id) - (c_.is_root(id) ? 0 : 2);
      writer.set_child(0, first);
      writer.set_child(1, first + 1);
      return;
    }
    for (const int side : {0, 1}) writer.set_child(side, c_.new_number(node.child(side)));
    // Without the extra dimension: 1.17.3 would add its square to the margin.
    std::memcpy(bytes + layout_.vector_offset, node.vector(), layout_.vector_bytes());
  }

  void list(std::int32_t n_descendants, const std::int32_t* items, std::int32_t n) {
    NodeWriter writer(next(), layout_);
    writer.set_n_descendants(n_descendants);
    std::copy_n(items, n, writer.list());
  }

  // Zeroed; valid until the next one.
  char* next() {
    if (block_.size() == most_ * node_size()) flush();
    block_.resize(block_.size() + node_size(), 0);
    return block_.data() + block_.size() - node_size();
  }

  const DotConversion& c_;
  const Layout& layout_;
  const ByteSink& sink_;
  const std::size_t most_;
  std::vector<char> block_;
};

void DotConversion::write(const ByteSink& sink) const {
  Writer writer(*this, sink);
  for (std::int32_t id = 0; id < forest_.n_items; ++id) writer.item(id);
  for (const std::int32_t id : order_) writer.inner(id);
  for (int copy = twice_ ? 2 : 1; copy > 0; --copy) {
    for (const std::int32_t root : forest_.roots) writer.root(root);
  }
  writer.flush();
}

}  // namespace dask_annoy
