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

class Walk {
 public:
  Walk(const Forest& forest, const Query& query, Scratch& scratch)
      : forest_(forest), query_(query), scratch_(scratch) {
    const std::size_t words = (static_cast<std::size_t>(forest.n_items) + 63) / 64;
    if (scratch.seen.size() < words) scratch.seen.resize(words, 0);
    scratch.candidates.clear();
    scratch.queue.clear();
    const float start = is_binary(forest.layout.metric) ? 0.0f : std::numeric_limits<float>::infinity();
    for (const std::int32_t root : forest.roots) push(start, root);
  }

  ~Walk() {
    for (const std::int32_t id : scratch_.candidates) scratch_.seen[static_cast<std::size_t>(id) / 64] = 0;
  }

  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;

  // Collects the distinct candidates of the budget.
  void run(std::size_t budget) {
    std::size_t met = 0;
    std::vector<Visit>& queue = scratch_.queue;
    while (met < budget && !queue.empty()) {
      std::pop_heap(queue.begin(), queue.end());
      const Visit visit = queue.back();
      queue.pop_back();
      const NodeView node = forest_.node(visit.node);
      const std::int32_t n = node.n_descendants();
      if (visit.node < forest_.n_items) {
        if (n == 1) {
          meet(visit.node);
          ++met;
        }
      } else if (n <= forest_.layout.list_capacity) {
        const std::int32_t* items = node.list();
        for (std::int32_t i = 0; i < n; ++i) meet(items[i]);
        met += static_cast<std::size_t>(n);
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
    scratch_.queue.push_back({priority, node});
    std::push_heap(scratch_.queue.begin(), scratch_.queue.end());
  }

  void meet(std::int32_t item) {
    std::uint64_t& word = scratch_.seen[static_cast<std::size_t>(item) / 64];
    const std::uint64_t bit = std::uint64_t{1} << (item % 64);
    if ((word & bit) != 0) return;
    scratch_.candidates.push_back(item);  // first: it may throw, and what is marked must be listed
    word |= bit;
  }

  const Forest& forest_;
  const Query& query_;
  Scratch& scratch_;
};

void drop_holes(const Forest& forest, std::vector<std::int32_t>& items) {
  items.erase(std::remove_if(items.begin(), items.end(),
                             [&](std::int32_t id) { return forest.node(id).n_descendants() != 1; }),
              items.end());
}

}  // namespace

const std::vector<Neighbor>& search(const Forest& forest, const void* vector, std::size_t n, std::int64_t search_k) {
  Scratch& scratch = thread_scratch();
  const Query query = Query::of(forest.layout, vector);
  if (search_k == -1) search_k = default_search_k(forest, n);
  scratch.best.reset(n);
  {
    Walk walk(forest, query, scratch);
    walk.run(static_cast<std::size_t>(search_k));
    const std::size_t n_candidates = scratch.candidates.size();
    scratch.distances.resize(n_candidates);
    std::vector<std::int32_t>* items = &scratch.candidates;
    std::vector<std::int32_t> real_items;
    if (forest.has_holes) {
      real_items = scratch.candidates;  // the walk still needs its own to clean up
      drop_holes(forest, real_items);
      items = &real_items;
    }
    score_nodes(forest.layout, query,
                RowSet{forest.nodes.get(), forest.layout.node_size, items->data(), items->size()},
                scratch.distances.data());
    for (std::size_t i = 0; i < items->size(); ++i) scratch.best.offer(scratch.distances[i], (*items)[i]);
  }
  return scratch.best.sorted();
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
  constexpr std::size_t kBlock = 16;  // queries a thread takes at a time: small, as their costs differ
  const std::size_t n_blocks = (n_queries + kBlock - 1) / kBlock;
  parallel_for(n_blocks, n_threads, cancellation, [&](std::size_t block) {
    const std::size_t end = std::min(n_queries, (block + 1) * kBlock);
    for (std::size_t q = block * kBlock; q < end; ++q) {
      cancellation.check();
      write_answer(forest.layout.metric, search(forest, queries + q * stride, n, search_k), n, ids + q * n,
                   distances + q * n);
    }
  });
}

}  // namespace dask_annoy
