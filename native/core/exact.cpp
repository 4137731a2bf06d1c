#include "core/exact.hpp"

#include "core/exact_scan.hpp"
#include "core/search.hpp"

namespace dask_annoy {

ExactSearch::ExactSearch(const Layout& layout, const char* queries, std::size_t stride, std::size_t count,
                         std::size_t k)
    : layout_(layout), k_(k), queries_(layout, queries, stride, count), best_(count, TopK(k)) {}

void ExactSearch::add(const char* rows, std::size_t stride, std::size_t count, std::int64_t first,
                      std::size_t n_threads, Cancellation& cancellation) {
  if (k_ == 0) return;
  scan_exactly(layout_, queries_, best_, n_threads, cancellation, [&](RowTile& tile, std::size_t position) {
    for (; position < count && !tile.full(); ++position) {
      tile.add(rows + position * stride, first + static_cast<std::int64_t>(position));
    }
    return position;
  });
}

void ExactSearch::answers(std::int64_t* ids, float* distances) const {
  for (std::size_t q = 0; q < best_.size(); ++q) {
    TopK copy = best_[q];
    write_answer(layout_.metric, copy.sorted(), k_, ids + q * k_, distances + q * k_);
  }
}

}  // namespace dask_annoy
