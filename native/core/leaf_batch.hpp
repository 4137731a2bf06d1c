// Batches over a forest's trees, leaf by leaf: all queries of a batch are walked first, then each leaf's items are read
// once and scored against all queries that came to it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/forest.hpp"
#include "core/item_filter.hpp"
#include "core/parallel.hpp"

namespace dask_annoy {

// Arguments and answers are those of search_batch(), to the last bit: the same candidates, distances and order. Holds 8
// bytes for each visit of a query to a leaf, up to 64 MB a thread at a time, a copy of the queries, and up to three
// neighbours for each that is wanted.
void search_leaves_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries,
                         std::size_t n, std::int64_t search_k, std::size_t n_threads, Cancellation& cancellation,
                         std::int64_t* ids, float* distances, const ItemFilter* filter = nullptr);

}  // namespace dask_annoy
