// Batches over a forest's trees, leaf by leaf: all queries of a batch are walked first, then each leaf's items are read
// once and scored against all queries that came to it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/forest.hpp"
#include "core/item_filter.hpp"
#include "core/parallel.hpp"

namespace dask_annoy {

// What a batch may hold for each thread at a time.
struct LeafBatchBounds {
  std::size_t visits = std::size_t{1} << 21;     // of a query to a leaf: 16 MB, and twice more while they are grouped
  std::size_t neighbors = std::size_t{1} << 22;  // kept for answers: 64 MB
};

// Arguments and answers are those of search_batch(), to the last bit: the same candidates, distances and order. The
// bounds change no answer; beyond them a batch only holds a copy of the queries.
void search_leaves_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries,
                         std::size_t n, std::int64_t search_k, std::size_t n_threads, Cancellation& cancellation,
                         std::int64_t* ids, float* distances, const ItemFilter* filter = nullptr,
                         const LeafBatchBounds& bounds = {});

// How many queries come to a leaf on the average, with this budget (search_budget()'s).
double queries_per_leaf(const Forest& forest, std::size_t n_queries, std::size_t budget);

// What a candidate costs beyond the walk, in nanoseconds of one processor: where each query reads its own candidates,
// and leaf by leaf. For any metric but hamming, whose leaves hold too few items to be worth gathering.
double nanoseconds_of_candidate(const Layout& layout);
double nanoseconds_of_candidate_by_leaves(const Layout& layout, double sharing);  // queries a leaf

// Whether a batch is answered faster leaf by leaf than query by query.
bool leaf_batch_pays(const Forest& forest, std::size_t n_queries, std::size_t budget);

}  // namespace dask_annoy
