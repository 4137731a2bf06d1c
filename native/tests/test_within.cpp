#include <doctest/doctest.h>

#include <limits>

#include "core/search.hpp"
#include "core/within.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

}  // namespace

TEST_SUITE_BEGIN("within");

TEST_CASE("without a budget the answer is every item not farther than the radius, holes left out") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 9);
    const Vectors vectors = random_vectors(layout, 2500, 1);
    BuildOptions holes;
    for (std::int64_t i = 0; i < 2500; ++i) holes.ids.push_back(2 * i + 1);
    const Vectors queries = random_vectors(layout, 5, 2);
    for (const Forest& forest : {built(vectors), built(vectors, holes)}) {
      ItemFilter everything({}, forest.n_items);
      everything.keep_present(forest);
      for (std::size_t q = 0; q < queries.count(); ++q) {
        std::vector<Neighbor> expected = brute_force(forest, queries.row(q), 300);
        const double radius = expected.back().distance;
        expected = brute_force(forest, queries.row(q), 2500);
        while (expected.back().distance > radius) expected.pop_back();
        Cancellation never;
        const std::vector<Neighbor> found = within(forest, queries.row(q), radius, kAll, -1, nullptr, never);
        CHECK(ids_of(found) == ids_of(expected));
        CHECK(ids_of(within(forest, queries.row(q), radius, kAll, -1, &everything, never)) == ids_of(expected));
        CHECK(ids_of(within(forest, queries.row(q), radius, kAll, 100000, nullptr, never)) == ids_of(expected));
        expected.resize(7);
        CHECK(ids_of(within(forest, queries.row(q), radius, 7, -1, nullptr, never)) == ids_of(expected));
        CHECK(within(forest, queries.row(q), radius, 0, -1, nullptr, never).empty());
        CHECK(within(forest, queries.row(q), radius, kAll, 0, nullptr, never).empty());
      }
    }
  }
}

TEST_CASE("with a budget the answer is what a search meets within the radius") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 9);
    const Forest forest = built(random_vectors(layout, 2500, 1));
    const Vectors queries = random_vectors(layout, 5, 2);
    for (std::size_t q = 0; q < queries.count(); ++q) {
      std::vector<Neighbor> expected = search(forest, queries.row(q), 1000, 400);
      const double radius = expected.at(expected.size() / 2).distance;
      while (expected.back().distance > radius) expected.pop_back();
      Cancellation never;
      CHECK(ids_of(within(forest, queries.row(q), radius, kAll, 400, nullptr, never)) == ids_of(expected));
    }
  }
}

TEST_SUITE_END();
