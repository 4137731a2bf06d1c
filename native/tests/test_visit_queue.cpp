#include <doctest/doctest.h>

#include <limits>
#include <queue>
#include <random>
#include <utility>

#include "core/search_scratch.hpp"
#include "samples.hpp"

using namespace dask_annoy;

TEST_SUITE_BEGIN("visit_queue");

TEST_CASE("nodes come in the order of priority and number, whatever was put in when") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> priorities = {
      0.0f,      -0.0f,      1.0f,   -1.0f,   1e-45f, -1e-45f, std::numeric_limits<float>::max(),
      kInfinity, -kInfinity, 0.333f, -0.333f, 2.5f,   -3.0f,   std::numeric_limits<float>::lowest()};
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    VisitQueue queue;
    std::priority_queue<std::pair<float, std::int32_t>> expected;
    for (int step = 0; step < 400; ++step) {
      const float priority = priorities[random() % priorities.size()];
      const auto node = static_cast<std::int32_t>(random() % (step % 2 == 0 ? 5 : std::size_t{1} << 31));
      if (expected.empty() || random() % 3 == 0) {
        queue.push(priority, node);
        expected.emplace(priority, node);
      } else if (random() % 2 == 0) {
        queue.replace_top(priority, node);
        expected.pop();
        expected.emplace(priority, node);
      } else {
        queue.pop();
        expected.pop();
      }
      REQUIRE(queue.empty() == expected.empty());
      if (expected.empty()) continue;
      CHECK(queue.top().priority == expected.top().first);
      CHECK(queue.top().node == expected.top().second);
    }
  }
}

TEST_CASE("a search hands back the memory that only a large one needs") {
  Scratch scratch;
  scratch.candidates.resize(Scratch::kKept + 1);
  scratch.seen.resize(Scratch::kKeptWords + 1);
  scratch.trim();
  CHECK(scratch.candidates.capacity() == 0);
  CHECK(scratch.seen.capacity() == 0);
  scratch.candidates.resize(1000);
  scratch.seen.resize(1000);
  scratch.trim();
  CHECK(scratch.candidates.capacity() >= 1000);
  CHECK(scratch.seen.capacity() >= 1000);
}

TEST_CASE("the set of items met keeps each once, in the order met, and leaves nothing behind") {
  const Forest forest = built(random_vectors(Layout::of(Metric::euclidean, 2), 200, 1));
  Scratch scratch;
  const std::vector<std::int32_t> items = {5, 5, 64, 0, 199, 63, 5, 64, 128};
  const auto odd = [](std::int32_t item) { return item % 2 == 1; };
  for (int round = 0; round < 2; ++round) {
    SeenItems seen(forest, scratch);
    CHECK(seen.add(items.data(), items.size(), odd) == 5);
    CHECK(seen.items() == std::vector<std::int32_t>{5, 199, 63});
    CHECK(seen.add(items.data(), items.size(), [](std::int32_t) { return true; }) == 9);
    CHECK(seen.items() == std::vector<std::int32_t>{5, 199, 63, 64, 0, 128});
    CHECK(seen.contains(128));
    CHECK(!seen.contains(127));
  }
  for (const std::uint64_t word : scratch.seen) CHECK(word == 0);
}

TEST_SUITE_END();
