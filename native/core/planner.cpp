#include "core/planner.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/cell_ranking.hpp"
#include "core/cells.hpp"
#include "core/cells_search.hpp"
#include "core/errors.hpp"
#include "core/item_filter.hpp"
#include "core/search.hpp"
#include "core/walk.hpp"

namespace dask_annoy {

namespace {

constexpr double kImpossible = std::numeric_limits<double>::infinity();
constexpr double kNanosecond = 1e-9;

// What work costs on one thread, in nanoseconds: something each time, and something a unit: a float, a word of 64 bits,
// or a byte of a code.
//
// Fitted to what `python -m benchmarks.planner` measures (text256, sift128, orb256, 1,000 to 200,000 items, 1 to 2,048
// queries at once, budgets of 300 to 5,000; AVX-512 with VNNI, 2 MiB of second-level cache), which also shows where a
// choice by them was not the fastest, and what that lost. Other machines differ mostly by a
// factor that all of them have, which no choice depends on.
struct Work {
  double each;
  double unit;

  double of(double units) const { return each + unit * units; }
};

struct Constants {
  Work alone;        // exact: an item read from memory and scored, for one query
  Work tiled;        // exact: an item scored in a tile of queries and items
  Work packed;       // exact: an item read and made part of a tile, which a batch shares
  Work gathered;     // an item of a list scored, wherever it lies
  double tree;       // trees: the way down a tree of up to a thousand items
  double level;      // trees: the same for each doubling of the items
  Work met;          // trees: an item number met, what it stands for scored if it is new
  Work met_far;      // trees: more for each doubling of the items, as less of what is met lies in the cache
  double leaf_tree;  // leaves: as for trees
  double leaf_level;
  double leaf_met;
  Work leaf_read;   // leaves: an item of a leaf read, which the queries of the leaf share in part
  double coded;     // cells: to code a query and to take up its work
  Work mean;        // cells: a mean scored and its cell ranked; its unit is a byte, as of all below
  Work code;        // cells: a code scored
  Work mean_tiled;  // the same for a batch
  Work code_tiled;
  Work code_read;  // cells: a code brought into the cache, which the queries of a cell share
};

constexpr Constants kProducts = {{10.0, 0.113}, {1.0, 0.013},  {29.0, 0.15},  {15.0, 0.15}, 550.0,
                                 120.0,         {1.8, 0.0},    {0.0, 0.036},  475.0,        125.0,
                                 2.6,           {18.0, 0.29},  4500.0,        {0.0, 0.06},  {2.8, 0.0225},
                                 {4.7, 0.0042}, {2.4, 0.0037}, {12.0, 0.0137}};
constexpr Constants kDifferences = {{10.0, 0.113}, {1.0, 0.0205}, {29.0, 0.15},  {15.0, 0.15}, 450.0,
                                    100.0,         {3.6, 0.0},    {0.0, 0.027},  450.0,        95.0,
                                    2.5,           {18.0, 0.29},  4500.0,        {0.0, 0.06},  {2.8, 0.0225},
                                    {4.7, 0.0042}, {2.4, 0.0037}, {12.0, 0.0137}};
constexpr Constants kBits = {{4.0, 0.9}, {0.1, 0.036}, {5.0, 0.6},   {10.0, 1.0},  675.0,        50.0,
                             {0.0, 0.0}, {15.0, 0.4},  600.0,        72.0,         13.0,         {48.0, 0.75},
                             3500.0,     {3.5, 0.028}, {2.8, 0.025}, {2.5, 0.017}, {2.0, 0.009}, {7.5, 0.03}};
constexpr double kPerQuery = 2500.0;  // to take a query up in a batch and to hand over its answer
constexpr double kFilterWord = 0.3;   // 64 items of a filter passed by at once, where each query looks for what passes
constexpr double kFilterBit = 1.0;    // an item of a filter looked at
constexpr double kNear = 1000.0;      // items of a forest that the cache holds

const Constants& constants_of(Metric metric) {
  switch (metric) {
    case Metric::angular:
    case Metric::dot:
      return kProducts;
    case Metric::euclidean:
    case Metric::manhattan:
      return kDifferences;
    case Metric::hamming:
      break;
  }
  return kBits;
}

// Nanoseconds a query, on one thread.
class Estimator {
 public:
  explicit Estimator(const SearchRequest& request)
      : request_(request),
        costs_(constants_of(request.layout.metric)),
        units_(static_cast<double>(is_binary(request.layout.metric) ? request.layout.words : request.layout.width)),
        n_queries_(static_cast<double>(std::max<std::size_t>(1, request.n_queries))),
        n_items_(static_cast<double>(request.n_items)),
        n_trees_(static_cast<double>(request.n_trees)),
        passing_(request.n_passing ? static_cast<double>(*request.n_passing) : n_items_),
        doublings_(std::max(0.0, std::log2(n_items_ / kNear))) {}

