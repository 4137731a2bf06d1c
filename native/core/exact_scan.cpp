#include "core/exact_scan.hpp"

#include "core/search.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kQueryBytes = std::size_t{1} << 18;  // half of a small second-level cache
constexpr std::size_t kMostQueries = 2048;

}  // namespace

std::size_t queries_of_task(const Layout& layout, std::size_t n_queries, std::size_t n_threads) {
  const std::size_t in_cache = kQueryBytes / PackedVectors::bytes_of_vector(layout);
  const std::size_t share = (n_queries + n_threads - 1) / std::max<std::size_t>(1, n_threads);
  return std::max<std::size_t>(1, std::min({std::max<std::size_t>(in_cache, 16), kMostQueries, share}));
}

void search_exact_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries,
                        std::size_t n, std::size_t n_threads, Cancellation& cancellation, std::int64_t* ids,
                        float* distances, const ItemFilter* filter) {
  const PackedQueries packed(forest.layout, queries, stride, n_queries);
  std::vector<TopK> best(n_queries, TopK(n));
  const auto n_items = static_cast<std::size_t>(forest.n_items);
  if (n > 0) {
    scan_exactly(forest.layout, packed, best, n_threads, cancellation, [&](RowTile& tile, std::size_t position) {
      for (; position < n_items && !tile.full(); ++position) {
        const auto item = static_cast<std::int32_t>(position);
        if (filter != nullptr && !filter->passes(item)) continue;
        const NodeView node = forest.node(item);
        if (node.n_descendants() == 1) tile.add(node, item);
      }
      return position;
    });
  }
  for (std::size_t q = 0; q < n_queries; ++q) {
    write_answer(forest.layout.metric, best[q].sorted(), n, ids + q * n, distances + q * n);
  }
}

}  // namespace dask_annoy
