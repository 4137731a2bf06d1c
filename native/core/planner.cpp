#include "core/planner.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

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

// What work costs on one thread, in nanoseconds: something each time, and something a unit (a float, or a word of 64
// bits). Measured by `python -m benchmarks.planner --fit` on a server of 2025 (AVX-512, 2 MiB of second-level cache,
// data sets of 50,000 to 200,000 items, so mostly not in the cache), which also shows what a choice by them loses.
// Other machines differ mostly by a common factor, which no choice depends on.
struct Work {
  double each;
  double unit;
};

struct Constants {
  Work read;         // an item brought from memory in sequence; queries of a batch share it
  Work fetch;        // an item brought from memory in no order
  Work score;        // an item against a query, when it is at hand
  Work tile;         // the same in a tile of queries and items
  Work meet;         // an item number met by a walk, without scoring what it stands for
  double leaf;       // an item number met by a walk of a batch, kept for later
  Work code;         // a code against a query; here a unit is a byte
  Work code_tile;    // the same, in a tile
  Work coded_query;  // to code a query, and to begin
};

constexpr Constants kFloats = {{4.0, 0.11}, {25.0, 0.2},  {3.0, 0.065},  {1.6, 0.032}, {28.0, 0.05},
                               30.0,        {1.1, 0.012}, {0.9, 0.0065}, {1500.0, 1.0}};
constexpr Constants kBits = {{2.0, 0.9}, {20.0, 2.0}, {3.0, 0.9},  {1.2, 0.35},  {22.0, 0.2},
                             25.0,       {0.9, 0.03}, {0.7, 0.02}, {1000.0, 0.1}};
constexpr double kPerTree = 150.0;   // a walk's way to its first leaf
constexpr double kPerQuery = 300.0;  // to take a query up and to hand over its answer
constexpr double kRankCell = 2.0;    // a cell put in its place among the nearest, beside its mean's score
constexpr double kShortlistOfN = 3.0;
constexpr double kShortlistAtLeast = 30.0;

class Estimator {
 public:
  explicit Estimator(const SearchRequest& request)
      : request_(request),
        is_binary_(is_binary(request.layout.metric)),
        constants_(is_binary_ ? kBits : kFloats),
        units_(static_cast<double>(is_binary_ ? request.layout.words : request.layout.width)),
        n_queries_(static_cast<double>(std::max<std::size_t>(1, request.n_queries))),
        n_items_(static_cast<double>(request.n_items)),
        passing_(request.n_passing ? static_cast<double>(*request.n_passing) : n_items_) {}

  // Per query, on one thread.
  double exact() const {
    const double shared = of(request_.n_passing ? constants_.fetch : constants_.read) / n_queries_;
    const double scored = of(constants_.tile) + (of(constants_.score) - of(constants_.tile)) / n_queries_;
    return kPerQuery + passing_ * (shared + scored);
  }

  double trees(std::size_t budget) const {
    return walk(budget) + met(budget) * (of(constants_.fetch) + of(constants_.score));
  }

  double leaves(std::size_t budget) const {
    // How many queries meet an item, at least one: they share its way from memory.
    const double sharing = std::max(1.0, n_queries_ * met(budget) / std::max(1.0, n_items_));
    return walk(budget) + met(budget) * (constants_.leaf + of(constants_.fetch) / sharing + of(constants_.tile) +
                                         (of(constants_.score) - of(constants_.tile)) / sharing);
  }

  double cells(std::size_t budget, bool one_by_one) const {
    const double n_cells = static_cast<double>(request_.n_cells);
    const double size = n_items_ / std::max(1.0, n_cells);
    const double scored = std::min(n_items_, static_cast<double>(budget) + size / 2.0);
    const double shortlist = std::min(scored, is_binary_ ? static_cast<double>(request_.n)
                                                         : std::max(static_cast<double>(request_.n) + kShortlistAtLeast,
                                                                    kShortlistOfN * static_cast<double>(request_.n)));
    const double code_bytes = static_cast<double>(mean_bytes());
    const auto by_code = [&](const Work& work) { return work.each + work.unit * code_bytes; };
    const Work& code = one_by_one ? constants_.code : constants_.code_tile;
    const double exactly = of(constants_.fetch) + of(constants_.score);
    const double ranking =
        constants_.coded_query.each + constants_.coded_query.unit * code_bytes + n_cells * (by_code(code) + kRankCell);
    if (request_.code_bytes == 0) return kPerQuery + ranking + scored * exactly;
    return kPerQuery + ranking + scored * by_code(code) + shortlist * exactly;
  }

 private:
  double of(const Work& work) const { return work.each + work.unit * units_; }

  // Means have codes even where items have none.
  std::size_t mean_bytes() const {
    return request_.code_bytes > 0 ? request_.code_bytes
                                   : (is_binary_ ? 8 * request_.layout.words : (request_.layout.width + 3) / 4 * 4);
  }

  // Items that a walk scores.
  double met(std::size_t budget) const {
    return std::min(static_cast<double>(budget), passing_ * static_cast<double>(request_.n_trees));
  }

  double walk(std::size_t budget) const {
    // What does not pass is passed by, which costs a share of what scoring does.
    const double passed_by = met(budget) * (n_items_ / std::max(1.0, passing_) - 1.0);
    return kPerQuery + static_cast<double>(request_.n_trees) * kPerTree + met(budget) * of(constants_.meet) +
           passed_by * of(constants_.meet) / kPassedBy;
  }

  const SearchRequest& request_;
  bool is_binary_;
  Constants constants_;
  double units_;
  double n_queries_;
  double n_items_;
  double passing_;
};

[[noreturn]] void refuse(const std::string& why) { throw StateError(why); }

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
  const double exact = estimator.exact();
  const double trees = estimator.trees(tree_budget);
  const double leaves = estimator.leaves(tree_budget);
  const double cells = std::min(together, alone);
  plan.one_by_one = request.n_queries == 1 || alone < together;
  plan.costs = {exact * scale, trees * scale, leaves * scale, cells * scale};

  const auto choose = [&](SearchMethod method, const char* reason) {
    plan.method = method;
    plan.reason = reason;
    return plan;
  };
  if (request.method == SearchMethod::cells && !has_cells) {
    refuse(
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
  request.n_cells = best_n_cells(n_items);
  request.code_bytes = Coder(layout, {}, {}).bytes();
  request.n = 1;
  return plan_search(request).method == SearchMethod::cells;
}

}  // namespace dask_annoy
