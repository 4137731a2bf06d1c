// Search of a forest: best-first through all trees at once, then exact distances to what was met.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/forest.hpp"
#include "core/item_filter.hpp"
#include "core/parallel.hpp"
#include "core/topk.hpp"

namespace dask_annoy {

// The candidates, repeats counted, that a search with this search_k is to meet.
std::size_t search_budget(std::size_t n_trees, std::size_t n, std::int64_t search_k);

// The n nearest items that a walk meets before it has met `search_k` item numbers (repeats count, a list counts
// whole; −1 is Annoy's default of n times the trees, other negative numbers mean no bound). Distances in compared form.
// With a filter only what passes is answered and counted, and where that costs less than a walk (at most max(search_k,
// 1000) items pass, or a small share) all of it is scored, so that the answer is exact.
// The result is valid until the next search on this thread.
const std::vector<Neighbor>& search(const Forest& forest, const void* query, std::size_t n, std::int64_t search_k,
                                    const ItemFilter* filter = nullptr);

// The same by a walk, however few pass.
const std::vector<Neighbor>& search_trees(const Forest& forest, const void* query, std::size_t n, std::int64_t search_k,
                                          const ItemFilter* filter = nullptr);

// The n nearest of all items that pass.
const std::vector<Neighbor>& search_exact(const Forest& forest, const void* query, std::size_t n,
                                          const ItemFilter* filter = nullptr);

// Many queries on several threads. Query q is vector q of `queries` (rows of layout.vector_bytes() at least
// `stride` bytes apart); answers go to row q of `ids` and `distances` (n a row, as returned to users), padded with −1
// and the metric's missing distance.
void search_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries, std::size_t n,
                  std::int64_t search_k, std::size_t n_threads, Cancellation& cancellation, std::int64_t* ids,
                  float* distances, const ItemFilter* filter = nullptr);

// The least search_k with which a search for the query meets each of the targets; −1 for a target that no search
// meets (a hole, a number that is no item's). One walk tells what recall any budget would have.
void budgets_to_find(const Forest& forest, const void* query, const std::int64_t* targets, std::size_t n_targets,
                     std::int64_t* budgets);

// The same for many queries, `n_targets` a row.
void budgets_to_find_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries,
                           const std::int64_t* targets, std::size_t n_targets, std::size_t n_threads,
                           Cancellation& cancellation, std::int64_t* budgets);

// Writes one answer as search_batch does.
void write_answer(Metric metric, const std::vector<Neighbor>& neighbors, std::size_t n, std::int64_t* ids,
                  float* distances);

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

}  // namespace dask_annoy
