#include "core/builder.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <utility>
#include <vector>

#include "core/bucket_rows.hpp"
#include "core/dot_planes.hpp"
#include "core/errors.hpp"
#include "core/fixed_point.hpp"
#include "core/top_trees.hpp"
#include "core/tree.hpp"
#include "core/tree_writer.hpp"
#include "kernels/kernels.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
constexpr std::uint64_t kSampleStream = 0x73616d706c650000u;  // apart from the trees' seeds
constexpr std::int32_t kMostNodes = std::numeric_limits<std::int32_t>::max();

std::size_t nodes_in_block(const Layout& layout) { return std::max<std::size_t>(1, kBlockBytes / layout.node_size); }

void write_item(const Layout& layout, const char* vector, char* node) {
  std::memset(node, 0, layout.vector_offset);
  NodeWriter writer(node, layout);
  writer.set_n_descendants(1);
  std::memcpy(node + layout.vector_offset, vector, layout.vector_bytes());
  if (stores_norm(layout.metric)) {
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
  if (highest >= n_items()) storage_->resize(static_cast<std::size_t>(highest + 1) * layout_.node_size);
  try {
    write_items(vectors, stride, count, id_of);
  } catch (...) {
    storage_->resize(static_cast<std::size_t>(n_items()) * layout_.node_size);  // no items that were never written
    throw;
  }
  for (std::size_t i = 0; i < count; ++i) items_.add(static_cast<std::int32_t>(id_of(i)));
}

template <class IdOf>
void ForestBuilder::write_items(const char* vectors, std::size_t stride, std::size_t count, const IdOf& id_of) {
  if (char* in_place = storage_->in_place()) {
    for (std::size_t i = 0; i < count; ++i) {
      write_item(layout_, vectors + i * stride, in_place + static_cast<std::size_t>(id_of(i)) * layout_.node_size);
    }
    return;
  }
  // Runs of numbers in sequence are written in one piece.
  const std::size_t most = nodes_in_block(layout_);
  std::vector<char> block(std::min(most, std::max<std::size_t>(count, 1)) * layout_.node_size);
  for (std::size_t begin = 0; begin < count;) {
    std::size_t end = begin + 1;
    while (end < count && end - begin < most && id_of(end) == id_of(end - 1) + 1) ++end;
    const std::size_t bytes = (end - begin) * layout_.node_size;
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
float ForestBuilder::lift_items(Cancellation& cancellation) {
  const std::size_t most = nodes_in_block(layout_);
  std::vector<char> block(most * layout_.node_size);
  const auto each_block = [&](auto&& visit) {
    for (std::size_t begin = 0; begin < static_cast<std::size_t>(n_items()); begin += most) {
      cancellation.check();
      const std::size_t count = std::min(most, static_cast<std::size_t>(n_items()) - begin);
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

namespace {

std::uint64_t seed_of_tree(std::uint64_t seed, std::size_t tree) { return combine(seed, tree); }

// Rows spread evenly over the items, one from each stretch of them.
std::vector<std::int32_t> sampled_numbers(const ItemSet& items, std::size_t n, std::uint64_t seed) {
  std::vector<std::size_t> ranks(n);
  Random random(combine(seed, kSampleStream));
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t begin = i * items.count() / n;
    ranks[i] = begin + random.below((i + 1) * items.count() / n - begin);
  }
  return items.at_ranks(ranks);
}

// Splitters and growers keep large buffers, so each thread of a build takes one that is free.
template <class T>
class Pool {
 public:
  template <class Make, class Use>
  void with(const Make& make, const Use& use) {
    std::unique_ptr<T> one;
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        one = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (!one) one = make();
    use(*one);
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(one));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> free_;
};

struct Worker {
  Worker(const PlaneFamily& family, std::int32_t n_items, Cancellation& cancellation)
      : grower(family, n_items, cancellation), rows(family.layout) {}

  Grower grower;
  RowBlock rows;
};

}  // namespace

void ForestBuilder::read_rows(const std::vector<std::int32_t>& numbers, RowBlock& rows) const {
  rows.resize(numbers.size());
  std::vector<char> node(layout_.node_size);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    read_item(numbers[i], node.data());
    rows.put(i, numbers[i], NodeView(node.data(), layout_));
  }
}

PlaneFamily ForestBuilder::family_for(const BuildSettings& settings, Cancellation& cancellation) {
  PlaneFamily family{layout_};
  if (layout_.metric != Metric::dot) return family;
  const float largest = lift_items(cancellation);
  bool lifted = settings.dot_planes == DotPlanes::lifted;
  if (settings.dot_planes == DotPlanes::chosen) {
    const std::size_t n = std::min(items_.count(), rows_to_choose_planes_on(layout_));
    RowBlock rows(layout_);
    read_rows(sampled_numbers(items_, n, settings.seed), rows);
    lifted = lifting_finds_more(rows, settings.seed, cancellation);
  }
  if (lifted) family.lifted_to = largest;
  return family;
}

Forest ForestBuilder::build(const BuildSettings& settings, Cancellation& cancellation) {
  require_tree_count(settings.n_trees);
  const BucketPlan plan = BucketPlan::of(layout_, items_.count());
  const BuildTask task{layout_,
                       items_.count(),
                       static_cast<std::size_t>(n_items()),
                       trees_at_once(settings.n_trees, settings.n_threads),
                       settings.n_threads,
                       !storage_->path().empty()};
  const BuildArrangement arrangement = arrange_build(task, plan, settings.working_bytes);
  try {
    const PlaneFamily family = family_for(settings, cancellation);
    RowBlock sample(layout_);
    read_rows(sampled_numbers(items_, plan.n_sampled, settings.seed), sample);

    storage_->reserve(expected_file_bytes(layout_, static_cast<std::size_t>(n_items()), settings.n_trees));
    std::shared_mutex moving;
    TreeWriter writer(layout_, n_items(), *storage_, moving, kPartsWaiting * arrangement.n_threads);
    writer.stop_after(settings.n_trees);
    grow(settings, arrangement, family, plan, sample, writer, moving, cancellation);

    Forest forest;
    forest.layout = layout_;
    forest.roots = writer.copy_roots();
    forest.mapping = storage_->mapping();
    forest.nodes =
        forest.mapping ? std::shared_ptr<const char>(forest.mapping, forest.mapping->data()) : storage_->bytes();
    forest.n_nodes = storage_->size() / layout_.node_size;
    forest.n_items = n_items();
    forest.has_holes = items_.has_holes();
    return forest;
  } catch (...) {
    unbuild();
    throw;
  }
}

void ForestBuilder::grow(const BuildSettings& settings, const BuildArrangement& arrangement, const PlaneFamily& family,
                         const BucketPlan& plan, const RowBlock& sample, TreeWriter& writer, std::shared_mutex& moving,
                         Cancellation& cancellation) const {
  std::optional<ItemsInPlace> items;
  std::optional<File> scratch;
  if (!plan.one_bucket()) {
    if (arrangement.in_place) {
      items.emplace(*storage_, moving);
    } else {
      scratch.emplace(File::scratch_beside(storage_->path()));
    }
  }
  std::optional<FixedPoint> rounding;
  std::optional<FixedItems> fixed;
  if (!plan.one_bucket()) {
    const auto n = static_cast<std::size_t>(n_items());
    rounding = FixedPoint::learn(family, sample, *storage_, n, arrangement.n_threads, cancellation);
    if (rounding && arrangement.fixed_point) {
      fixed.emplace(*rounding, layout_, items->nodes(), n, arrangement.n_threads, cancellation);
    }
  }
  Pool<Worker> workers;
  const auto make_worker = [&] { return std::make_unique<Worker>(family, n_items(), cancellation); };

  for (std::size_t first = 0; !writer.enough();) {
    std::size_t group = arrangement.n_trees;
    if (settings.n_trees != -1) group = std::min(group, static_cast<std::size_t>(settings.n_trees) - first);
    std::vector<std::optional<TopTree>> made(group);
    parallel_for(group, arrangement.n_threads, cancellation, [&](std::size_t t) {
      Splitter splitter(family);
      made[t].emplace(sample, plan, seed_of_tree(settings.seed, first + t), splitter, cancellation);
    });
    std::vector<TopTree> tops;
    for (auto& top : made) tops.push_back(std::move(*top));

    std::unique_ptr<BucketRows> buckets;
    if (!plan.one_bucket()) {
      buckets = items ? route_in_place(layout_, *items, rounding ? &*rounding : nullptr, fixed ? &*fixed : nullptr,
                                       items_, tops, arrangement.n_threads, cancellation)
                      : route_to_scratch(layout_, *storage_, rounding ? &*rounding : nullptr, items_, tops, *scratch,
                                         arrangement.buffer_bytes, arrangement.n_threads, cancellation);
    }
    std::vector<TreeOutline> outlines;
    std::vector<std::pair<std::size_t, std::size_t>> parts;  // (tree, part) in the order of the file
    for (std::size_t t = 0; t < group; ++t) {
      std::vector<std::size_t> counts(tops[t].n_buckets(), sample.count());
      if (buckets) {
        for (std::size_t b = 0; b < counts.size(); ++b) counts[b] = buckets->count(t, b);
      }
      outlines.push_back(TreeOutline::of(tops[t], counts, layout_));
      for (std::size_t p = 0; p < outlines[t].parts.size(); ++p) parts.emplace_back(t, p);
    }
    writer.begin_group(tops, outlines);
    parallel_for(parts.size(), arrangement.n_threads, cancellation, [&](std::size_t i) {
      if (writer.enough()) return;
      const auto [t, p] = parts[i];
      const TreeOutline::Part& part = outlines[t].parts[p];
      workers.with(make_worker, [&](Worker& worker) {
        const bool is_root = outlines[t].splits.empty();
        if (!buckets) {
          writer.take(i, worker.grower.grow(sample, part.seed, is_root), cancellation);
          return;
        }
        auto held = buckets->hold();
        buckets->read(t, part.first_bucket, part.last_bucket, worker.rows);
        Subtree grown = worker.grower.grow(worker.rows, part.seed, is_root);
        if (held) held.unlock();  // the writer may have to move the items
        writer.take(i, std::move(grown), cancellation);
      });
    });
    first += group;
  }
}

void ForestBuilder::unbuild() { storage_->resize(static_cast<std::size_t>(n_items()) * layout_.node_size); }

// Cycle by cycle, so that no second copy of the items is needed.
void ForestBuilder::reorder(const std::vector<std::int32_t>& order) {
  std::vector<bool> done(order.size());
  std::vector<char> first(layout_.node_size), node(layout_.node_size);
  const auto write = [&](std::size_t id, const std::vector<char>& from) {
    storage_->write(id * layout_.node_size, from.data(), from.size());
  };
  for (std::size_t start = 0; start < order.size(); ++start) {
    if (done[start] || order[start] == static_cast<std::int32_t>(start)) continue;
    read_item(static_cast<std::int32_t>(start), first.data());
    std::size_t at = start;
    while (static_cast<std::size_t>(order[at]) != start) {
      read_item(order[at], node.data());
      write(at, node);
      done[at] = true;
      at = static_cast<std::size_t>(order[at]);
    }
    write(at, first);
    done[at] = true;
  }
}

}  // namespace dask_annoy
