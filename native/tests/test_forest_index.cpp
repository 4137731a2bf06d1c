// The typed index: what its types allow, what it answers, what it refuses.
#include <dask_annoy/dask_annoy.hpp>

#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <thread>
#include <type_traits>
#include <utility>

#include "core/index.hpp"
#include "doctest/doctest.h"
#include "samples.hpp"

namespace dask_annoy {

namespace {

using Angular = ForestIndex<Metric::angular>;
using Euclidean = ForestIndex<Metric::euclidean>;
using Hamming = ForestIndex<Metric::hamming>;
using Dot = ForestIndex<Metric::dot>;

// --- wrong use does not compile

static_assert(std::is_same_v<Angular::Element, float>);
static_assert(std::is_same_v<Hamming::Element, std::uint64_t>);

static_assert(std::is_nothrow_move_constructible_v<Angular> && std::is_nothrow_move_assignable_v<Angular>);
static_assert(!std::is_copy_constructible_v<Angular> && !std::is_copy_assignable_v<Angular>);
static_assert(!std::is_default_constructible_v<Angular> && !std::is_convertible_v<std::size_t, Angular>);
static_assert(!std::is_assignable_v<Angular&, Euclidean> && !std::is_constructible_v<Angular, Euclidean>);

template <class Forest, class Vector>
using Nearest = decltype(std::declval<const Forest&>().nearest(std::declval<Vector>(), 1));

template <class Forest, class Vector, class = void>
constexpr bool takes = false;
template <class Forest, class Vector>
constexpr bool takes<Forest, Vector, std::void_t<Nearest<Forest, Vector>>> = true;

static_assert(takes<Angular, std::vector<float>> && takes<Angular, const std::vector<float>&>);
static_assert(takes<Angular, std::array<float, 3>&> && takes<Angular, const float (&)[3]>);
static_assert(takes<Angular, Span<float>> && takes<Angular, Span<const float>>);
static_assert(!takes<Angular, std::vector<double>> && !takes<Angular, std::vector<int>>);
static_assert(!takes<Angular, std::vector<std::uint64_t>> && !takes<Angular, float>);
static_assert(takes<Hamming, std::vector<std::uint64_t>> && takes<Hamming, const std::uint64_t (&)[1]>);
static_assert(!takes<Hamming, std::vector<float>> && !takes<Hamming, std::vector<bool>>);
static_assert(!takes<Hamming, std::vector<std::uint32_t>> && !takes<Hamming, std::vector<std::int64_t>>);

static_assert(is_metric(Metric::dot) && !is_metric(static_cast<Metric>(kMetricNames.size())));

// --- samples

template <Metric metric>
std::vector<ElementOf<metric>> elements_of(const Vectors& vectors) {
  using Element = ElementOf<metric>;
  const auto* const first = reinterpret_cast<const Element*>(vectors.bytes.data());
  return {first, first + vectors.bytes.size() / sizeof(Element)};
}

BuildArguments trees(int n_trees, int n_jobs = 2) {
  BuildArguments settings;
  settings.n_trees = n_trees;
  settings.n_jobs = n_jobs;
  return settings;
}

SearchSettings budget(std::int64_t search_k) {
  SearchSettings settings;
  settings.search_k = search_k;
  return settings;
}

constexpr std::size_t kWidth = 70;  // for hamming two words, the second in part

template <Metric metric>
Vectors sample(std::size_t count = 300, std::uint64_t seed = 1) {
  return random_vectors(Layout::of(metric, kWidth), count, seed);
}

template <Metric metric>
ForestIndex<metric> built_index(std::size_t count = 300) {
  ForestIndex<metric> index(kWidth);
  index.append(elements_of<metric>(sample<metric>(count)));
  index.build(trees(4));
  return index;
}

std::vector<std::int64_t> items_of(const std::vector<Hit>& hits) {
  std::vector<std::int64_t> items;
  for (const Hit& hit : hits) items.push_back(hit.item);
  return items;
}

template <Metric metric>
void answers_are_those_of_the_core() {
  CAPTURE(metric_name(metric));
  const Vectors vectors = sample<metric>();
  const std::vector<ElementOf<metric>> elements = elements_of<metric>(vectors);
  ForestIndex<metric> typed(kWidth);
  Index plain(metric, kWidth);
  CHECK(typed.append(elements) == 0);
  plain.add_after_last(vectors.bytes.data(), vectors.stride(), vectors.count());
  CHECK(typed.nearest_to_item(0, 5).empty());
  CHECK_FALSE(typed.is_built());
  typed.set_seed(5);
  plain.set_seed(5);
  typed.build(trees(4));
  Cancellation never;
  plain.build(4, 1, never);
  CHECK(typed.is_built());
  CHECK(typed.n_items() == 300);
  CHECK(typed.n_trees() == 4);
  CHECK(typed.width() == kWidth);
  CHECK(typed.row_size() == elements.size() / 300);

  const BatchHits batch = typed.nearest_batch({elements.data(), 20 * typed.row_size()}, 7, budget(200));
  REQUIRE(batch.rows() == 20);
  for (std::size_t q = 0; q < 20; ++q) {
    const Span<const ElementOf<metric>> query(elements.data() + q * typed.row_size(), typed.row_size());
    const std::vector<Neighbor> expected = plain.nearest(vectors.row(q), 7, 200);
    const std::vector<Hit> hits = typed.nearest(query, 7, budget(200));
    REQUIRE(hits.size() == expected.size());
    for (std::size_t i = 0; i < hits.size(); ++i) {
      CHECK(hits[i].item == expected[i].id);
      CHECK(hits[i].distance == returned_distance(metric, expected[i].distance));
      CHECK(batch.items_of(q)[i] == hits[i].item);
      CHECK(batch.distances_of(q)[i] == hits[i].distance);
    }
    CHECK(typed.nearest_to_item(static_cast<std::int64_t>(q), 7, budget(200)) == hits);
    CHECK(typed.vector(static_cast<std::int64_t>(q)) == std::vector<ElementOf<metric>>(query.begin(), query.end()));
  }
  const std::vector<Hit> all = typed.nearest_to_item(3, 300, budget(-2));
  for (const Hit& hit : {all[1], all[200]}) {
    CHECK(typed.distance(3, hit.item) == hit.distance);
    CHECK(typed.within(typed.vector(3), hit.distance).size() >= 2);
    CHECK(typed.within(typed.vector(3), hit.distance, 2) == std::vector<Hit>(all.begin(), all.begin() + 2));
  }
}

}  // namespace

TEST_SUITE_BEGIN("forest_index");

TEST_CASE("the typed index answers as the core does, with the distances that users know") {
  answers_are_those_of_the_core<Metric::angular>();
  answers_are_those_of_the_core<Metric::euclidean>();
  answers_are_those_of_the_core<Metric::manhattan>();
  answers_are_those_of_the_core<Metric::hamming>();
  answers_are_those_of_the_core<Metric::dot>();
}

TEST_CASE("products are returned with their sign, the largest first") {
  Dot index(1);
  index.append(std::vector<float>{1, 2, -3});
  index.build(trees(2));
  CHECK(index.nearest(std::vector<float>{2}, 3) == std::vector<Hit>{{1, 4.0f}, {0, 2.0f}, {2, -6.0f}});
  CHECK(index.within(std::vector<float>{2}, 0.0) == std::vector<Hit>{{1, 4.0f}, {0, 2.0f}});
}

TEST_CASE("bits are packed from whatever can be tested") {
  std::vector<bool> bits(70, false);
  bits[0] = bits[64] = bits[69] = true;
  const std::vector<std::uint64_t> words = pack_bits(bits);
  CHECK(words == std::vector<std::uint64_t>{1, 1 | std::uint64_t{1} << 5});
  CHECK(pack_bits(std::array<int, 3>{0, 7, 0}) == std::vector<std::uint64_t>{2});
  CHECK(pack_bits(std::vector<bool>{}).empty());
  Hamming index(70);
  index.add(0, words);
  index.add(1, std::vector<std::uint64_t>{0, 0});
  CHECK(index.distance(0, 1) == 3.0f);
  CHECK(index.vector(0) == words);
}

TEST_CASE("a saved index is opened again, by a move if need be, and is read-only until it is unloaded") {
  const TemporaryFolder folder;
  Angular index = built_index<Metric::angular>();
  const std::vector<Hit> expected = index.nearest_to_item(7, 5);
  index.save(folder.file("x.ann"));
  Angular opened = Angular::open(folder.file("x.ann"), kWidth, /*prefault=*/true);
  CHECK(opened.nearest_to_item(7, 5) == expected);
  CHECK_THROWS_AS(opened.add(0, std::vector<float>(kWidth)), StateError);
  CHECK_THROWS_AS(index.build(), StateError);
  opened.unload();
  CHECK(opened.n_items() == 0);
  opened.add(0, std::vector<float>(kWidth));
  CHECK(folder.names() == std::vector<std::string>{"x.ann"});
}

TEST_CASE("an index grown in a file is that file") {
  const TemporaryFolder folder;
  Euclidean index(kWidth);
  index.build_on_disk(folder.file("disk.ann"));
  index.append(elements_of<Metric::euclidean>(sample<Metric::euclidean>()));
  index.build(trees(4));
  Euclidean memory = built_index<Metric::euclidean>();
  memory.save(folder.file("memory.ann"));
  CHECK(read_file(folder.file("disk.ann")) == read_file(folder.file("memory.ann")));
  CHECK_THROWS_AS(memory.build_on_disk(folder.file("late.ann")), StateError);
}

TEST_CASE("items have the numbers they are given, and what is not given is a hole") {
  Euclidean index(2);
  index.add(5, std::vector<float>{1, 1});
  index.add(2, std::array<float, 2>{2, 2});
  CHECK(index.append(std::vector<float>{3, 3, 4, 4}) == 6);
  CHECK(index.n_items() == 8);
  CHECK(index.contains(5));
  CHECK_FALSE(index.contains(3));
  CHECK_FALSE(index.contains(-1));
  CHECK_FALSE(index.contains(8));
  CHECK(index.vector(3) == std::vector<float>{0, 0});
  index.build(trees(2));
  CHECK(items_of(index.nearest(std::vector<float>{0, 0}, 10)) == std::vector<std::int64_t>{5, 2, 6, 7});
  index.unbuild();
  index.add(3, std::vector<float>{0, 0});
  index.build(trees(2));
  CHECK(items_of(index.nearest(std::vector<float>{0, 0}, 1)) == std::vector<std::int64_t>{3});
}

TEST_CASE("searches keep to the items selected by number or by mask") {
  const Angular index = built_index<Metric::angular>();
  const std::vector<std::int64_t> some = {9, 3, 200, 3};
  std::vector<std::uint8_t> mask(300, 0);
  for (const std::int64_t item : some) mask[static_cast<std::size_t>(item)] = 1;
  SearchSettings by_number = budget(1000);
  by_number.include = ItemSelection::of_numbers(some);
  SearchSettings by_mask = budget(1000);
  by_mask.include = ItemSelection::of_mask(mask);
  const std::vector<Hit> hits = index.nearest_to_item(3, 10, by_number);
  CHECK(hits.size() == 3);
  CHECK(hits.front().item == 3);
  CHECK(index.nearest_to_item(3, 10, by_mask) == hits);
  CHECK(index.within(index.vector(3), 10.0, 10, by_mask) == hits);
  by_mask.exclude = by_number.include;
  CHECK(index.nearest_to_item(3, 10, by_mask).empty());
  const BatchHits none = index.nearest_batch(index.vector(3), 2, by_mask);
  CHECK(none.items == std::vector<std::int64_t>{-1, -1});
  CHECK(std::isinf(none.distances[0]));
  const std::vector<std::int64_t> stranger = {300};
  by_number.include = ItemSelection::of_numbers(stranger);
  CHECK_THROWS_AS(index.nearest_to_item(3, 1, by_number), std::out_of_range);
  mask.pop_back();
  by_mask.exclude = ItemSelection::of_mask(mask);
  CHECK_THROWS_AS(index.nearest_to_item(3, 1, by_mask), std::invalid_argument);
}

TEST_CASE("vectors that do not fit are refused and change nothing") {
  Euclidean index(3);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH_AS(index.add(0, std::vector<float>{1, 2}), "a vector of 3 elements was expected, got 2",
                       std::invalid_argument);
  CHECK_THROWS_AS(index.add(0, std::vector<float>{}), std::invalid_argument);
  CHECK_THROWS_AS(index.append(std::vector<float>{1, 2, 3, 4}), std::invalid_argument);
  CHECK_THROWS_WITH_AS(index.append(std::vector<float>{1, 2, 3, 4, std::nanf(""), 6}),
                       "component 1 of vector 1 is NaN; vectors must be finite", std::invalid_argument);
  CHECK_THROWS_AS(index.add(0, std::vector<float>{1, kInfinity, 3}), std::invalid_argument);
  CHECK_THROWS_AS(index.add(-1, std::vector<float>{1, 2, 3}), std::out_of_range);
  CHECK_THROWS_AS(index.nearest(std::vector<float>{1, -kInfinity, 3}, 1), std::invalid_argument);
  CHECK_THROWS_AS(index.nearest_batch(std::vector<float>{1, 2}, 1), std::invalid_argument);
  CHECK_THROWS_AS(index.within(std::vector<float>{1, 2, 3}, std::nan("")), std::invalid_argument);
  CHECK(index.n_items() == 0);
  CHECK(index.append(std::vector<float>{}) == 0);
  Hamming bits(70);
  CHECK_THROWS_WITH_AS(bits.append(std::vector<std::uint64_t>{0, 63, 0, 64}), "vector 1 has bits set beyond its 70",
                       std::invalid_argument);
  CHECK_THROWS_AS(bits.add(0, std::vector<std::uint64_t>{1}), std::invalid_argument);
  CHECK(bits.n_items() == 0);
}

TEST_CASE("settings that make no sense are refused") {
  CHECK_THROWS_AS(Angular(0), std::invalid_argument);
  CHECK_THROWS_AS(Angular(std::size_t{1} << 40), std::invalid_argument);
  Angular index(kWidth);
  index.append(elements_of<Metric::angular>(sample<Metric::angular>(10)));
  CHECK_THROWS_AS(index.build(trees(0)), std::invalid_argument);
  CHECK_THROWS_AS(index.build(trees(1, 0)), std::invalid_argument);
  CHECK_FALSE(index.is_built());
  index.build();
  CHECK(index.n_trees() > 0);
  CHECK_THROWS_AS(index.nearest_batch(index.vector(0), std::numeric_limits<std::size_t>::max()), std::length_error);
  CHECK(index.nearest_batch(index.vector(0), 0).rows() == 0);
  for (const std::int64_t stranger : {std::int64_t{-1}, std::int64_t{10}, std::int64_t{1} << 40}) {
    CHECK_THROWS_AS(index.vector(stranger), std::out_of_range);
    CHECK_THROWS_AS(index.distance(0, stranger), std::out_of_range);
    CHECK_THROWS_AS(index.nearest_to_item(stranger, 1), std::out_of_range);
  }
}

TEST_CASE("files that are missing or of another metric are refused") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(Angular::open(folder.file("missing"), kWidth), FileError);
  built_index<Metric::euclidean>().save(folder.file("x.ann"));
  CHECK_THROWS_AS(Angular::open(folder.file("x.ann"), kWidth), CorruptFile);
  Angular index = built_index<Metric::angular>();
  CHECK_THROWS_AS(index.load(folder.file("x.ann")), CorruptFile);
  CHECK(index.n_items() == 300);
}

