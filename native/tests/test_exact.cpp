#include <doctest/doctest.h>

#include "core/errors.hpp"
#include "core/exact.hpp"
#include "core/search.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

struct Answers {
  std::vector<std::int64_t> ids;
  std::vector<float> distances;
};

Answers exact(const Vectors& queries, const Vectors& rows, std::size_t k, std::size_t block, std::size_t n_threads) {
  ExactSearch search(queries.layout, queries.bytes.data(), queries.stride(), queries.count(), k);
  for (std::size_t begin = 0; begin < rows.count(); begin += block) {
    Cancellation never;
    search.add(rows.row(begin), rows.stride(), std::min(block, rows.count() - begin), static_cast<std::int64_t>(begin),
               n_threads, never);
  }
  Answers answers{std::vector<std::int64_t>(queries.count() * k), std::vector<float>(queries.count() * k)};
  search.answers(answers.ids.data(), answers.distances.data());
  return answers;
}

}  // namespace

TEST_SUITE_BEGIN("exact");

TEST_CASE("the answer is that of a forest searched without bound, for any blocks and threads") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 33);
    const Vectors rows = random_vectors(layout, 500, 1);
    const Vectors queries = random_vectors(layout, 37, 2);
    const Forest forest = built(rows);
    for (const std::size_t k : {1, 10, 600}) {
      std::vector<std::int64_t> ids(37 * k);
      std::vector<float> distances(37 * k);
      Cancellation never;
      search_batch(forest, queries.bytes.data(), queries.stride(), 37, k, -2, 2, never, ids.data(), distances.data());
      for (const std::size_t block : {1, 77, 500}) {
        for (const std::size_t n_threads : {1, 3}) {
          const Answers answers = exact(queries, rows, k, block, n_threads);
          CHECK(answers.ids == ids);
          CHECK(answers.distances == distances);
        }
      }
    }
  }
}

TEST_CASE("no rows, no queries and no neighbours wanted are answered with padding or nothing") {
  const Layout layout = Layout::of(Metric::dot, 4);
  const Answers padded = exact(random_vectors(layout, 2, 1), random_vectors(layout, 0, 1), 3, 10, 2);
  CHECK(padded.ids == std::vector<std::int64_t>(6, -1));
  CHECK(padded.distances == std::vector<float>(6, missing_distance(Metric::dot)));
  CHECK(exact(random_vectors(layout, 0, 1), random_vectors(layout, 5, 1), 3, 10, 2).ids.empty());
  CHECK(exact(random_vectors(layout, 2, 1), random_vectors(layout, 5, 1), 0, 10, 2).ids.empty());
}

TEST_CASE("a search that was stopped says so") {
  const Layout layout = Layout::of(Metric::angular, 4);
  const Vectors rows = random_vectors(layout, 100, 1);
  ExactSearch search(layout, rows.bytes.data(), rows.stride(), 10, 3);
  Cancellation stopped;
  stopped.stop();
  CHECK_THROWS_AS(search.add(rows.row(0), rows.stride(), 100, 0, 2, stopped), Interrupted);
}

TEST_SUITE_END();
