// Integers against floats: what they tell is what the floats say.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "core/fixed_point.hpp"
#include "core/random.hpp"
#include "core/side_test.hpp"
#include "kernels/kernels.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

float uniform(Random& random) { return static_cast<float>(random.below(1u << 24)) / 8388608.0f - 1.0f; }

// Items of very different lengths around a point far from the origin, the first of them zero.
struct Items {
  Layout layout;
  std::shared_ptr<NodeStorage> storage = memory_storage();
  RowBlock rows;

  Items(const PlaneFamily& family, std::size_t n, float size, std::uint64_t seed)
      : layout(family.layout), rows(family.layout) {
    Random random(seed);
    std::vector<char> node(layout.node_size);
    storage->resize(n * layout.node_size);
    rows.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      std::fill(node.begin(), node.end(), char{0});
      NodeWriter writer(node.data(), layout);
      writer.set_n_descendants(1);
      const float length = std::ldexp(size, -static_cast<int>(random.below(8)));
      for (std::size_t d = 0; d < layout.width && i > 0; ++d) {
        writer.vector()[d] = length * uniform(random) + 3.0f * size;
      }
      if (family.lifted()) writer.set_scalar(size * (1.0f + uniform(random)));
      storage->write(i * layout.node_size, node.data(), node.size());
      rows.put(i, static_cast<std::int32_t>(i), NodeView(node.data(), layout));
    }
  }

  std::optional<FixedPoint> learnt(const PlaneFamily& family) const {
    Cancellation never;
    return FixedPoint::learn(family, rows, *storage, rows.count(), 2, never);
  }
};

// Unit normals at random; where planes have offsets, through one of the items or as near to it as floats go.
Plane plane_at(const PlaneFamily& family, const Items& items, Random& random) {
  Plane plane;
  float squared = 0.0f;
  for (std::size_t d = 0; d < family.layout.width; ++d) {
    plane.normal.push_back(uniform(random));
    squared += plane.normal.back() * plane.normal.back();
  }
  if (family.lifted()) {
    plane.rule.extra = uniform(random);
    squared += plane.rule.extra * plane.rule.extra;
  }
  for (float& x : plane.normal) x /= std::sqrt(squared);
  plane.rule.extra /= std::sqrt(squared);
  if (family.layout.metric == Metric::euclidean || family.layout.metric == Metric::manhattan) {
    const float* item = items.rows.floats(random.below(items.rows.count()));
    plane.rule.offset = -kernels().dot(plane.normal.data(), item, family.layout.width);
  }
  plane.rule.coin_seed = random.next();
  return plane;
}

}  // namespace

TEST_SUITE_BEGIN("fixed_point");

TEST_CASE("every table multiplies integers, widens them and tells sides as plain loops do") {
  Random random(1);
  for (const std::size_t n : {32, 64, 96, 256}) {
    std::vector<std::int16_t> query(n), values(12 * n);
    for (auto& x : query) x = static_cast<std::int16_t>(static_cast<int>(random.below(4001)) - 2000);
    for (auto& x : values) x = static_cast<std::int16_t>(static_cast<int>(random.below(4001)) - 2000);
    const std::vector<std::int32_t> ids = {11, 0, 3, 3, 7, 1, 8, 2, 6, 4, 10};
    for (const std::string& name : available_kernels()) {
      CAPTURE(name);
      const Kernels& k = kernels_named(name);
      for (std::size_t count = 0; count <= ids.size(); ++count) {
        for (const bool chosen : {false, true}) {
          std::vector<std::int32_t> out(count + 1, 7), expected(count + 1, 7);
          for (std::size_t r = 0; r < count; ++r) {
            const std::int16_t* row = values.data() + n * (chosen ? static_cast<std::size_t>(ids[r]) : r);
            expected[r] = 0;
            for (std::size_t i = 0; i < n; ++i) expected[r] += query[i] * row[i];
          }
          const char* base = reinterpret_cast<const char*>(values.data());
          k.fixed_point_products(query.data(), {base, 2 * n, chosen ? ids.data() : nullptr, count}, n, out.data());
          CHECK(out == expected);
        }
      }
      std::vector<float> wide(n);
      k.widen(values.data(), n, wide.data());
      CHECK(std::equal(wide.begin(), wide.end(), values.begin()));

      for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{31}, n - 1, n}) {
        std::vector<std::int32_t> products(count), untold(count + 1), between;
        for (auto& product : products) product = static_cast<std::int32_t>(random.below(40)) - 20;
        std::vector<std::uint8_t> sides(count);
        const std::size_t found = k.tell_sides(products.data(), count, -3, 5, sides.data(), untold.data());
        for (std::size_t i = 0; i < count; ++i) {
          CHECK(sides[i] == (products[i] > 5 ? 1 : 0));
          if (products[i] >= -3 && products[i] <= 5) between.push_back(static_cast<std::int32_t>(i));
        }
        CHECK(std::vector<std::int32_t>(untold.begin(), untold.begin() + static_cast<std::ptrdiff_t>(found)) ==
              between);
      }
    }
  }
}

