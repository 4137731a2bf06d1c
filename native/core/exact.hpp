// Exact nearest neighbours over a stream of rows: the truth that recall is measured against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/layout.hpp"
#include "core/parallel.hpp"
#include "core/tile_scoring.hpp"
#include "core/topk.hpp"

namespace dask_annoy {

class ExactSearch {
 public:
  // Copies the queries: `count` vectors (floats, or words of bits), `stride` bytes apart.
  ExactSearch(const Layout& layout, const char* queries, std::size_t stride, std::size_t count, std::size_t k);

  std::size_t n_queries() const { return best_.size(); }
  std::size_t k() const { return k_; }

  // Looks at rows of the same form; row r gets the number first + r.
  void add(const char* rows, std::size_t stride, std::size_t count, std::int64_t first, std::size_t n_threads,
           Cancellation& cancellation);

  // The best so far, a row a query, padded as search_batch does.
  void answers(std::int64_t* ids, float* distances) const;

 private:
  Layout layout_;
  std::size_t k_;
  PackedQueries queries_;
  std::vector<TopK> best_;
};

}  // namespace dask_annoy