  double exact(bool one_by_one) const {
    const double looked_through = request_.n_passing ? n_items_ : 0.0;  // in the filter, for what passes
    if (one_by_one) {
      return looked_through * kFilterWord / 64.0 +
             passing_ * (request_.n_passing ? costs_.gathered : costs_.alone).of(units_);
    }
    return kPerQuery + looked_through * kFilterBit / n_queries_ +
           passing_ * (costs_.tiled.of(units_) + costs_.packed.of(units_) / n_queries_);
  }

  double trees(std::size_t budget) const {
    const double each = costs_.met.of(units_) + doublings_ * costs_.met_far.of(units_);
    return n_trees_ * (costs_.tree + doublings_ * costs_.level) + met(budget) * each + passed_by(budget);
  }

  double leaves(std::size_t budget) const {
    if (request_.n_queries <= 1)
      return trees(budget) + met(budget) * costs_.leaf_read.of(units_);  // none to share with
    // How many queries meet an item: the more, the fewer leaves are read for one of them only.
    const double sharing = std::max(1.0, n_queries_ * met(budget) / std::max(1.0, n_items_));
    const double each = doublings_ * costs_.leaf_met + costs_.leaf_read.of(units_) / std::sqrt(sharing);
    return n_trees_ * (costs_.leaf_tree + doublings_ * costs_.leaf_level) + met(budget) * each + passed_by(budget);
  }

  double cells(std::size_t budget, bool one_by_one) const {
    const auto n_cells = static_cast<double>(request_.n_cells);
    const double scored = std::min(n_items_, static_cast<double>(budget) + n_items_ / std::max(1.0, n_cells) / 2.0);
    const auto mean_bytes = static_cast<double>(Coder::bytes_of(request_.layout));
    const auto code_bytes = static_cast<double>(request_.code_bytes);
    double n_ranked = n_cells;
    if (request_.n_cells >= kCellsForGroups) {
      const std::size_t held = kHeldByGroups * std::max(budget, kLeastRanked);
      n_ranked *= std::min(1.0, static_cast<double>(held) / n_items_);
    }
    const double ranked = costs_.coded + n_ranked * (one_by_one ? costs_.mean : costs_.mean_tiled).of(mean_bytes);
    if (request_.code_bytes == 0) return ranked + scored * costs_.gathered.of(units_);
    const double sharing = std::max(1.0, n_queries_ * scored / std::max(1.0, n_items_));
    const double code = one_by_one ? costs_.code.of(code_bytes)
                                   // The arithmetic of halves of bytes is that of bytes; there are fewer to read.
                                   : costs_.code_tiled.of(mean_bytes) + costs_.code_read.of(code_bytes) / sharing;
    const auto shortlist = static_cast<double>(shortlist_size(request_.layout.metric, request_.n));
    return ranked + scored * code + std::min(scored, shortlist) * kScattered * costs_.gathered.of(units_);
  }

 private:
  static constexpr double kScattered = 2.0;  // the best by codes lie all over the forest

  // Items that a walk scores.
  double met(std::size_t budget) const { return std::min(static_cast<double>(budget), passing_ * n_trees_); }

  // What does not pass costs a share of what scoring does.
  double passed_by(std::size_t budget) const {
    const double others = met(budget) * (n_items_ / std::max(1.0, passing_) - 1.0);
    return others * costs_.gathered.of(units_) / kPassedBy;
  }

