#include "core/search.hpp"

#include <algorithm>
#include <limits>

#include "core/scoring.hpp"

namespace dask_annoy {

namespace {

struct Visit {
  float priority;
  std::int32_t node;

  friend bool operator<(const Visit& a, const Visit& b) {
    return a.priority < b.priority || (a.priority == b.priority && a.node < b.node);
  }
};

// What a search needs, kept by each thread so that a query allocates nothing once it is warm.
struct Scratch {
  std::vector<Visit> queue;
  std::vector<std::int32_t> candidates;
  std::vector<std::uint64_t> seen;  // one bit an item; all zero between searches
  std::vector<float> distances;
  TopK best;
};

Scratch& thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

// Annoy's default budget, without its overflow at 2^31.
std::int64_t default_search_k(const Forest& forest, std::size_t n) {
  const std::size_t roots = forest.roots.size();
  constexpr auto kMost = static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max());
  return static_cast<std::int64_t>(roots > 0 && n > kMost / roots ? kMost : n * roots);
}

float plane_margin(const Layout& layout, const NodeView& split, const Query& query) {
  switch (layout.metric) {
    case Metric::hamming:
      return bit_of_split(query.bits, split.bits()[0]) ? 1.0f : 0.0f;
    case Metric::euclidean:
    case Metric::manhattan:
      return split.scalar() + kernels().dot(split.vector(), query.values, layout.width);
    case Metric::dot: {
      // The square of the extra dimension is what Annoy 1.17.3 adds; files of ours hold 0 there.
      const float extra = split.scalar();
      return kernels().dot(split.vector(), query.values, layout.width) + extra * extra;
    }
    case Metric::angular:
      return kernels().dot(split.vector(), query.values, layout.width);
  }
  return 0.0f;
}

// How promising a child is: the least margin on the way to it, or for bits minus the number of wrong turns.
float child_priority(Metric metric, float parent, float margin, int side) {
  if (metric == Metric::hamming) return parent - (margin == static_cast<float>(side) ? 0.0f : 1.0f);
  return std::min(parent, side == 1 ? margin : -margin);
}

// Walks all trees best-first and hands the item numbers of each leaf to a visitor.
class Walk {
 public:
  Walk(const Forest& forest, const Query& query, std::vector<Visit>& queue)
      : forest_(forest), query_(query), queue_(queue) {
    queue_.clear();
    const float start = is_binary(forest.layout.metric) ? 0.0f : std::numeric_limits<float>::infinity();
    for (const std::int32_t root : forest.roots) push(start, root);
  }

  // Calls meet(items, n) until it says false or nothing is left.
  template <class Meet>
  void run(Meet&& meet) {
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end());
      const Visit visit = queue_.back();
      queue_.pop_back();
      const NodeView node = forest_.node(visit.node);
      const std::int32_t n = node.n_descendants();
      if (visit.node < forest_.n_items) {
        if (n == 1 && !meet(&visit.node, std::size_t{1})) return;
      } else if (n <= forest_.layout.list_capacity) {
        if (!meet(node.list(), static_cast<std::size_t>(n))) return;
      } else {
        const float margin = plane_margin(forest_.layout, node, query_);
        for (const int side : {1, 0}) {
          push(child_priority(forest_.layout.metric, visit.priority, margin, side), node.child(side));
        }
      }
    }
  }

 private:
  void push(float priority, std::int32_t node) {
    queue_.push_back({priority, node});
    std::push_heap(queue_.begin(), queue_.end());
  }

  const Forest& forest_;
  const Query& query_;
  std::vector<Visit>& queue_;
};

// The set of items a search has met: one bit an item, cleaned up by the list of those that were set.
class SeenItems {
 public:
  SeenItems(const Forest& forest, Scratch& scratch) : words_(scratch.seen), items_(scratch.candidates) {
    const std::size_t n_words = (static_cast<std::size_t>(forest.n_items) + 63) / 64;
    if (words_.size() < n_words) words_.resize(n_words, 0);
    items_.clear();
  }

  ~SeenItems() {
    for (const std::int32_t id : items_) words_[static_cast<std::size_t>(id) / 64] = 0;
  }

  SeenItems(const SeenItems&) = delete;
  SeenItems& operator=(const SeenItems&) = delete;

  void add(std::int32_t item) {
    if (contains(item)) return;
    items_.push_back(item);  // first: it may throw, and what is marked must be listed
    words_[static_cast<std::size_t>(item) / 64] |= std::uint64_t{1} << (item % 64);
  }

  bool contains(std::int32_t item) const {
    return (words_[static_cast<std::size_t>(item) / 64] >> (item % 64) & 1) != 0;
  }

  const std::vector<std::int32_t>& items() const { return items_; }

 private:
  std::vector<std::uint64_t>& words_;
  std::vector<std::int32_t>& items_;
};

