#include "core/index_view.hpp"

#include "core/cells_search.hpp"
#include "core/exact_scan.hpp"
#include "core/leaf_batch.hpp"
#include "core/search.hpp"

namespace dask_annoy {

SearchPlan Index::View::plan(const SearchOptions& options, std::size_t n_queries, std::size_t n, std::size_t n_threads,
                             const ItemFilter* filter) const {
  SearchRequest request;
  request.layout = layout_;
  request.n_items = cells_ ? cells_->n_items() : static_cast<std::size_t>(forest_->n_items);
  request.n_trees = forest_->roots.size();
  if (cells_) {
    request.n_cells = cells_->n_cells();
    request.code_bytes = cells_->has_codes ? cells_->item_coder.bytes() : 0;
  }
  request.n_queries = n_queries;
  request.n = n;
  request.search_k = options.search_k;
  if (filter != nullptr) request.n_passing = filter->count();
  request.n_threads = n_threads;
  request.method = options.method;
  request.as_annoy = as_annoy_;
  return dask_annoy::plan_search(request);
}

std::vector<Neighbor> Index::View::nearest(const void* query, std::size_t n, const SearchOptions& options,
                                           const ItemFilter* filter) const {
  switch (plan(options, 1, n, 1, filter).method) {
    case SearchMethod::exact:
      return search_exact(*forest_, query, n, filter);
    case SearchMethod::cells:
      return search_cells(*forest_, *cells_, query, n, options.search_k, filter);
    case SearchMethod::automatic:
    case SearchMethod::trees:
    case SearchMethod::leaves:  // no different for one query
      break;
  }
  return search_trees(*forest_, query, n, options.search_k, filter);
}

void Index::View::nearest_batch(const char* queries, std::size_t stride, std::size_t count, std::size_t n,
                                const SearchOptions& options, std::size_t n_threads, Cancellation& cancellation,
                                std::int64_t* ids, float* distances, const ItemFilter* filter) const {
  const auto one_by_one = [&](const auto& nearest_to) {
    each_query(count, n_threads, cancellation, [&](std::size_t q) {
      write_answer(layout_.metric, nearest_to(queries + q * stride), n, ids + q * n, distances + q * n);
    });
  };
  const SearchPlan plan = this->plan(options, count, n, n_threads, filter);
  switch (plan.method) {
    case SearchMethod::exact:
      if (plan.one_by_one) {
        return one_by_one([&](const char* query) -> const std::vector<Neighbor>& {
          return search_exact(*forest_, query, n, filter);
        });
      }
      return search_exact_batch(*forest_, queries, stride, count, n, n_threads, cancellation, ids, distances, filter);
    case SearchMethod::leaves:
      return search_leaves_batch(*forest_, queries, stride, count, n, options.search_k, n_threads, cancellation, ids,
                                 distances, filter);
    case SearchMethod::cells:
      if (!plan.one_by_one) {
        return search_cells_batch(*forest_, *cells_, queries, stride, count, n, options.search_k, n_threads,
                                  cancellation, ids, distances, filter);
      }
      return one_by_one([&](const char* query) -> const std::vector<Neighbor>& {
        return search_cells(*forest_, *cells_, query, n, options.search_k, filter);
      });
    case SearchMethod::automatic:
    case SearchMethod::trees:
      break;
  }
  one_by_one([&](const char* query) -> const std::vector<Neighbor>& {
    return search_trees(*forest_, query, n, options.search_k, filter);
  });
}

}  // namespace dask_annoy
