#include "core/cells_search.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "core/scoring.hpp"
#include "core/search.hpp"
#include "core/walk.hpp"

namespace dask_annoy {

namespace {

constexpr float kNone = std::numeric_limits<float>::infinity();
constexpr std::size_t kQueriesOfTile = 32;  // scored against a cell at a time: their sums stay in the first-level cache
constexpr std::size_t kQueriesOfTask = 8192;  // most, so that what is kept for them stays small

// A score and a number as one integer, in the order of pairs: what is sorted most is then compared fastest.
using Ranked = std::uint64_t;

Ranked ranked_as(float score, std::uint32_t number) {
  std::uint32_t bits;
  std::memcpy(&bits, &score, sizeof bits);
  bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<Ranked>(bits) << 32 | number;
}

std::uint32_t number_of(Ranked ranked) { return static_cast<std::uint32_t>(ranked); }

float score_of(Ranked ranked) {
  auto bits = static_cast<std::uint32_t>(ranked >> 32);
  bits = (bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits;
  float score;
  std::memcpy(&score, &bits, sizeof score);
  return score;
}

// The nearest items by code, and below which score another one is of interest. Which ones are kept does not depend on
// the order in which they come.
class Shortlist {
 public:
  void reset(std::size_t size) {
    size_ = size;
    limit_ = size > 0 ? kNone : -kNone;
    kept_.clear();
  }

  float limit() const { return limit_; }

  void offer(float score, std::int32_t item) {
    kept_.push_back(ranked_as(score, static_cast<std::uint32_t>(item)));
    if (kept_.size() >= 2 * size_) cut();
  }

  const std::vector<Ranked>& best() {
    if (kept_.size() > size_) cut();
    return kept_;
  }

 private:
  void cut() {
    const auto last = kept_.begin() + static_cast<std::ptrdiff_t>(size_) - 1;
    std::nth_element(kept_.begin(), last, kept_.end());
    kept_.resize(size_);
    // What is as near as the last may come before it by its number.
    limit_ = std::nextafter(score_of(kept_.back()), kNone);
  }

  std::size_t size_ = 0;
  float limit_ = kNone;
  std::vector<Ranked> kept_;
};

struct CellScratch {
  std::vector<std::uint8_t> code;
  std::vector<std::int32_t> sums;
  std::vector<float> scores;
  std::vector<Ranked> ranked;
  std::vector<float> sample;
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

// Leaves the query's code in scratch.code and its sums with the means in scratch.sums; returns its factor.
float score_means(const Cells& cells, const void* query, CellScratch& scratch) {
  scratch.code.resize(cells.coder.bytes());
  const float factor = cells.coder.code_query(query, scratch.code.data());
  const std::uint8_t* code = scratch.code.data();
  scratch.sums.resize(cells.means.n_blocks() * kItemsOfBlock);
  cells.coder.sums()(&code, 1, cells.means.at(0), cells.means.n_blocks(), cells.means.groups(), scratch.sums.data());
  return factor;
}

// A score that about `wanted` of the cells are below, guessed from some of them.
float likely_limit(const Cells& cells, const std::int32_t* sums, float factor, std::size_t wanted,
                   std::vector<float>& sample) {
  constexpr std::size_t kSample = 128;
  const std::size_t n = cells.n_cells();
  const std::size_t place = wanted * kSample / n * 5 / 4 + 6;
  if (n < 4 * kSample || place >= kSample / 2) return kNone;
  sample.resize(kSample);
  for (std::size_t i = 0; i < kSample; ++i) {
    const std::size_t c = i * n / kSample;
    sample[i] = cells.mean_biases[c] + factor * static_cast<float>(sums[c]);
  }
  std::nth_element(sample.begin(), sample.begin() + static_cast<std::ptrdiff_t>(place), sample.end());
  return sample[place];
}

// Puts into scratch.ranked, nearest first if `in_order`, the nearest cells, as few as hold `budget` items together:
// looked for among as many as would do if all were of the mean size, and more of them until they do.
void rank_cells(const Cells& cells, const std::int32_t* sums, float factor, std::size_t budget, bool in_order,
                CellScratch& scratch) {
  const std::size_t n = cells.n_cells();
  const std::size_t n_places = cells.means.n_blocks() * kItemsOfBlock;
  const double size = static_cast<double>(cells.n_items()) / static_cast<double>(std::max<std::size_t>(1, n));
  const auto of_mean_size = [&](std::size_t items) {
    return static_cast<std::size_t>(static_cast<double>(items) / size) + 1;
  };
  auto& ranked = scratch.ranked;
  if (scratch.found.size() < n_places + 1) scratch.found.resize(n_places + 1);
  float limit = likely_limit(cells, sums, factor, of_mean_size(budget), scratch.sample);
  while (true) {
    const std::size_t n_found =
        kernels().find_below(sums, cells.mean_biases.data(), n_places, factor, limit, scratch.found.data());
    ranked.resize(n_found);
    for (std::size_t i = 0; i < n_found; ++i) {
      const std::uint32_t c = scratch.found[i];
      ranked[i] = ranked_as(cells.mean_biases[c] + factor * static_cast<float>(sums[c]), c);
    }
    std::size_t begin = 0, held = 0;
    while (begin < n_found && held < budget) {
      const std::size_t end = std::min(n_found, begin + of_mean_size(budget - held));
      const auto at = [&](std::size_t i) { return ranked.begin() + static_cast<std::ptrdiff_t>(i); };
      if (end < n_found) std::nth_element(at(begin), at(end), at(n_found));
      std::size_t more = 0;
      for (std::size_t i = begin; i < end; ++i) more += cells.size_of(number_of(ranked[i]));
      const bool last = held + more >= budget;
      if (in_order || last) std::sort(at(begin), at(end));
      if (!last) {
        held += more;
        begin = end;
      } else {
        while (held < budget) held += cells.size_of(number_of(ranked[begin++]));
      }
    }
    if (held >= budget || limit == kNone) {
      ranked.resize(begin);
      return;
    }
    limit = kNone;
  }
}

// Offers what a cell holds below the limit, given its sums.
void offer_cell(const Cells& cells, std::size_t cell, const std::int32_t* sums, float factor, const ItemFilter* filter,
                std::vector<std::uint32_t>& found, Shortlist& shortlist) {
  const std::size_t n = cells.blocks_of(cell) * kItemsOfBlock;
  const float* biases = cells.biases.data() + std::size_t{cells.block_starts[cell]} * kItemsOfBlock;
  if (found.size() < n + 1) found.resize(n + 1);
  const std::size_t n_found = kernels().find_below(sums, biases, n, factor, shortlist.limit(), found.data());
  const std::int32_t* items = cells.items.data() + cells.starts[cell];
  for (std::size_t f = 0; f < n_found; ++f) {
    const std::uint32_t i = found[f];
    if (filter != nullptr && !filter->passes(items[i])) continue;
    const float score = biases[i] + factor * static_cast<float>(sums[i]);
    if (score < shortlist.limit()) shortlist.offer(score, items[i]);
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
    const auto first = cells.items.begin() + static_cast<std::ptrdiff_t>(begin);
    const std::size_t n = std::min(kScoredAtOnce, cells.n_items() - begin);
    scratch.items.assign(first, first + static_cast<std::ptrdiff_t>(n));
    score_exactly(forest, query, scratch.items, scratch);
  }
}

void score_shortlist(const Forest& forest, const Query& query, Shortlist& shortlist, CellScratch& scratch) {
  scratch.items.clear();
  for (const Ranked item : shortlist.best()) scratch.items.push_back(static_cast<std::int32_t>(number_of(item)));
  score_exactly(forest, query, scratch.items, scratch);
}

}  // namespace

// Measured: fewer lose neighbours that the codes misplace.
std::size_t shortlist_size(Metric metric, std::size_t n) {
  return is_binary(metric) ? n : n + std::max<std::size_t>(30, 2 * n);
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
  const float factor = score_means(cells, vector, scratch);
  const std::uint8_t* code = scratch.code.data();
  const SumCodes sum_codes = cells.coder.sums();
  rank_cells(cells, scratch.sums.data(), factor, budget, true, scratch);
  if (!cells.has_codes) {
    for (const Ranked ranked : scratch.ranked) {
      const std::size_t cell = number_of(ranked);
      scratch.items.clear();
      for (std::uint32_t i = cells.starts[cell]; i < cells.starts[cell + 1]; ++i) {
        if (filter == nullptr || filter->passes(cells.items[i])) scratch.items.push_back(cells.items[i]);
      }
      score_exactly(forest, query, scratch.items, scratch);
    }
    return scratch.best.sorted();
  }
  scratch.shortlist.reset(n > 0 ? shortlist_size(forest.layout.metric, n) : 0);
  for (const Ranked ranked : scratch.ranked) {
    const std::size_t cell = number_of(ranked);
    scratch.sums.resize(cells.blocks_of(cell) * kItemsOfBlock);
    sum_codes(&code, 1, cells.codes.at(cells.block_starts[cell]), cells.blocks_of(cell), cells.codes.groups(),
              scratch.sums.data());
    offer_cell(cells, cell, scratch.sums.data(), factor, filter, scratch.found, scratch.shortlist);
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
        cancellation_(cancellation),
        sum_codes_(cells.coder.sums()) {}

  void run(std::size_t budget) {
    code_queries();
    choose_cells(budget);
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
  const std::uint8_t* code(std::size_t q) const { return codes_.data() + q * cells_.coder.bytes(); }

  void code_queries() {
    codes_.resize(count_ * cells_.coder.bytes());
    factors_.resize(count_);
    shortlists_.resize(count_);
    for (std::size_t q = 0; q < count_; ++q) {
      factors_[q] = cells_.coder.code_query(queries_ + q * stride_, codes_.data() + q * cells_.coder.bytes());
      shortlists_[q].reset(n_ > 0 ? shortlist_size(forest_.layout.metric, n_) : 0);
    }
  }

  // The queries of each cell, in lists_.
  void choose_cells(std::size_t budget) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> chosen;  // cell, query
    const std::size_t n_means = cells_.means.n_blocks() * kItemsOfBlock;
    std::vector<std::int32_t> sums(kQueriesOfTile * n_means);
    const std::uint8_t* tile[kQueriesOfTile];
    for (std::size_t begin = 0; begin < count_; begin += kQueriesOfTile) {
      cancellation_.check();
      const std::size_t in_tile = std::min(kQueriesOfTile, count_ - begin);
      for (std::size_t i = 0; i < in_tile; ++i) tile[i] = code(begin + i);
      sum_codes_(tile, in_tile, cells_.means.at(0), cells_.means.n_blocks(), cells_.means.groups(), sums.data());
      for (std::size_t i = 0; i < in_tile; ++i) {
        rank_cells(cells_, sums.data() + i * n_means, factors_[begin + i], budget, false, scratch_);
        for (const Ranked ranked : scratch_.ranked) {
          chosen.emplace_back(number_of(ranked), static_cast<std::uint32_t>(begin + i));
        }
      }
    }
    list_starts_.assign(cells_.n_cells() + 1, 0);
    for (const auto& [cell, q] : chosen) ++list_starts_[cell + 1];
    std::partial_sum(list_starts_.begin(), list_starts_.end(), list_starts_.begin());
    lists_.resize(chosen.size());
    std::vector<std::size_t> next(list_starts_.begin(), list_starts_.end() - 1);
    for (const auto& [cell, q] : chosen) lists_[next[cell]++] = q;
  }

  void score_cells() {
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
        sum_codes_(tile, in_tile, cells_.codes.at(cells_.block_starts[cell]), n_blocks, cells_.codes.groups(),
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
  SumCodes sum_codes_;
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
      cell_of[static_cast<std::size_t>(cells.items[i])] = static_cast<std::uint32_t>(cell);
    }
  }
  const auto cell_of_target = [&](std::int64_t target) {
    return target < 0 || target >= forest.n_items ? kNoCell : cell_of[static_cast<std::size_t>(target)];
  };
  parallel_for(n_queries, n_threads, cancellation, [&](std::size_t q) {
    cancellation.check();
    CellScratch& scratch = cell_scratch();
    const float factor = score_means(cells, queries + q * stride, scratch);
    scratch.ranked.resize(cells.n_cells());
    for (std::size_t c = 0; c < cells.n_cells(); ++c) {
      scratch.ranked[c] =
          ranked_as(cells.mean_biases[c] + factor * static_cast<float>(scratch.sums[c]), static_cast<std::uint32_t>(c));
    }
    for (std::size_t t = q * n_targets; t < (q + 1) * n_targets; ++t) {
      const std::uint32_t cell = cell_of_target(targets[t]);
      budgets[t] = cell == kNoCell ? -1 : 1;
      if (cell == kNoCell) continue;
      const Ranked own = ranked_as(cells.mean_biases[cell] + factor * static_cast<float>(scratch.sums[cell]), cell);
      for (const Ranked other : scratch.ranked) {
        if (other < own) budgets[t] += static_cast<std::int64_t>(cells.size_of(number_of(other)));
      }
    }
  });
}

}  // namespace dask_annoy
