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

}  // namespace dask_annoy
