// Exact search: all queries against all rows, tile by tile.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "core/forest.hpp"
#include "core/item_filter.hpp"
#include "core/parallel.hpp"
#include "core/tile_scoring.hpp"
#include "core/topk.hpp"

namespace dask_annoy {

// Queries that a thread takes at a time: as many as stay in the second-level cache, but no fewer tasks than threads.
std::size_t queries_of_task(const Layout& layout, std::size_t n_queries, std::size_t n_threads);

// Offers all rows to each query's best. fill(tile, position) adds rows to the empty tile, from `position` on (0 at
// first), and returns the position after them; it adds none once there are no more. It is called by several threads.
template <class Fill>
void scan_exactly(const Layout& layout, const PackedQueries& queries, std::vector<TopK>& best, std::size_t n_threads,
                  Cancellation& cancellation, const Fill& fill) {
  const std::size_t at_once = queries_of_task(layout, queries.count(), n_threads);
  parallel_for((queries.count() + at_once - 1) / at_once, n_threads, cancellation, [&](std::size_t task) {
    std::vector<std::uint32_t> which(std::min(at_once, queries.count() - task * at_once));
    std::iota(which.begin(), which.end(), static_cast<std::uint32_t>(task * at_once));
    RowTile tile(layout);
    TileScorer scorer(layout);
    for (std::size_t position = fill(tile, 0); tile.count() > 0; position = fill(tile, position)) {
      cancellation.check();
      scorer.score(tile, queries, which.data(), which.size(), [&](std::uint32_t q) -> TopK& { return best[q]; });
      tile.clear();
    }
  });
}

// The n nearest of all items (with a filter: of those that pass) for each query: what search_batch() without bound
// gives, arguments and answers as there.
void search_exact_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries,
                        std::size_t n, std::size_t n_threads, Cancellation& cancellation, std::int64_t* ids,
                        float* distances, const ItemFilter* filter = nullptr);

}  // namespace dask_annoy
