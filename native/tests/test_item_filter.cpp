#include <doctest/doctest.h>

#include <algorithm>
#include <stdexcept>

#include "core/item_filter.hpp"
#include "core/search.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

Selection numbers(const std::vector<std::int64_t>& ids) {
  Selection selection;
  selection.kind = Selection::Kind::numbers;
  selection.numbers = ids.data();
  selection.size = ids.size();
  return selection;
}

Selection mask(const std::vector<std::uint8_t>& flags) {
  Selection selection;
  selection.kind = Selection::Kind::mask;
  selection.mask = flags.data();
  selection.size = flags.size();
  return selection;
}

std::vector<std::int32_t> passing(const ItemFilter& filter) {
  std::vector<std::int32_t> items;
  filter.each([&](std::int32_t item) { items.push_back(item); });
  return items;
}

std::vector<std::int64_t> every(std::int64_t step, std::int64_t n) {
  std::vector<std::int64_t> ids;
  for (std::int64_t id = 0; id < n; id += step) ids.push_back(id);
  return ids;
}

// The first n of the exact order that pass.
std::vector<std::int64_t> expected_ids(const Forest& forest, const void* query, std::size_t n,
                                       const ItemFilter& filter) {
  std::vector<std::int64_t> ids = ids_of(brute_force(forest, query, static_cast<std::size_t>(forest.n_items)));
  ids.erase(std::remove_if(ids.begin(), ids.end(),
                           [&](std::int64_t id) { return !filter.passes(static_cast<std::int32_t>(id)); }),
            ids.end());
  ids.resize(std::min(n, ids.size()));
  return ids;
}

}  // namespace

TEST_SUITE_BEGIN("item_filter");

TEST_CASE("what is included passes, but for what is excluded") {
  const std::vector<std::int64_t> some{3, 64, 65, 129, 3};
  const std::vector<std::int64_t> less{65, 5};
  CHECK(passing(ItemFilter({numbers(some), {}}, 130)) == std::vector<std::int32_t>{3, 64, 65, 129});
  CHECK(passing(ItemFilter({numbers(some), numbers(less)}, 130)) == std::vector<std::int32_t>{3, 64, 129});
  for (const std::int32_t n : {0, 1, 63, 64, 65, 128, 130}) {
    const std::vector<std::uint8_t> none(static_cast<std::size_t>(n), 0);
    const std::vector<std::uint8_t> all(static_cast<std::size_t>(n), 1);
    CHECK(ItemFilter({{}, mask(none)}, n).count() == static_cast<std::size_t>(n));
    CHECK(ItemFilter({mask(all), {}}, n).count() == static_cast<std::size_t>(n));
    CHECK(ItemFilter({mask(all), mask(all)}, n).count() == 0);
  }
  CHECK(passing(ItemFilter({{}, numbers(less)}, 66)).size() == 64);
}

TEST_CASE("numbers that are no item's and masks of another length are refused") {
  const std::vector<std::int64_t> beyond{1, 10};
  const std::vector<std::int64_t> negative{-1};
  const std::vector<std::uint8_t> short_mask(9, 1);
  CHECK_THROWS_AS(ItemFilter({numbers(beyond), {}}, 10), std::out_of_range);
  CHECK_THROWS_AS(ItemFilter({{}, numbers(negative)}, 10), std::out_of_range);
  CHECK_THROWS_AS(ItemFilter({mask(short_mask), {}}, 10), std::invalid_argument);
}

TEST_CASE("a filtered search answers with nothing else, exactly with a budget for everything or when few pass") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 9);
    const Forest forest = built(random_vectors(layout, 5000, 1));
    const Vectors queries = random_vectors(layout, 10, 2);
    for (const std::int64_t step : {2, 3, 40, 1000}) {
      const std::vector<std::int64_t> ids = every(step, 5000);
      for (const Restriction& restriction : {Restriction{numbers(ids), {}}, Restriction{{}, numbers(ids)}}) {
        const ItemFilter filter(restriction, forest.n_items);
        for (std::size_t q = 0; q < queries.count(); ++q) {
          const std::vector<std::int64_t> expected = expected_ids(forest, queries.row(q), 10, filter);
          CHECK(ids_of(search(forest, queries.row(q), 10, -2, &filter)) == expected);
          CHECK(ids_of(search(forest, queries.row(q), 10, 5 * 5000, &filter)) == expected);
          CHECK(search(forest, queries.row(q), 10, 0, &filter).empty());
          const std::vector<std::int64_t> met = ids_of(search(forest, queries.row(q), 10, 200, &filter));
          CHECK(met.size() == std::min<std::size_t>(10, filter.count()));
          for (const std::int64_t id : met) CHECK(filter.passes(static_cast<std::int32_t>(id)));
          if (filter.count() <= 1000) CHECK(met == expected);
        }
      }
    }
  }
}

TEST_CASE("a filter that lets everything pass changes no answer of a walk") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 9);
    const Forest forest = built(random_vectors(layout, 5000, 1));
    const Vectors queries = random_vectors(layout, 10, 2);
    const ItemFilter filter({}, forest.n_items);
    for (std::size_t q = 0; q < queries.count(); ++q) {
      const std::vector<std::int64_t> plain = ids_of(search(forest, queries.row(q), 10, 300));
      CHECK(ids_of(search(forest, queries.row(q), 10, 300, &filter)) == plain);
    }
  }
}

TEST_CASE("holes never pass") {
  const Layout layout = Layout::of(Metric::euclidean, 4);
  BuildOptions options;
  options.ids = {1, 3, 5, 8};
  const Forest forest = built(random_vectors(layout, 4, 1), options);
  ItemFilter filter({}, forest.n_items);
  filter.keep_present(forest);
  CHECK(passing(filter) == std::vector<std::int32_t>{1, 3, 5, 8});
}

TEST_SUITE_END();
