#include "core/cells_search.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/cell_ranking.hpp"
#include "core/scoring.hpp"
#include "core/search.hpp"
#include "core/shortlist.hpp"
#include "core/walk.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kQueriesOfTile = 32;  // scored against a cell at a time: their sums stay in the first-level cache
constexpr std::size_t kQueriesOfTask = 8192;  // most, so that what is kept for them stays small

struct CellScratch {
  CodedQuery query;
  CellRanker ranker;
  std::vector<std::int32_t> sums;
  std::vector<std::uint32_t> found;
  std::vector<std::int32_t> items;
  std::vector<float> distances;
  Shortlist shortlist;
  TopK best;
};

CellScratch& cell_scratch() {
  static thread_local CellScratch scratch;
  return scratch;
}

std::size_t budget_of(const Forest& forest, const Cells& cells, std::size_t n, std::int64_t search_k,
                      const ItemFilter* filter) {
  std::optional<std::size_t> n_passing;
  if (filter != nullptr) n_passing = filter->count();
  return cell_budget_of(cells.n_items(), forest.roots.size(), n, search_k, n_passing);
}

// Offers what a cell holds below the limit, given its sums.
void offer_cell(const Cells& cells, std::size_t cell, const std::int32_t* sums, float factor, const ItemFilter* filter,
                std::vector<std::uint32_t>& found, Shortlist& shortlist) {
  const std::size_t n = cells.blocks_of(cell) * kItemsOfBlock;
  const float* biases = cells.biases.data() + std::size_t{cells.block_starts[cell]} * kItemsOfBlock;
  if (found.size() < n + 1) found.resize(n + 1);
  const std::size_t n_found = kernels().find_below(sums, biases, n, factor, shortlist.limit(), found.data());
  for (std::size_t f = 0; f < n_found; ++f) {
    const std::uint32_t i = found[f];
    const std::int32_t item = cells.item_at(cells.starts[cell] + i);
    if (filter != nullptr && !filter->passes(item)) continue;
    const float score = biases[i] + factor * static_cast<float>(sums[i]);
    if (score < shortlist.limit()) shortlist.offer(score, item);
  }
}

void score_exactly(const Forest& forest, const Query& query, const std::vector<std::int32_t>& items,
                   CellScratch& scratch) {
  scratch.distances.resize(items.size());
  score_nodes(forest.layout, query, RowSet{forest.nodes.get(), forest.layout.node_size, items.data(), items.size()},
              scratch.distances.data());
  for (std::size_t i = 0; i < items.size(); ++i) scratch.best.offer(scratch.distances[i], items[i]);
}

// Whether to score all that pass by their vectors: they are few, or all are asked for, and then the answer is to be
// exact.
bool asks_for_all(const Forest& forest, const Cells& cells, std::size_t budget, const ItemFilter* filter) {
  return budget >= cells.n_items() || (filter != nullptr && budget > 0 && better_scanned(forest, *filter, budget));
}

void score_all(const Forest& forest, const Cells& cells, const Query& query, const ItemFilter* filter,
               CellScratch& scratch) {
  if (filter != nullptr) {
    each_block(*filter, kScoredAtOnce, scratch.items,
               [&](const std::vector<std::int32_t>& items) { score_exactly(forest, query, items, scratch); });
    return;
  }
  for (std::size_t begin = 0; begin < cells.n_items(); begin += kScoredAtOnce) {
    const std::size_t end = std::min(cells.n_items(), begin + kScoredAtOnce);
    scratch.items.clear();
    for (std::size_t i = begin; i < end; ++i) scratch.items.push_back(cells.item_at(i));
    score_exactly(forest, query, scratch.items, scratch);
  }
}

void score_shortlist(const Forest& forest, const Query& query, Shortlist& shortlist, CellScratch& scratch) {
  if (is_binary(forest.layout.metric)) {  // the codes are the vectors, and have been scored
    for (const Ranked item : shortlist.best()) scratch.best.offer(score_of(item), number_of(item));
    return;
  }
  scratch.items.clear();
  for (const Ranked item : shortlist.best()) scratch.items.push_back(static_cast<std::int32_t>(number_of(item)));
  score_exactly(forest, query, scratch.items, scratch);
}

}  // namespace

// Measured: fewer lose neighbours that the codes misplace.
std::size_t shortlist_size(Metric metric, std::size_t n) {
  return is_binary(metric) ? n : n + std::max<std::size_t>(20, 2 * n);
}

std::size_t cell_budget_of(std::size_t n_items, std::size_t n_trees, std::size_t n, std::int64_t search_k,
                           std::optional<std::size_t> n_passing) {
  std::size_t budget = static_cast<std::size_t>(search_k);
  if (search_k == -1) {
    // Annoy's, or what found nine of ten on real data, if that is more.
    const auto usual = static_cast<std::size_t>(20.0 * std::sqrt(static_cast<double>(n_items)));
    budget = n_trees > 0 && n > n_items / n_trees ? n_items : std::max(n * n_trees, usual);
  } else if (search_k < 0) {
    budget = n_items;
  }
  budget = std::min(budget, n_items);
  if (n_passing.value_or(0) > 0) {
    const double share = static_cast<double>(*n_passing) / static_cast<double>(n_items);
    const double more = static_cast<double>(budget) / share;
    budget = more >= static_cast<double>(n_items) ? n_items : static_cast<std::size_t>(more);
  }
  return budget;
}