  const SearchRequest& request_;
  const Constants& costs_;
  double units_;
  double n_queries_;
  double n_items_;
  double n_trees_;
  double passing_;
  double doublings_;
};

}  // namespace

const char* method_name(SearchMethod method) { return kSearchMethodNames[static_cast<std::size_t>(method)]; }

SearchMethod method_from_name(const std::string& name) {
  std::string known;
  for (std::size_t i = 0; i < kSearchMethodNames.size(); ++i) {
    if (name == kSearchMethodNames[i]) return static_cast<SearchMethod>(i);
    known += std::string(i == 0                               ? ""
                         : i + 1 == kSearchMethodNames.size() ? " or "
                                                              : ", ") +
             "'" + kSearchMethodNames[i] + "'";
  }
  throw std::invalid_argument("method must be " + known + ", got '" + name + "'");
}

double SearchCosts::of(SearchMethod method) const {
  switch (method) {
    case SearchMethod::exact:
      return exact;
    case SearchMethod::trees:
      return trees;
    case SearchMethod::leaves:
      return leaves;
    case SearchMethod::cells:
      return cells;
    case SearchMethod::automatic:
      break;
  }
  return std::min({exact, trees, leaves, cells});
}

SearchPlan plan_search(const SearchRequest& request) {
  const Estimator estimator(request);
  const std::size_t tree_budget = search_budget(request.n_trees, request.n, request.search_k);
  const std::size_t cell_budget =
      cell_budget_of(request.n_items, request.n_trees, request.n, request.search_k, request.n_passing);
  const bool has_cells = request.n_cells > 0;

  SearchPlan plan;
  // Queries are what is spread over threads: a few of them leave some idle.
  const double threads =
      static_cast<double>(std::clamp<std::size_t>(request.n_threads, 1, std::max<std::size_t>(1, request.n_queries)));
  const double scale = static_cast<double>(request.n_queries) * kNanosecond / threads;
  const double together = has_cells ? estimator.cells(cell_budget, false) : kImpossible;
  const double alone = has_cells ? estimator.cells(cell_budget, true) : kImpossible;
  const double exact_alone = estimator.exact(true);
  const double exact_together = request.n_queries > 1 ? estimator.exact(false) : kImpossible;
  const double exact = std::min(exact_alone, exact_together);
  const double trees = estimator.trees(tree_budget);
  const double leaves = estimator.leaves(tree_budget);
  const double cells = std::min(together, alone);
  plan.costs = {exact * scale, trees * scale, leaves * scale, cells * scale};

  const auto choose = [&](SearchMethod method, const char* reason) {
    plan.method = method;
    plan.reason = reason;
    plan.one_by_one =
        request.n_queries <= 1 || (method == SearchMethod::exact ? exact_alone < exact_together : alone < together);
    return plan;
  };
  if (request.method == SearchMethod::cells && !has_cells) {
    throw StateError(
        "this index has no cells, by which method='cells' would search: call build_cells(), or load with "
        "cells=True");
  }
  if (request.method != SearchMethod::automatic) return choose(request.method, "asked for");

  const std::size_t budget = has_cells ? cell_budget : tree_budget;
  const SearchMethod walked = leaves < trees ? SearchMethod::leaves : SearchMethod::trees;
  if (budget == 0 || (!has_cells && request.n_trees == 0)) {
    return choose(has_cells ? SearchMethod::cells : walked, "nothing is to be looked at");
  }
  if (request.n_passing && better_scanned(request.n_items, *request.n_passing, budget)) {
    return choose(SearchMethod::exact, "few items pass the filter");
  }
  if ((has_cells || !request.as_annoy) && request.n_items <= kScannedAlways) {
    return choose(SearchMethod::exact, "there are few items");
  }
  if (has_cells) {
    if (budget >= request.n_items) return choose(SearchMethod::exact, "the search budget is all items");
    if (exact <= cells) return choose(SearchMethod::exact, "it costs no more than the cells, and misses nothing");
    return choose(SearchMethod::cells, "it costs least at this search budget");
  }
  // A walk of all trees to their ends finds the same, and costs more. It is not asked what it costs, so that one query
  // is answered as a batch is also where a forged file's trees hold only some of its items.
  if (budget / request.n_trees >= request.n_items) {
    return choose(SearchMethod::exact, "the search budget is all items");
  }
  if (!request.as_annoy && exact <= std::min(trees, leaves)) {
    return choose(SearchMethod::exact, "it costs no more than the trees, and misses nothing");
  }
  return choose(walked, "it costs least at this search budget");
}

bool cells_pay(const Layout& layout, std::size_t n_items) {
  SearchRequest request;
  request.layout = layout;
  request.n_items = n_items;
  request.n_trees = 1;
  request.n_cells = best_n_cells(layout, n_items, {});
  request.code_bytes = Coder::bytes_of(layout, code_bits_of(layout, {}));
  request.n = 1;
  return plan_search(request).method == SearchMethod::cells;
}

}  // namespace dask_annoy
