#include "core/dot_planes.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <vector>

#include "core/builder.hpp"
#include "core/scoring.hpp"
#include "core/search.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kMostBytes = std::size_t{4} << 20;
constexpr std::size_t kMostRows = 4000;
constexpr std::size_t kFewestRows = 256;
constexpr std::size_t kQueries = 200;
constexpr std::size_t kNeighbors = 10;
constexpr int kTrees = 10;
constexpr std::int64_t kShareOfRows = 20;  // one in so many rows is looked at

const char* vector_of(const RowBlock& rows, std::size_t row) { return reinterpret_cast<const char*>(rows.floats(row)); }

std::size_t query_row(const RowBlock& rows, std::size_t query, std::size_t n_queries) {
  return query * rows.count() / n_queries;
}

std::vector<Neighbor> exact(const RowBlock& rows, std::size_t query) {
  std::vector<std::int32_t> positions(rows.count());
  std::vector<std::int32_t> places(rows.count());
  std::iota(positions.begin(), positions.end(), 0);
  std::vector<float> distances(rows.count());
  score_rows(rows.layout(), Query::of(rows.layout(), vector_of(rows, query)),
             rows.rows(positions.data(), rows.count(), places.data()), nullptr, distances.data());
  TopK best(kNeighbors);
  for (std::size_t r = 0; r < rows.count(); ++r) best.offer(distances[r], static_cast<std::int64_t>(r));
  return best.sorted();
}

}  // namespace

std::size_t rows_to_choose_planes_on(const Layout& layout) {
  return std::clamp(kMostBytes / std::max<std::size_t>(1, layout.vector_bytes()), kFewestRows, kMostRows);
}

bool lifting_finds_more(const RowBlock& rows, std::uint64_t seed, Cancellation& cancellation) {
  const std::size_t n_queries = std::min(kQueries, rows.count());
  const std::int64_t budget = static_cast<std::int64_t>(rows.count()) / kShareOfRows;
  std::size_t found[2] = {0, 0};
  for (const bool lifted : {false, true}) {
    ForestBuilder builder(rows.layout(), memory_storage());
    for (std::size_t r = 0; r < rows.count(); ++r) {
      builder.add(vector_of(rows, r), rows.layout().vector_bytes(), 1, static_cast<std::int32_t>(r), nullptr);
    }
    BuildSettings settings{kTrees, seed};
    settings.dot_planes = lifted ? DotPlanes::lifted : DotPlanes::plain;
    const Forest forest = builder.build(settings, cancellation);
    for (std::size_t q = 0; q < n_queries; ++q) {
      cancellation.check();
      const std::size_t row = query_row(rows, q, n_queries);
      const std::vector<Neighbor> answer = search(forest, vector_of(rows, row), kNeighbors, budget);
      for (const Neighbor& truth : exact(rows, row)) {
        found[lifted] += static_cast<std::size_t>(std::count_if(
            answer.begin(), answer.end(), [&](const Neighbor& neighbor) { return neighbor.id == truth.id; }));
      }
    }
  }
  return found[true] >= found[false];
}

}  // namespace dask_annoy
