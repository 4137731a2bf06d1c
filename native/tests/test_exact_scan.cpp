#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "core/errors.hpp"
#include "core/exact_scan.hpp"
#include "core/random.hpp"
#include "core/search.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

void check_exact(const Forest& forest, const Vectors& queries, std::size_t n, const ItemFilter* filter = nullptr) {
  std::vector<std::int64_t> expected_ids(queries.count() * n), ids(queries.count() * n);
  std::vector<float> expected(queries.count() * n), distances(queries.count() * n);
  Cancellation never;
  search_batch(forest, queries.bytes.data(), queries.stride(), queries.count(), n, -2, 2, never, expected_ids.data(),
               expected.data(), filter);
  for (const std::size_t n_threads : {1, 3}) {
    search_exact_batch(forest, queries.bytes.data(), queries.stride(), queries.count(), n, n_threads, never, ids.data(),
                       distances.data(), filter);
    CHECK(ids == expected_ids);
    CHECK(std::memcmp(distances.data(), expected.data(), 4 * expected.size()) == 0);
  }
}

}  // namespace

TEST_SUITE_BEGIN("exact_scan");

TEST_CASE("a scan answers as a search without bound does, to the last bit, with holes and without") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    for (const std::size_t width : {1, 31, 32, 33, 100, 256}) {
      const Layout layout = Layout::of(metric, width);
      const Vectors queries = random_vectors(layout, 23, 2);
      for (const std::size_t n_items : {1, 15, 16, 700}) {
        const Vectors vectors = random_vectors(layout, n_items, 1);
        for (const std::size_t n : {1, 10, 1000}) {
          check_exact(built(vectors), queries, n);
          check_exact(built_with_holes(vectors), queries, n);
        }
      }
    }
  }
}

TEST_CASE("a scan looks only at what passes the filter") {
  const Layout layout = Layout::of(Metric::angular, 10);
  const Vectors vectors = random_vectors(layout, 600, 1);
  for (const Forest& forest : {built(vectors), built_with_holes(vectors)}) {
    std::vector<std::int64_t> numbers;
    for (std::int64_t item = 0; item < forest.n_items; item += 3) numbers.push_back(item);
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, numbers.size()}) {
      Restriction restriction;
      restriction.include.kind = Selection::Kind::numbers;
      restriction.include.numbers = numbers.data();
      restriction.include.size = count;
      ItemFilter filter(restriction, forest.n_items);
      filter.keep_present(forest);
      check_exact(forest, random_vectors(layout, 9, 2), 5, &filter);
    }
  }
}

// Where bounds on sums could go wrong: lengths at the ends of float32, none at all, near-duplicates and exact ones.
TEST_CASE("no neighbour is lost to rounding, whatever the lengths of vectors") {
  Random random(7);
  for (const Metric metric : {Metric::angular, Metric::euclidean, Metric::manhattan, Metric::dot}) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 40);
    Vectors vectors = random_vectors(layout, 800, 1);
    Vectors queries = random_vectors(layout, 40, 2);
    const auto scale = [&](Vectors& some) {
      constexpr float kFactors[] = {1.0f, 0.0f, 1e-22f, 1e-12f, 1e-9f, 1e8f, 1e12f, 1e18f, 1e19f, 3e19f};
      for (std::size_t i = 0; i < some.count(); ++i) {
        const float factor = kFactors[random.below(10)];
        for (std::size_t j = 0; j < 40; ++j) some.floats(i)[j] *= factor;
      }
    };
    const auto repeat = [&] {
      for (std::size_t i = 400; i < 800; ++i) {
        std::memcpy(vectors.floats(i), i % 2 == 0 ? vectors.floats(i - 400) : queries.floats(i % 40), 160);
        if (i % 3 == 0) vectors.floats(i)[i % 40] = std::nextafter(vectors.floats(i)[i % 40], 1e30f);
      }
    };
    repeat();
    check_exact(built(vectors), queries, 12);
    scale(vectors);
    check_exact(built(vectors), queries, 12);
    scale(queries);
    repeat();
    check_exact(built(vectors), queries, 12);
  }
}

TEST_CASE("a scan that was stopped says so") {
  const Layout layout = Layout::of(Metric::angular, 4);
  const Vectors vectors = random_vectors(layout, 100, 1);
  const Forest forest = built(vectors);
  Cancellation stopped;
  stopped.stop();
  std::vector<std::int64_t> ids(100);
  std::vector<float> distances(100);
  CHECK_THROWS_AS(
      search_exact_batch(forest, vectors.row(0), vectors.stride(), 100, 1, 2, stopped, ids.data(), distances.data()),
      Interrupted);
}

TEST_SUITE_END();