void drop_holes(const Forest& forest, std::vector<std::int32_t>& items) {
  items.erase(
      std::remove_if(items.begin(), items.end(), [&](std::int32_t id) { return forest.node(id).n_descendants() != 1; }),
      items.end());
}

// Spreads queries over threads.
template <class Body>
void each_query(std::size_t n_queries, std::size_t n_threads, Cancellation& cancellation, const Body& body) {
  constexpr std::size_t kBlock = 16;  // queries a thread takes at a time: few, as their costs differ
  parallel_for((n_queries + kBlock - 1) / kBlock, n_threads, cancellation, [&](std::size_t block) {
    const std::size_t end = std::min(n_queries, (block + 1) * kBlock);
    for (std::size_t q = block * kBlock; q < end; ++q) {
      cancellation.check();
      body(q);
    }
  });
}

}  // namespace

const std::vector<Neighbor>& search(const Forest& forest, const void* vector, std::size_t n, std::int64_t search_k) {
  Scratch& scratch = thread_scratch();
  const Query query = Query::of(forest.layout, vector);
  if (search_k == -1) search_k = default_search_k(forest, n);
  scratch.best.reset(n);
  SeenItems seen(forest, scratch);
  const auto budget = static_cast<std::size_t>(search_k);
  std::size_t met = 0;
  if (budget > 0) {
    Walk(forest, query, scratch.queue).run([&](const std::int32_t* items, std::size_t count) {
      for (std::size_t i = 0; i < count; ++i) seen.add(items[i]);
      met += count;
      return met < budget;
    });
  }
  const std::vector<std::int32_t>* items = &seen.items();
  std::vector<std::int32_t> without_holes;
  if (forest.has_holes) {
    without_holes = seen.items();
    drop_holes(forest, without_holes);
    items = &without_holes;
  }
  scratch.distances.resize(items->size());
  score_nodes(forest.layout, query, RowSet{forest.nodes.get(), forest.layout.node_size, items->data(), items->size()},
              scratch.distances.data());
  for (std::size_t i = 0; i < items->size(); ++i) scratch.best.offer(scratch.distances[i], (*items)[i]);
  return scratch.best.sorted();
}

void budgets_to_find(const Forest& forest, const void* vector, const std::int64_t* targets, std::size_t n_targets,
                     std::int64_t* budgets) {
  Scratch& scratch = thread_scratch();
  const Query query = Query::of(forest.layout, vector);
  SeenItems wanted(forest, scratch);
  for (std::size_t t = 0; t < n_targets; ++t) {
    budgets[t] = -1;
    if (targets[t] < 0 || targets[t] >= forest.n_items) continue;
    const auto item = static_cast<std::int32_t>(targets[t]);
    // The list of a root over holes is filled up with zeros, so item 0 may be met and yet be a hole.
    if (forest.node(item).n_descendants() == 1) wanted.add(item);
  }
  std::size_t missing = wanted.items().size();
  if (missing == 0) return;
  std::int64_t met = 0;
  const auto find = [&](std::int32_t item) {
    bool first_time = false;
    for (std::size_t t = 0; t < n_targets; ++t) {
      if (targets[t] != item || budgets[t] >= 0) continue;
      budgets[t] = met + 1;  // the search goes on to this leaf while it has met fewer than its budget
      first_time = true;
    }
    if (first_time) --missing;
  };
  Walk(forest, query, scratch.queue).run([&](const std::int32_t* items, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      if (wanted.contains(items[i])) find(items[i]);
    }
    met += static_cast<std::int64_t>(count);
    return missing > 0;
  });
}

void write_answer(Metric metric, const std::vector<Neighbor>& neighbors, std::size_t n, std::int64_t* ids,
                  float* distances) {
  for (std::size_t i = 0; i < n; ++i) {
    const bool found = i < neighbors.size();
    ids[i] = found ? neighbors[i].id : -1;
    distances[i] = found ? returned_distance(metric, neighbors[i].distance) : missing_distance(metric);
  }
}

void search_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries, std::size_t n,
                  std::int64_t search_k, std::size_t n_threads, Cancellation& cancellation, std::int64_t* ids,
                  float* distances) {
  each_query(n_queries, n_threads, cancellation, [&](std::size_t q) {
    write_answer(forest.layout.metric, search(forest, queries + q * stride, n, search_k), n, ids + q * n,
                 distances + q * n);
  });
}

void budgets_to_find_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries,
                           const std::int64_t* targets, std::size_t n_targets, std::size_t n_threads,
                           Cancellation& cancellation, std::int64_t* budgets) {
  each_query(n_queries, n_threads, cancellation, [&](std::size_t q) {
    budgets_to_find(forest, queries + q * stride, targets + q * n_targets, n_targets, budgets + q * n_targets);
  });
}

}  // namespace dask_annoy
