#include "core/exact.hpp"

#include <algorithm>
#include <cstring>

#include "core/scoring.hpp"
#include "core/search.hpp"

namespace dask_annoy {

namespace {

// Rows that stay in the second-level cache while all queries of a task pass over them.
constexpr std::size_t kTileBytes = std::size_t{1} << 18;
constexpr std::size_t kQueriesOfTask = 16;

}  // namespace

ExactSearch::ExactSearch(const Layout& layout, const char* queries, std::size_t stride, std::size_t count,
                         std::size_t k)
    : layout_(layout), k_(k), queries_(count * layout.vector_bytes()), best_(count, TopK(k)) {
  const std::size_t bytes = layout_.vector_bytes();
  for (std::size_t q = 0; q < count; ++q) std::memcpy(queries_.data() + q * bytes, queries + q * stride, bytes);
}

void ExactSearch::add(const char* rows, std::size_t stride, std::size_t count, std::int64_t first,
                      std::size_t n_threads, Cancellation& cancellation) {
  const std::size_t tile = std::max<std::size_t>(1, kTileBytes / std::max<std::size_t>(1, stride));
  std::vector<float> norms;
  if (stores_norm(layout_.metric)) {
    norms.resize(count);
    for (std::size_t r = 0; r < count; ++r) {
      const auto* row = reinterpret_cast<const float*>(rows + r * stride);
      norms[r] = kernels().dot(row, row, layout_.width);
    }
  }
  const std::size_t n_tasks = (best_.size() + kQueriesOfTask - 1) / kQueriesOfTask;
  parallel_for(n_tasks, n_threads, cancellation, [&](std::size_t task) {
    const std::size_t query_end = std::min(best_.size(), (task + 1) * kQueriesOfTask);
    std::vector<float> distances(std::min(tile, count));
    for (std::size_t begin = 0; begin < count; begin += tile) {
      cancellation.check();
      const RowSet block{rows + begin * stride, stride, nullptr, std::min(tile, count - begin)};
      for (std::size_t q = task * kQueriesOfTask; q < query_end; ++q) {
        const Query query = Query::of(layout_, queries_.data() + q * layout_.vector_bytes());
        score_rows(layout_, query, block, norms.empty() ? nullptr : norms.data() + begin, distances.data());
        for (std::size_t r = 0; r < block.count; ++r) {
          best_[q].offer(distances[r], first + static_cast<std::int64_t>(begin + r));
        }
      }
    }
  });
}

void ExactSearch::answers(std::int64_t* ids, float* distances) const {
  for (std::size_t q = 0; q < best_.size(); ++q) {
    TopK copy = best_[q];
    write_answer(layout_.metric, copy.sorted(), k_, ids + q * k_, distances + q * k_);
  }
}

}  // namespace dask_annoy
