// The node layouts of Annoy 1.17.3, from a description of its format.
#include <doctest/doctest.h>

#include "core/layout.hpp"
#include "samples.hpp"

using namespace dask_annoy;

TEST_SUITE_BEGIN("layout");

TEST_CASE("nodes have the sizes, offsets and list capacities of Annoy 1.17.3") {
  for (const std::size_t f : {1, 2, 3, 63, 64, 65, 128, 1000}) {
    CAPTURE(f);
    const auto capacity = static_cast<std::int32_t>(f);

    const Layout angular = Layout::of(Metric::angular, f);
    CHECK(angular.node_size == 12 + 4 * f);
    CHECK(angular.children_offset == 4);
    CHECK(angular.scalar_offset == 4);
    CHECK(angular.vector_offset == 12);
    CHECK(angular.list_capacity == capacity + 2);

    for (const Metric metric : {Metric::euclidean, Metric::manhattan}) {
      const Layout layout = Layout::of(metric, f);
      CHECK(layout.node_size == 16 + 4 * f);
      CHECK(layout.scalar_offset == 4);
      CHECK(layout.children_offset == 8);
      CHECK(layout.vector_offset == 16);
      CHECK(layout.list_capacity == capacity + 2);
    }

    const Layout dot = Layout::of(Metric::dot, f);
    CHECK(dot.node_size == 16 + 4 * f);
    CHECK(dot.children_offset == 4);
    CHECK(dot.scalar_offset == 12);
    CHECK(dot.vector_offset == 16);
    CHECK(dot.list_capacity == capacity + 3);

    const std::size_t words = (f + 63) / 64;
    const Layout hamming = Layout::of(Metric::hamming, f);
    CHECK(hamming.words == words);
    CHECK(hamming.node_size == 16 + 8 * words);
    CHECK(hamming.children_offset == 4);
    CHECK(hamming.vector_offset == 16);
    CHECK(hamming.list_capacity == static_cast<std::int32_t>(2 * words + 3));
  }
}

TEST_CASE("a split's bit names the dimension that Annoy means by it") {
  for (std::size_t dimension = 0; dimension < 200; ++dimension) {
    std::uint64_t bits[4] = {};
    bits[dimension / 64] = std::uint64_t{1} << (dimension % 64);
    for (std::size_t other = 0; other < 200; ++other) {
      CHECK(bit_of_split(bits, split_bit_of_dimension(other)) == (other == dimension));
    }
  }
}

TEST_CASE("a width beyond what a node can hold is refused") {
  CHECK_THROWS_AS(Layout::of(Metric::angular, std::size_t{1} << 40), std::invalid_argument);
}

TEST_CASE("metrics go by Annoy's names and no others") {
  for (const Metric metric : kMetrics) CHECK(metric_from_name(metric_name(metric)) == metric);
  CHECK_THROWS_AS(metric_from_name("cosine"), std::invalid_argument);
  CHECK_THROWS_AS(metric_from_name(""), std::invalid_argument);
}

TEST_SUITE_END();
