#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/cells.hpp"
#include "core/errors.hpp"
#include "core/planner.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

constexpr SearchMethod kMethods[] = {SearchMethod::exact, SearchMethod::trees, SearchMethod::leaves,
                                     SearchMethod::cells};

SearchRequest request_of(Metric metric, std::size_t n_items, bool with_cells) {
  SearchRequest request;
  request.layout = Layout::of(metric, 128);
  request.n_items = n_items;
  request.n_trees = 20;
  if (with_cells) {
    request.n_cells = best_n_cells(request.layout, n_items, {});
    request.code_bytes = Coder::bytes_of(request.layout, code_bits_of(request.layout, {}));
  }
  request.as_annoy = !with_cells;
  return request;
}

// Each metric, with and without cells, of some sizes.
void each_request(const std::function<void(SearchRequest)>& check) {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    for (const std::size_t n_items : {2000, 30'000, 1'000'000}) {
      CAPTURE(n_items);
      for (const bool with_cells : {false, true}) {
        CAPTURE(with_cells);
        check(request_of(metric, n_items, with_cells));
      }
    }
  }
}

}  // namespace

TEST_SUITE_BEGIN("planner");

TEST_CASE("methods have the names that users give") {
  for (const SearchMethod method : kMethods) CHECK(method_from_name(method_name(method)) == method);
  CHECK(method_from_name("auto") == SearchMethod::automatic);
  CHECK_THROWS_AS(method_from_name("brute"), std::invalid_argument);
}

TEST_CASE("more queries, items, candidates or answers never cost less") {
  each_request([](const SearchRequest& request) {
    const auto never_less = [&](SearchRequest more, const SearchRequest& less) {
      const SearchCosts a = plan_search(less).costs;
      const SearchCosts b = plan_search(more).costs;
      for (const SearchMethod method : kMethods) {
        CAPTURE(std::string(method_name(method)));
        CHECK(b.of(method) >= a.of(method));
      }
    };
    for (const std::size_t n_queries : {1, 2, 3, 16, 1000, 100'000}) {
      SearchRequest asked = request;
      asked.n_queries = n_queries;
      asked.search_k = 500;
      SearchRequest more = asked;
      more.n_queries = 2 * n_queries;
      never_less(more, asked);
      more = asked;
      more.search_k = 900;
      never_less(more, asked);
      more = asked;
      more.n = 25;
      never_less(more, asked);
      more = asked;
      more.n_items *= 4;
      if (more.n_cells > 0) more.n_cells = best_n_cells(more.layout, more.n_items, {});
      // From so many cells on, only those of the nearest groups are ranked, which costs less.
      if ((more.n_cells >= kCellsForGroups) == (asked.n_cells >= kCellsForGroups)) never_less(more, asked);
    }
  });
}

TEST_CASE("the fewer pass, the less an exact scan costs, and in the end it is taken") {
  each_request([](SearchRequest request) {
    request.search_k = 700;
    double last = HUGE_VAL;
    for (std::size_t passing = request.n_items; passing > 0; passing /= 3) {
      request.n_passing = passing;
      const SearchPlan plan = plan_search(request);
      CHECK(plan.costs.exact <= last);
      last = plan.costs.exact;
      if (passing <= 1000) CHECK(plan.method == SearchMethod::exact);
    }
  });
}

TEST_CASE("what Annoy answers is kept to without cells, unless better is allowed") {
  for (const Metric metric : kMetrics) {
    for (const std::size_t n_items : {10, 2000, 1'000'000}) {
      for (const std::size_t n_queries : {1, 100, 100'000}) {
        SearchRequest request = request_of(metric, n_items, false);
        request.n_queries = n_queries;
        request.search_k = 100;
        const SearchPlan plan = plan_search(request);
        CHECK((plan.method == SearchMethod::trees || plan.method == SearchMethod::leaves));
        CHECK(std::isinf(plan.costs.cells));
        CHECK(plan.costs.of(plan.method) == std::min(plan.costs.trees, plan.costs.leaves));
        request.search_k = static_cast<std::int64_t>(n_items * request.n_trees);
        CHECK(plan_search(request).method == SearchMethod::exact);
      }
    }
    SearchRequest small = request_of(metric, 500, false);
    small.as_annoy = false;
    CHECK(plan_search(small).method == SearchMethod::exact);
  }
}

TEST_CASE("with cells the exact scan is taken exactly where it costs no more or its answers are asked for") {
  for (const Metric metric : kMetrics) {
    for (const std::size_t n_items : {1001, 2000, 5000, 20'000, 1'000'000}) {
      for (const std::size_t n_queries : {1, 100, 100'000}) {
        for (const std::int64_t search_k : {10, 500, 900}) {
          SearchRequest request = request_of(metric, n_items, true);
          request.n_queries = n_queries;
          request.search_k = search_k;
          const SearchPlan plan = plan_search(request);
          const bool no_dearer = plan.costs.exact <= plan.costs.cells;
          CHECK(plan.method == (no_dearer ? SearchMethod::exact : SearchMethod::cells));
        }
        SearchRequest all = request_of(metric, n_items, true);
        all.search_k = -2;
        CHECK(plan_search(all).method == SearchMethod::exact);
      }
    }
  }
}

TEST_CASE("threads make it faster and choose nothing") {
  each_request([](SearchRequest request) {
    for (const std::size_t n_queries : {1, 10, 3000}) {
      request.n_queries = n_queries;
      request.n_threads = 1;
      const SearchPlan one = plan_search(request);
      request.n_threads = 8;
      const SearchPlan eight = plan_search(request);
      CHECK(eight.method == one.method);
      CHECK(eight.costs.of(eight.method) ==
            doctest::Approx(one.costs.of(one.method) / static_cast<double>(std::min<std::size_t>(8, n_queries))));
    }
  });
}

TEST_CASE("a method that is asked for is taken, or refused") {
  each_request([](SearchRequest request) {
    for (const SearchMethod method : kMethods) {
      request.method = method;
      if (method == SearchMethod::cells && request.n_cells == 0) {
        CHECK_THROWS_AS(plan_search(request), StateError);
      } else {
        CHECK(plan_search(request).method == method);
      }
    }
  });
}

TEST_CASE("nothing is scored where nothing is to be looked at") {
  for (const bool with_cells : {false, true}) {
    SearchRequest request = request_of(Metric::euclidean, 500, with_cells);
    request.search_k = 0;
    CHECK(plan_search(request).method != SearchMethod::exact);
    request = request_of(Metric::euclidean, 0, false);
    request.n_trees = 0;
    CHECK(plan_search(request).method != SearchMethod::exact);
  }
}

TEST_CASE("cells pay for many items and not for few") {
  for (const Metric metric : kMetrics) {
    const Layout layout = Layout::of(metric, 128);
    bool paid = false;
    for (const std::size_t n_items : {1, 100, 1000, 3000, 10'000, 100'000, 10'000'000}) {
      const bool pays = cells_pay(layout, n_items);
      CHECK((pays || !paid));  // once they do they always do
      paid = pays;
      if (n_items <= 1000) CHECK_FALSE(pays);
    }
    CHECK(paid);
  }
}

TEST_SUITE_END();