const std::vector<Neighbor>& search_cells(const Forest& forest, const Cells& cells, const void* vector, std::size_t n,
                                          std::int64_t search_k, const ItemFilter* filter) {
  CellScratch& scratch = cell_scratch();
  const Query query = Query::of(forest.layout, vector);
  scratch.best.reset(n);
  const std::size_t budget = budget_of(forest, cells, n, search_k, filter);
  if (asks_for_all(forest, cells, budget, filter)) {
    score_all(forest, cells, query, filter, scratch);
    return scratch.best.sorted();
  }
  scratch.query.set(cells.coder, vector);
  const std::vector<Ranked>& ranked_cells = scratch.ranker.nearest(cells, scratch.query, budget, true);
  if (!cells.has_codes) {
    for (const Ranked ranked : ranked_cells) {
      const std::size_t cell = number_of(ranked);
      scratch.items.clear();
      for (std::uint32_t i = cells.starts[cell]; i < cells.starts[cell + 1]; ++i) {
        const std::int32_t item = cells.item_at(i);
        if (filter == nullptr || filter->passes(item)) scratch.items.push_back(item);
      }
      score_exactly(forest, query, scratch.items, scratch);
    }
    return scratch.best.sorted();
  }
  scratch.shortlist.reset(shortlist_size(forest.layout.metric, n));
  if (cells.item_coder.bits() != cells.coder.bits()) scratch.query.set(cells.item_coder, vector);
  const std::uint8_t* code = scratch.query.bytes.data();
  const SumCodes sum_codes = cells.item_coder.sums();
  for (const Ranked ranked : ranked_cells) {
    const std::size_t cell = number_of(ranked);
    scratch.sums.resize(cells.blocks_of(cell) * kItemsOfBlock);
    sum_codes(&code, 1, cells.codes.at(cells.block_starts[cell]), cells.blocks_of(cell), cells.codes.groups(),
              scratch.sums.data());
    offer_cell(cells, cell, scratch.sums.data(), scratch.query.factor, filter, scratch.found, scratch.shortlist);
  }
  score_shortlist(forest, query, scratch.shortlist, scratch);
  return scratch.best.sorted();
}

namespace {

// Some of a batch's queries, on one thread.
class BatchTask {
 public:
  BatchTask(const Forest& forest, const Cells& cells, const char* queries, std::size_t stride, std::size_t count,
            std::size_t n, const ItemFilter* filter, Cancellation& cancellation)
      : forest_(forest),
        cells_(cells),
        queries_(queries),
        stride_(stride),
        count_(count),
        n_(n),
        filter_(filter),
        cancellation_(cancellation) {}

  void run(std::size_t budget) {
    code_queries(cells_.coder);
    choose_cells(budget);
    if (cells_.item_coder.bits() != cells_.coder.bits()) code_queries(cells_.item_coder);
    score_cells();
  }

  void answer(std::int64_t* ids, float* distances) {
    for (std::size_t q = 0; q < count_; ++q) {
      cancellation_.check();
      scratch_.best.reset(n_);
      score_shortlist(forest_, Query::of(forest_.layout, queries_ + q * stride_), shortlists_[q], scratch_);
      write_answer(forest_.layout.metric, scratch_.best.sorted(), n_, ids + q * n_, distances + q * n_);
    }
  }

 private:
  const std::uint8_t* code(std::size_t q) const { return codes_.data() + q * query_bytes_; }

  void code_queries(const Coder& coder) {
    query_bytes_ = coder.query_bytes();
    codes_.resize(count_ * query_bytes_);
    factors_.resize(count_);
    for (std::size_t q = 0; q < count_; ++q) {
      factors_[q] = coder.code_query(queries_ + q * stride_, codes_.data() + q * query_bytes_);
    }
  }

  // The queries of each cell, in lists_.
  void choose_cells(std::size_t budget) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> chosen;  // cell, query
    std::vector<const std::uint8_t*> codes(count_);
    for (std::size_t q = 0; q < count_; ++q) codes[q] = code(q);
    const CodedQueries queries{codes.data(), factors_.data(), count_};
    scratch_.ranker.nearest_of_each(cells_, queries, budget, cancellation_, [&](std::size_t q, const auto& ranked) {
      for (const Ranked cell : ranked) chosen.emplace_back(number_of(cell), static_cast<std::uint32_t>(q));
    });
    list_starts_.assign(cells_.n_cells() + 1, 0);
    for (const auto& [cell, q] : chosen) ++list_starts_[cell + 1];
    std::partial_sum(list_starts_.begin(), list_starts_.end(), list_starts_.begin());
    lists_.resize(chosen.size());
    std::vector<std::size_t> next(list_starts_.begin(), list_starts_.end() - 1);
    for (const auto& [cell, q] : chosen) lists_[next[cell]++] = q;
  }

