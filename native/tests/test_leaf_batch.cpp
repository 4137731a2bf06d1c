#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/distinct_topk.hpp"
#include "core/errors.hpp"
#include "core/leaf_batch.hpp"
#include "core/random.hpp"
#include "core/search.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

struct Answers {
  std::vector<std::int64_t> ids;
  std::vector<float> distances;

  Answers(const Vectors& queries, std::size_t n) : ids(queries.count() * n, -7), distances(queries.count() * n) {}

  friend bool operator==(const Answers& a, const Answers& b) {
    return a.ids == b.ids &&
           (a.ids.empty() || std::memcmp(a.distances.data(), b.distances.data(), 4 * a.ids.size()) == 0);
  }
};

Answers one_by_one(const Forest& forest, const Vectors& queries, std::size_t n, std::int64_t search_k,
                   const ItemFilter* filter = nullptr) {
  Answers answers(queries, n);
  Cancellation never;
  search_batch(forest, queries.bytes.data(), queries.stride(), queries.count(), n, search_k, 1, never,
               answers.ids.data(), answers.distances.data(), filter);
  return answers;
}

Answers by_leaves(const Forest& forest, const Vectors& queries, std::size_t n, std::int64_t search_k,
                  const ItemFilter* filter = nullptr, std::size_t n_threads = 2, const LeafBatchBounds& bounds = {}) {
  Answers answers(queries, n);
  Cancellation never;
  search_leaves_batch(forest, queries.bytes.data(), queries.stride(), queries.count(), n, search_k, n_threads, never,
                      answers.ids.data(), answers.distances.data(), filter, bounds);
  return answers;
}

}  // namespace

TEST_SUITE_BEGIN("leaf_batch");

TEST_CASE("a batch leaf by leaf answers as searches one by one do, for any budget and number of neighbours") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    for (const std::size_t n_items : {1, 2, 40, 900}) {
      const Layout layout = Layout::of(metric, 35);
      const Vectors vectors = random_vectors(layout, n_items, 1);
      const Vectors queries = random_vectors(layout, 30, 2);
      for (const Forest& forest : {built(vectors), built_with_holes(vectors, 4)}) {
        for (const std::size_t n : {0, 1, 10, 1000}) {
          for (const std::int64_t search_k : {-1, -2, 0, 1, 50, 400, 100000}) {
            CAPTURE(n_items);
            CAPTURE(n);
            CAPTURE(search_k);
            CHECK(by_leaves(forest, queries, n, search_k) == one_by_one(forest, queries, n, search_k));
          }
        }
      }
    }
  }
}

TEST_CASE("a filter is honoured as by searches one by one, whether they scan or walk") {
  Random random(5);
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 8);
    const Vectors vectors = random_vectors(layout, 3000, 1);
    const Vectors queries = random_vectors(layout, 20, 2);
    for (const Forest& forest : {built(vectors), built_with_holes(vectors, 4)}) {
      for (const std::uint64_t one_in : {1, 2, 50, 4000}) {
        std::vector<std::uint8_t> mask(static_cast<std::size_t>(forest.n_items));
        for (std::uint8_t& passes : mask) passes = random.below(one_in) == 0 ? 1 : 0;
        Restriction restriction;
        restriction.include.kind = Selection::Kind::mask;
        restriction.include.mask = mask.data();
        restriction.include.size = mask.size();
        ItemFilter filter(restriction, forest.n_items);
        filter.keep_present(forest);
        for (const std::int64_t search_k : {-1, -2, 0, 30, 500}) {
          CHECK(by_leaves(forest, queries, 10, search_k, &filter) ==
                one_by_one(forest, queries, 10, search_k, &filter));
        }
      }
    }
  }
}

