#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/search.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

Forest with_holes(const Vectors& vectors) {
  BuildOptions options;
  for (std::size_t i = 0; i < vectors.count(); ++i) options.ids.push_back(static_cast<std::int64_t>(2 * i + 1));
  return built(vectors, options);
}

bool same(const std::vector<Neighbor>& a, const std::vector<Neighbor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Neighbor& x, const Neighbor& y) { return x.id == y.id && x.distance == y.distance; });
}

}  // namespace

TEST_SUITE_BEGIN("search");

TEST_CASE("a budget for everything gives the exact answer") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    for (const std::size_t n_items : {1, 2, 6, 300}) {
      const Layout layout = Layout::of(metric, 9);
      const Vectors vectors = random_vectors(layout, n_items, 1);
      const Vectors queries = random_vectors(layout, 20, 2);
      for (const Forest& forest : {built(vectors), with_holes(vectors)}) {
        for (std::size_t q = 0; q < queries.count(); ++q) {
          for (const std::size_t n : {1, 10, 1000}) {
            const std::vector<Neighbor> expected = brute_force(forest, queries.row(q), n);
            CHECK(same(search(forest, queries.row(q), n, -2), expected));
            CHECK(same(search(forest, queries.row(q), n, 1000000), expected));
          }
        }
      }
    }
  }
}

TEST_CASE("equal distances are ordered by item number") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 6);
    const Vectors one = random_vectors(layout, 1, 1);
    Vectors vectors{layout, {}};
    for (int i = 0; i < 100; ++i) vectors.bytes.insert(vectors.bytes.end(), one.bytes.begin(), one.bytes.end());
    const std::vector<std::int64_t> ids = ids_of(search(built(vectors), one.row(0), 10, -2));
    CHECK(ids == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  }
}

TEST_CASE("a budget of nothing, and no neighbours wanted, give nothing") {
  const Vectors vectors = random_vectors(Layout::of(Metric::angular, 4), 100, 1);
  const Forest forest = built(vectors);
  CHECK(search(forest, vectors.row(0), 10, 0).empty());
  CHECK(search(forest, vectors.row(0), 0, -1).empty());
  CHECK(search(forest, vectors.row(0), 0, 100).empty());
}

TEST_CASE("as many neighbours as a number can say do not overflow the default budget") {
  const Vectors vectors = random_vectors(Layout::of(Metric::angular, 4), 100, 1);
  CHECK(search(built(vectors), vectors.row(0), std::numeric_limits<std::size_t>::max() / 2, -1).size() == 100);
}

TEST_CASE("budgets_to_find is the least budget with which a search finds the target") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 5);
    const Vectors vectors = random_vectors(layout, 150, 1);
    const Vectors queries = random_vectors(layout, 10, 2);
    for (const Forest& forest : {built(vectors), with_holes(vectors), with_holes(random_vectors(layout, 2, 3))}) {
      std::vector<std::int64_t> targets;
      for (std::int64_t item = -1; item <= forest.n_items; ++item) targets.push_back(item);
      targets.push_back(1);  // once more
      std::vector<std::int64_t> budgets(targets.size());
      for (std::size_t q = 0; q < queries.count(); ++q) {
        budgets_to_find(forest, queries.row(q), targets.data(), targets.size(), budgets.data());
        const auto finds = [&](std::int64_t budget, std::int64_t target) {
          const std::vector<std::int64_t> ids = ids_of(search(forest, queries.row(q), 1000, budget));
          return std::find(ids.begin(), ids.end(), target) != ids.end();
        };
        for (std::size_t t = 0; t < targets.size(); ++t) {
          CAPTURE(targets[t]);
          if (budgets[t] == -1) {
            CHECK(!finds(-2, targets[t]));
          } else {
            CHECK(finds(budgets[t], targets[t]));
            CHECK(!finds(budgets[t] - 1, targets[t]));
          }
        }
      }
    }
  }
}

TEST_CASE("a batch answers as single searches do, padded, for any number of threads") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 7);
    const Forest forest = built(random_vectors(layout, 30, 1));
    const Vectors queries = random_vectors(layout, 50, 2);
    constexpr std::size_t n = 40;  // more than there are
    for (const std::size_t n_threads : {1, 2, 5}) {
      std::vector<std::int64_t> ids(50 * n);
      std::vector<float> distances(50 * n);
      Cancellation never;
      search_batch(forest, queries.bytes.data(), queries.stride(), 50, n, -2, n_threads, never, ids.data(),
                   distances.data());
      for (std::size_t q = 0; q < 50; ++q) {
        const std::vector<Neighbor> expected = brute_force(forest, queries.row(q), n);
        for (std::size_t i = 0; i < n; ++i) {
          const bool found = i < expected.size();
          CHECK(ids[q * n + i] == (found ? expected[i].id : -1));
          CHECK(distances[q * n + i] ==
                (found ? returned_distance(metric, expected[i].distance) : missing_distance(metric)));
        }
      }
    }
  }
}

TEST_CASE("distances are returned in Annoy's terms") {
  const auto distance_of = [](Metric metric, std::vector<float> a, std::vector<float> b) {
    Vectors vectors{Layout::of(metric, a.size()), std::vector<char>(4 * a.size())};
    std::copy(a.begin(), a.end(), vectors.floats(0));
    const Forest forest = built(vectors);
    return returned_distance(metric, search(forest, b.data(), 1, -2).at(0).distance);
  };
  CHECK(distance_of(Metric::angular, {1, 0}, {0, 2}) == std::sqrt(2.0f));
  CHECK(distance_of(Metric::angular, {1, 0}, {-3, 0}) == 2.0f);
  CHECK(distance_of(Metric::angular, {0, 0}, {1, 0}) == std::sqrt(2.0f));
  CHECK(distance_of(Metric::euclidean, {1, 2}, {4, 6}) == 5.0f);
  CHECK(distance_of(Metric::manhattan, {1, 2}, {4, 6}) == 7.0f);
  CHECK(distance_of(Metric::dot, {1, 2}, {4, 6}) == 16.0f);
}

TEST_SUITE_END();