  void score_cells() {
    shortlists_.resize(count_);
    for (Shortlist& list : shortlists_) list.reset(shortlist_size(forest_.layout.metric, n_));
    const SumCodes sum_codes = cells_.item_coder.sums();
    std::vector<std::int32_t> sums;
    const std::uint8_t* tile[kQueriesOfTile];
    for (std::size_t cell = 0; cell < cells_.n_cells(); ++cell) {
      cancellation_.check();
      const std::size_t n_blocks = cells_.blocks_of(cell);
      const std::size_t stride = n_blocks * kItemsOfBlock;
      sums.resize(kQueriesOfTile * stride);
      for (std::size_t begin = list_starts_[cell]; begin < list_starts_[cell + 1]; begin += kQueriesOfTile) {
        const std::size_t in_tile = std::min(kQueriesOfTile, list_starts_[cell + 1] - begin);
        for (std::size_t i = 0; i < in_tile; ++i) tile[i] = code(lists_[begin + i]);
        sum_codes(tile, in_tile, cells_.codes.at(cells_.block_starts[cell]), n_blocks, cells_.codes.groups(),
                  sums.data());
        for (std::size_t i = 0; i < in_tile; ++i) {
          const std::uint32_t q = lists_[begin + i];
          offer_cell(cells_, cell, sums.data() + i * stride, factors_[q], filter_, scratch_.found, shortlists_[q]);
        }
      }
    }
  }

  const Forest& forest_;
  const Cells& cells_;
  const char* queries_;
  std::size_t stride_;
  std::size_t count_;
  std::size_t n_;
  const ItemFilter* filter_;
  Cancellation& cancellation_;
  std::size_t query_bytes_ = 0;
  std::vector<std::uint8_t> codes_;
  std::vector<float> factors_;
  std::vector<Shortlist> shortlists_;
  std::vector<std::size_t> list_starts_;  // by cell
  std::vector<std::uint32_t> lists_;
  CellScratch scratch_;
};

}  // namespace

void search_cells_batch(const Forest& forest, const Cells& cells, const char* queries, std::size_t stride,
                        std::size_t n_queries, std::size_t n, std::int64_t search_k, std::size_t n_threads,
                        Cancellation& cancellation, std::int64_t* ids, float* distances, const ItemFilter* filter) {
  const std::size_t budget = budget_of(forest, cells, n, search_k, filter);
  if (!cells.has_codes || asks_for_all(forest, cells, budget, filter)) {
    each_query(n_queries, n_threads, cancellation, [&](std::size_t q) {
      write_answer(forest.layout.metric, search_cells(forest, cells, queries + q * stride, n, search_k, filter), n,
                   ids + q * n, distances + q * n);
    });
    return;
  }
  const std::size_t even = (n_queries + n_threads - 1) / std::max<std::size_t>(1, n_threads);
  const std::size_t at_once = std::clamp<std::size_t>(even, 1, kQueriesOfTask);
  parallel_for((n_queries + at_once - 1) / at_once, n_threads, cancellation, [&](std::size_t task) {
    const std::size_t begin = task * at_once;
    BatchTask block(forest, cells, queries + begin * stride, stride, std::min(at_once, n_queries - begin), n, filter,
                    cancellation);
    block.run(budget);
    block.answer(ids + begin * n, distances + begin * n);
  });
}

void cell_budgets_to_find_batch(const Forest& forest, const Cells& cells, const char* queries, std::size_t stride,
                                std::size_t n_queries, const std::int64_t* targets, std::size_t n_targets,
                                std::size_t n_threads, Cancellation& cancellation, std::int64_t* budgets) {
  constexpr std::uint32_t kNoCell = std::numeric_limits<std::uint32_t>::max();
  std::vector<std::uint32_t> cell_of(static_cast<std::size_t>(forest.n_items), kNoCell);
  for (std::size_t cell = 0; cell < cells.n_cells(); ++cell) {
    for (std::uint32_t i = cells.starts[cell]; i < cells.starts[cell + 1]; ++i) {
      cell_of[static_cast<std::size_t>(cells.item_at(i))] = static_cast<std::uint32_t>(cell);
    }
  }
  const auto cell_of_target = [&](std::int64_t target) {
    return target < 0 || target >= forest.n_items ? kNoCell : cell_of[static_cast<std::size_t>(target)];
  };
  parallel_for(n_queries, n_threads, cancellation, [&](std::size_t q) {
    cancellation.check();
    CellScratch& scratch = cell_scratch();
    scratch.query.set(cells.coder, queries + q * stride);
    std::vector<std::size_t> by_cell;
    scratch.ranker.budgets(cells, scratch.query, by_cell);
    for (std::size_t t = q * n_targets; t < (q + 1) * n_targets; ++t) {
      const std::uint32_t cell = cell_of_target(targets[t]);
      budgets[t] = cell == kNoCell ? -1 : static_cast<std::int64_t>(by_cell[cell]);
    }
  });
}

}  // namespace dask_annoy