TEST_CASE("integers give each item the side that floats give, near planes and for the largest products, too") {
  for (const Metric metric : {Metric::angular, Metric::euclidean, Metric::manhattan, Metric::dot}) {
    for (const std::size_t width : {32, 50, 300, 5000}) {
      for (const float lifted_to : {0.0f, 8.0f}) {
        if (lifted_to > 0.0f && metric != Metric::dot) continue;
        CAPTURE(std::string(metric_name(metric)));
        CAPTURE(width);
        const PlaneFamily family{Layout::of(metric, width), lifted_to};
        if (!FixedPoint::serves(family)) continue;
        const Items items(family, 600, 2.5f, width);
        const std::optional<FixedPoint> fixed_point = items.learnt(family);
        REQUIRE(fixed_point);
        Cancellation never;
        const char* nodes = items.storage->in_place();
        const FixedItems fixed(*fixed_point, family.layout, nodes, 600, 2, never);
        RowBlock with_integers(family.layout);
        with_integers.lay_over(nodes, 0, 600, &fixed);
        std::vector<std::int32_t> positions(600);
        std::iota(positions.begin(), positions.end(), 0);
        Random random(width + 1);
        std::size_t n_untold = 0;
        for (int round = 0; round < 40; ++round) {
          Plane plane = plane_at(family, items, random);
          if (round == 0) {  // along an item, whose product is as large as they come
            const float* item = items.rows.floats(1);
            const float norm = std::sqrt(kernels().dot(item, item, width));
            for (std::size_t d = 0; d < width; ++d) plane.normal[d] = item[d] / norm;
            plane.rule.extra = 0.0f;
          }
          FixedPlane integers;
          fixed_point->code_plane(plane.normal.data(), plane.rule, integers);
          SideTest test;
          std::vector<std::uint8_t> told(600), said(600);
          const std::size_t ones =
              test.take(with_integers, positions.data(), 600, plane.normal.data(), plane.rule, &integers, told.data());
          test.take(items.rows, positions.data(), 600, plane.normal.data(), plane.rule, nullptr, said.data());
          CHECK(told == said);
          CHECK(ones == static_cast<std::size_t>(std::count(said.begin(), said.end(), 1)));
          std::vector<std::int32_t> products(600), untold(601);
          kernels().fixed_point_products(integers.weights.data(), with_integers.fixed_rows(positions.data(), 600),
                                         fixed_point->stride(), products.data());
          n_untold +=
              kernels().tell_sides(products.data(), 600, integers.below, integers.above, told.data(), untold.data());
        }
        CHECK(n_untold > 0);
        CHECK(n_untold < (width > 300 ? 40 * 600 : 40 * 600 / 2));  // bounds widen with the root of the width
      }
    }
  }
}

TEST_CASE("items that are too large or too small to be rounded within bounds, too narrow, or bits have no integers") {
  const PlaneFamily euclidean{Layout::of(Metric::euclidean, 64)};
  CHECK(Items(euclidean, 50, 1.0f, 1).learnt(euclidean));
  CHECK_FALSE(Items(euclidean, 50, 1e17f, 1).learnt(euclidean));
  CHECK_FALSE(Items(euclidean, 50, 1e-18f, 1).learnt(euclidean));
  CHECK_FALSE(Items(euclidean, 50, 0.0f, 1).learnt(euclidean));
  CHECK_FALSE(FixedPoint::serves({Layout::of(Metric::euclidean, 8)}));
  CHECK_FALSE(FixedPoint::serves({Layout::of(Metric::hamming, 640)}));
}

TEST_CASE("positions are parted by sides, in order on both") {
  std::vector<std::int32_t> positions = {5, 3, 9, 1, 7}, room(6);
  const std::vector<std::uint8_t> sides = {1, 0, 1, 0, 0};
  CHECK(part_by_sides(positions.data(), sides.data(), 5, room.data()) == 3);
  CHECK(positions == std::vector<std::int32_t>{3, 1, 7, 5, 9});
  CHECK(part_by_sides(positions.data(), sides.data(), 0, room.data()) == 0);
}

TEST_SUITE_END();