TEST_CASE("an index that was moved from says so, and can be assigned to") {
  Angular index = built_index<Metric::angular>();
  const std::vector<Hit> expected = index.nearest_to_item(7, 5);
  Angular other = std::move(index);
  CHECK(other.nearest_to_item(7, 5) == expected);
  CHECK_THROWS_WITH_AS(index.n_items(), doctest::Contains("moved from"),
                       StateError);  // NOLINT(bugprone-use-after-move)
  CHECK_THROWS_AS(index.nearest(std::vector<float>(kWidth), 1), StateError);
  index = std::move(other);
  CHECK(index.nearest_to_item(7, 5) == expected);
}

TEST_CASE("who says stop ends a build and a batch") {
  Angular index(kWidth);
  const std::vector<float> vectors = elements_of<Metric::angular>(sample<Metric::angular>(2000));
  index.append(vectors);
  BuildArguments settings = trees(1000);
  settings.stop = [] { return true; };
  CHECK_THROWS_AS(index.build(settings), Interrupted);
  CHECK_FALSE(index.is_built());
  index.build(trees(3));
  CHECK(index.n_trees() == 3);
}

TEST_CASE("queries of several threads run beside each other") {
  const Angular index = built_index<Metric::angular>();
  const std::vector<Hit> expected = index.nearest_to_item(7, 5);
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) right += index.nearest_to_item(7, 5) == expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 400);
}

TEST_SUITE_END();

}  // namespace dask_annoy
