#include "core/search.hpp"

#include <algorithm>
#include <limits>

#include "core/scoring.hpp"
#include "core/walk.hpp"

namespace dask_annoy {

namespace {

// Annoy's default budget, without its overflow at 2^31.
std::int64_t default_search_k(const Forest& forest, std::size_t n) {
  const std::size_t roots = forest.roots.size();
  constexpr auto kMost = static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max());
  return static_cast<std::int64_t>(roots > 0 && n > kMost / roots ? kMost : n * roots);
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

const std::vector<Neighbor>& search(const Forest& forest, const void* vector, std::size_t n, std::int64_t search_k,
                                    const ItemFilter* filter) {
  const BorrowedScratch borrowed;
  Scratch& scratch = *borrowed;
  const Query query = Query::of(forest.layout, vector);
  if (search_k == -1) search_k = default_search_k(forest, n);
  const auto budget = static_cast<std::size_t>(search_k);
  scratch.best.reset(n);
  const auto offer = [&](const std::vector<std::int32_t>& items) {
    for (std::size_t begin = 0; begin < items.size(); begin += kScoredAtOnce) {
      const std::int32_t* const block = items.data() + begin;
      const std::size_t count = std::min(kScoredAtOnce, items.size() - begin);
      scratch.distances.resize(count);
      score_nodes(forest.layout, query, RowSet{forest.nodes.get(), forest.layout.node_size, block, count},
                  scratch.distances.data());
      for (std::size_t i = 0; i < count; ++i) scratch.best.offer(scratch.distances[i], block[i]);
    }
  };
  if (filter != nullptr && budget > 0 && better_scanned(forest, *filter, budget)) {
    each_block(*filter, kScoredAtOnce, scratch.candidates, offer);
    return scratch.best.sorted();
  }
  SeenItems seen(forest, scratch);
  if (filter != nullptr) {
    meet_items(forest, query, budget, [&](std::int32_t item) { return filter->passes(item); }, scratch.queue, seen);
    offer(seen.items());
  } else {
    meet_items(forest, query, budget, AnyItem{}, scratch.queue, seen);
    std::vector<std::int32_t> without_holes;
    offer(present(forest, seen.items(), without_holes));
  }
  return scratch.best.sorted();
}

void budgets_to_find(const Forest& forest, const void* vector, const std::int64_t* targets, std::size_t n_targets,
                     std::int64_t* budgets) {
  const BorrowedScratch borrowed;
  Scratch& scratch = *borrowed;
  const Query query = Query::of(forest.layout, vector);
  SeenItems wanted(forest, scratch);
  for (std::size_t t = 0; t < n_targets; ++t) {
    budgets[t] = -1;
    if (targets[t] < 0 || targets[t] >= forest.n_items) continue;
    const auto item = static_cast<std::int32_t>(targets[t]);
    // The list of a root over holes is filled up with zeros, so item 0 may be met and yet be a hole.
    if (forest.node(item).n_descendants() == 1) wanted.add(&item, 1, AnyItem{});
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
                  float* distances, const ItemFilter* filter) {
  each_query(n_queries, n_threads, cancellation, [&](std::size_t q) {
    write_answer(forest.layout.metric, search(forest, queries + q * stride, n, search_k, filter), n, ids + q * n,
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
