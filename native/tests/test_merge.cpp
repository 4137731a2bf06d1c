#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "core/merge.hpp"

using namespace dask_annoy;

namespace {

std::vector<std::int32_t> merged(const std::vector<float>& distances, const std::vector<std::int64_t>& keys,
                                 std::size_t k, bool larger_is_better = false) {
  std::vector<std::int32_t> picked(k, 77);
  merge_rows(distances.data(), keys.data(), 1, keys.size(), k, larger_is_better, picked.data());
  return picked;
}

using Columns = std::vector<std::int32_t>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_SUITE_BEGIN("merge");

TEST_CASE("the nearest come first, or the largest where larger is better") {
  CHECK(merged({3, 1, 2, 0}, {0, 1, 2, 3}, 3) == Columns{3, 1, 2});
  CHECK(merged({3, 1, 2, 0}, {0, 1, 2, 3}, 3, true) == Columns{0, 2, 1});
}

TEST_CASE("equal distances are ordered by key, not by column") {
  CHECK(merged({1, 1, 0, 1}, {9, 3, 8, 5}, 4) == Columns{2, 1, 3, 0});
  CHECK(merged({1, 1, 2, 1}, {9, 3, 8, 5}, 4, true) == Columns{2, 1, 3, 0});
}

TEST_CASE("what is no hit is never picked, and rows are padded") {
  CHECK(merged({0, 1, kNaN, 2}, {-1, 4, 5, 6}, 4) == Columns{1, 3, -1, -1});
  CHECK(merged({}, {}, 2) == Columns{-1, -1});
  CHECK(merged({1}, {1}, 0) == Columns{});
}

TEST_CASE("a hit at an infinite distance is a hit") {
  CHECK(merged({kInfinity, 1}, {0, 1}, 3) == Columns{1, 0, -1});
  CHECK(merged({-kInfinity, 1}, {0, 1}, 3, true) == Columns{1, 0, -1});
}

TEST_CASE("rows are merged each on its own") {
  const std::vector<float> distances = {1, 2, 4, 3};
  const std::vector<std::int64_t> keys = {0, 1, 2, -1};
  Columns picked(4);
  merge_rows(distances.data(), keys.data(), 2, 2, 2, false, picked.data());
  CHECK(picked == Columns{0, 1, 0, -1});
}

TEST_SUITE_END();