TEST_CASE("neither the number of threads nor what may be held at a time changes an answer") {
  for (const Metric metric : {Metric::angular, Metric::hamming}) {
    const Layout layout = Layout::of(metric, 20);
    const Forest forest = built(random_vectors(layout, 2000, 1));
    const Vectors queries = random_vectors(layout, 300, 2);
    const Answers expected = one_by_one(forest, queries, 7, 300);
    for (const std::size_t n_threads : {1, 2, 5}) {
      CHECK(by_leaves(forest, queries, 7, 300, nullptr, n_threads) == expected);
      for (const std::size_t visits : {1, 100}) {
        CHECK(by_leaves(forest, queries, 7, 300, nullptr, n_threads, {visits, 1 << 20}) == expected);
        CHECK(by_leaves(forest, queries, 7, 300, nullptr, n_threads, {visits, 1}) == expected);
      }
    }
  }
}

TEST_CASE("equal items in many trees are each answered once, in the order of their numbers") {
  const Layout layout = Layout::of(Metric::euclidean, 6);
  const Vectors one = random_vectors(layout, 1, 1);
  Vectors vectors{layout, {}};
  for (int i = 0; i < 100; ++i) vectors.bytes.insert(vectors.bytes.end(), one.bytes.begin(), one.bytes.end());
  const Answers answers = by_leaves(built(vectors), one, 10, -2);
  CHECK(answers.ids == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
}

TEST_CASE("no queries, and a forest without items, are answered") {
  const Layout layout = Layout::of(Metric::dot, 3);
  const Forest forest = built(random_vectors(layout, 10, 1));
  CHECK(by_leaves(forest, random_vectors(layout, 0, 1), 3, -1).ids.empty());
  const Forest empty = built(random_vectors(layout, 0, 1));
  CHECK(by_leaves(empty, random_vectors(layout, 2, 1), 2, -1).ids == std::vector<std::int64_t>(4, -1));
}

TEST_CASE("a batch that was stopped says so") {
  const Layout layout = Layout::of(Metric::angular, 4);
  const Vectors vectors = random_vectors(layout, 100, 1);
  const Forest forest = built(vectors);
  Cancellation stopped;
  stopped.stop();
  std::vector<std::int64_t> ids(100);
  std::vector<float> distances(100);
  CHECK_THROWS_AS(search_leaves_batch(forest, vectors.row(0), vectors.stride(), 100, 1, -1, 2, stopped, ids.data(),
                                      distances.data()),
                  Interrupted);
}

TEST_CASE("the best of a stream with repeats are those of the set") {
  Random random(3);
  for (const std::size_t k : {1, 3, 40}) {
    for (const std::uint64_t n_items : {1, 20, 2000}) {
      DistinctTopK best(k);
      std::vector<Neighbor> all;
      for (int i = 0; i < 5000; ++i) {
        const std::uint64_t item = random.below(n_items);
        const Neighbor neighbor{static_cast<float>(item * 7919 % 101), static_cast<std::int64_t>(item)};
        best.offer(neighbor.distance, neighbor.id);
        all.push_back(neighbor);
      }
      std::sort(all.begin(), all.end());
      const auto same = [](const Neighbor& a, const Neighbor& b) { return a.id == b.id; };
      all.erase(std::unique(all.begin(), all.end(), same), all.end());
      all.resize(std::min(all.size(), k));
      CHECK(ids_of(best.sorted()) == ids_of(all));
    }
  }
}

TEST_CASE("leaves pay once several queries come to each, never for one query or for bits") {
  const Layout layout = Layout::of(Metric::angular, 64);
  const Forest forest = built(random_vectors(layout, 1000, 1));
  CHECK(queries_per_leaf(forest, 100, 500) == doctest::Approx(100.0 * 500 / (1000.0 * forest.roots.size())));
  CHECK(queries_per_leaf(forest, 100, std::numeric_limits<std::size_t>::max()) == doctest::Approx(100.0));
  CHECK(leaf_batch_pays(forest, 10000, 500));
  CHECK(!leaf_batch_pays(forest, 1, 500));
  CHECK(!leaf_batch_pays(forest, 1, std::numeric_limits<std::size_t>::max()));
  CHECK(!leaf_batch_pays(forest, 10000, 0));
  CHECK(!leaf_batch_pays(built(random_vectors(layout, 0, 1)), 10, 10));
  const Layout bits = Layout::of(Metric::hamming, 64);
  CHECK(!leaf_batch_pays(built(random_vectors(bits, 1000, 1)), 10000, 500));
}

TEST_SUITE_END();
