#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <string>

#include "core/cells_file.hpp"
#include "core/cells_search.hpp"
#include "core/digest.hpp"
#include "core/errors.hpp"
#include "core/index.hpp"
#include "core/random.hpp"
#include "core/search.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

constexpr int kBest = CellSettings::kBestCodes;

Cells cells_of(const Forest& forest, std::size_t n_threads = 2, int code_bits = kBest, std::size_t n_cells = 0) {
  CellSettings settings;
  settings.n_cells = n_cells;
  settings.code_bits = code_bits;
  settings.n_threads = n_threads;
  Cancellation never;
  return build_cells(forest, settings, never);
}

std::vector<char> file_of(const Forest& forest, const Cells& cells) {
  std::vector<char> bytes;
  write_cells(forest, cells, [&](const char* more, std::size_t n) { bytes.insert(bytes.end(), more, more + n); });
  return bytes;
}

// Parses a copy of exactly these bytes, so that a sanitizer sees a step beyond them.
std::shared_ptr<const Cells> parsed_cells(const std::vector<char>& bytes, const Forest& forest) {
  const std::shared_ptr<char[]> copy(new char[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return parse_cells({copy, copy.get()}, bytes.size(), forest, "a file");
}

bool same(const std::vector<Neighbor>& a, const std::vector<Neighbor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Neighbor& x, const Neighbor& y) { return x.id == y.id && x.distance == y.distance; });
}

struct Batch {
  std::vector<std::int64_t> ids;
  std::vector<float> distances;
};

Batch asked(const Forest& forest, const Cells& cells, const Vectors& queries, std::size_t n, std::int64_t search_k,
            std::size_t n_threads, const ItemFilter* filter = nullptr) {
  Batch batch{std::vector<std::int64_t>(queries.count() * n), std::vector<float>(queries.count() * n)};
  Cancellation never;
  search_cells_batch(forest, cells, queries.bytes.data(), queries.stride(), queries.count(), n, search_k, n_threads,
                     never, batch.ids.data(), batch.distances.data(), filter);
  return batch;
}

}  // namespace

TEST_SUITE_BEGIN("cells");

TEST_CASE("every item that is there lies in one cell, and no cell is empty") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    for (const std::size_t n_items : {1, 2, 40, 3000}) {
      const Vectors vectors = random_vectors(Layout::of(metric, 10), n_items, 1);
      for (const Forest& forest : {built(vectors), built_with_holes(vectors)}) {
        const Cells cells = cells_of(forest);
        std::set<std::int32_t> items(cells.items.begin(), cells.items.end());
        CHECK(items.size() == n_items);
        CHECK(cells.items.size() == n_items);
        for (const std::int32_t item : items) CHECK(forest.node(item).n_descendants() == 1);
        for (std::size_t c = 0; c < cells.n_cells(); ++c) CHECK(cells.size_of(c) > 0);
        CHECK(cells.group_starts.back() == cells.n_cells());
      }
    }
  }
}

TEST_CASE("as many cells are made as were asked for, about, and by themselves they hold some fifty items") {
  const Forest forest = built(random_vectors(Layout::of(Metric::euclidean, 8), 5000, 1));
  for (const std::size_t wanted : {20, 100, 400}) {
    const std::size_t made = cells_of(forest, 2, kBest, wanted).n_cells();
    CHECK(made >= wanted / 2);
    CHECK(made <= wanted * 2);
  }
  CHECK(cells_of(forest).n_cells() > 50);
  CHECK(cells_of(forest).n_cells() < 200);
}

TEST_CASE("the same cells come out whatever the threads and the kernels") {
  for (const Metric metric : kMetrics) {
    const Forest forest = built(random_vectors(Layout::of(metric, 33), 2000, 5));
    for (const int bits : {4, 8}) {
      const std::vector<char> expected = file_of(forest, cells_of(forest, 1, bits));
      CHECK(file_of(forest, cells_of(forest, 3, bits)) == expected);
      for (const std::string& name : available_kernels()) {
        use_kernels(name);
        CHECK_MESSAGE(file_of(forest, cells_of(forest, 2, bits)) == expected, metric_name(metric), " ", name);
      }
      use_kernels("");
    }
  }
}

TEST_CASE("degenerate items make cells that answer") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    for (const float value : {0.0f, 1.0f, 3e38f}) {
      Vectors vectors = random_vectors(Layout::of(metric, 5), 300, 1);
      if (!is_binary(metric)) {
        for (std::size_t i = 0; i < vectors.count(); ++i) std::fill_n(vectors.floats(i), 5, value);
      } else {
        std::fill(vectors.bytes.begin(), vectors.bytes.end(), '\0');
      }
      const Forest forest = built(vectors);
      const Cells cells = cells_of(forest);
      const std::vector<Neighbor> found = search_cells(forest, cells, vectors.row(7), 5, 60);
      CHECK(found.size() == 5);
    }
  }
  const Forest empty = built(random_vectors(Layout::of(Metric::angular, 4), 0, 1));
  const Cells none = cells_of(empty);
  const float query[4] = {1, 2, 3, 4};
  CHECK(none.n_cells() == 0);
  CHECK(search_cells(empty, none, query, 3, -1).empty());
}

TEST_CASE("a budget for everything gives the exact answer, and one item fewer nearly so") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Vectors vectors = random_vectors(Layout::of(metric, 17), 1500, 1);
    const Vectors queries = random_vectors(vectors.layout, 50, 2);
    for (const Forest& forest : {built(vectors), built_with_holes(vectors)}) {
      const Cells cells = cells_of(forest);
      std::size_t found = 0;
      for (std::size_t q = 0; q < queries.count(); ++q) {
        const std::vector<Neighbor> expected = brute_force(forest, queries.row(q), 10);
        for (const std::int64_t all : {-2, 1500, 100000}) {
          CHECK(same(search_cells(forest, cells, queries.row(q), 10, all), expected));
        }
        for (const Neighbor& neighbor : search_cells(forest, cells, queries.row(q), 10, 1499)) {
          found += neighbor.distance <= expected.back().distance ? 1 : 0;
        }
      }
      CHECK(found >= 495);  // of 500: codes may misplace one
    }
  }
}

TEST_CASE("many queries get the answers that each gets alone, whatever the threads") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Vectors vectors = random_vectors(Layout::of(metric, 20), 3000, 1);
    const Vectors queries = random_vectors(vectors.layout, 100, 2);
    const Forest forest = built_with_holes(vectors);
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(forest.n_items));
    for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % 5 != 0;
    Restriction restriction;
    restriction.include = {Selection::Kind::mask, mask.data(), nullptr, mask.size()};
    ItemFilter filter(restriction, forest.n_items);
    filter.keep_present(forest);
    for (const int bits : {8, 4, 0}) {
      const Cells cells = cells_of(forest, 2, bits);
      for (const bool filtered : {false, true}) {
        const ItemFilter* const which = filtered ? &filter : nullptr;
        for (const std::int64_t search_k : {-1, 0, 1, 300, 2000}) {
          const Batch one = asked(forest, cells, queries, 7, search_k, 1, which);
          const Batch three = asked(forest, cells, queries, 7, search_k, 3, which);
          CHECK(one.ids == three.ids);
          CHECK(one.distances == three.distances);
          for (std::size_t q = 0; q < queries.count(); ++q) {
            std::int64_t ids[7];
            float distances[7];
            write_answer(metric, search_cells(forest, cells, queries.row(q), 7, search_k, which), 7, ids, distances);
            CHECK(std::equal(ids, ids + 7, one.ids.begin() + static_cast<std::ptrdiff_t>(7 * q)));
            CHECK(std::equal(distances, distances + 7, one.distances.begin() + static_cast<std::ptrdiff_t>(7 * q)));
            if (which != nullptr) {
              for (const std::int64_t id : ids) CHECK((id == -1 || filter.passes(static_cast<std::int32_t>(id))));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("answers do not depend on the kernels") {
  for (const Metric metric : kMetrics) {
    const Vectors vectors = random_vectors(Layout::of(metric, 70), 2000, 1);
    const Vectors queries = random_vectors(vectors.layout, 60, 2);
    const Forest forest = built(vectors);
    for (const int bits : {4, 8}) {
      const Cells cells = cells_of(forest, 2, bits);
      const Batch expected = asked(forest, cells, queries, 10, 400, 2);
      for (const std::string& name : available_kernels()) {
        use_kernels(name);
        const Batch batch = asked(forest, cells, queries, 10, 400, 2);
        CHECK_MESSAGE(batch.ids == expected.ids, metric_name(metric), " ", name);
        CHECK(batch.distances == expected.distances);
      }
      use_kernels("");
    }
  }
}

TEST_CASE("a file of cells comes back as it was") {
  for (const Metric metric : kMetrics) {
    for (const int bits : {8, 4, 0}) {
      const Vectors vectors = random_vectors(Layout::of(metric, 13), 700, 1);
      const Forest forest = built_with_holes(vectors);
      const Cells cells = cells_of(forest, 2, bits);
      const std::vector<char> bytes = file_of(forest, cells);
      CHECK(bytes.size() == cells_file_bytes(forest, cells));
      const std::shared_ptr<const Cells> again = parsed_cells(bytes, forest);
      CHECK(file_of(forest, *again) == bytes);
      CHECK(same(search_cells(forest, *again, vectors.row(3), 10, 200),
                 search_cells(forest, cells, vectors.row(3), 10, 200)));
    }
  }
}

TEST_CASE("a file that is cut, damaged in any byte or of another forest is refused") {
  const Forest forest = built(random_vectors(Layout::of(Metric::euclidean, 6), 200, 1));
  const std::vector<char> bytes = file_of(forest, cells_of(forest));
  for (std::size_t size = 0; size < bytes.size(); size = size * 2 + 1) {
    const std::vector<char> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK_THROWS_AS(parsed_cells(cut, forest), CorruptFile);
  }
  std::vector<char> longer = bytes;
  longer.push_back('\0');
  CHECK_THROWS_AS(parsed_cells(longer, forest), CorruptFile);
  for (std::size_t at = 0; at < bytes.size(); at += 29) {
    std::vector<char> damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    CHECK_THROWS_AS(parsed_cells(damaged, forest), CorruptFile);
  }
  const Forest other = built(random_vectors(Layout::of(Metric::euclidean, 6), 200, 2));
  CHECK_THROWS_AS(parsed_cells(bytes, other), CorruptFile);
}

namespace {

// The checksum that the format asks for, as someone who means harm would write it.
void seal(std::vector<char>& bytes) {
  constexpr std::size_t kRow = 4096;
  const std::size_t n = bytes.size() - 16;
  auto [high, low] = digest_rows(bytes.data(), kRow, kRow, n / kRow, 0);
  if (const std::size_t rest = n % kRow; rest > 0) {
    const auto [last_high, last_low] = digest_rows(bytes.data() + n - rest, rest, rest, 1, n / kRow);
    low += last_low;
    high += last_high + (low < last_low ? 1 : 0);
  }
  const std::uint64_t sum[2] = {high, low};
  std::memcpy(bytes.data() + n, sum, sizeof sum);
}

}  // namespace

TEST_CASE("a forged file with a right checksum is refused, or answers within its bytes") {
  Random random(3);
  for (const Metric metric : kMetrics) {
    const Vectors vectors = random_vectors(Layout::of(metric, 6), 250, 1);
    const Forest forest = built_with_holes(vectors);
    const std::vector<char> files[] = {file_of(forest, cells_of(forest, 2, 8)),
                                       file_of(forest, cells_of(forest, 2, 4))};
    for (const std::vector<char>& bytes : files) {
      std::vector<char> sealed = bytes;
      seal(sealed);
      REQUIRE(sealed == bytes);
    }
    int refused = 0;
    for (int round = 0; round < 400; ++round) {
      std::vector<char> forged = files[round % 2];
      for (std::size_t change = 0; change <= random.below(3); ++change) {
        const std::size_t at = random.below((forged.size() - 16) / 4) * 4;
        const auto value = static_cast<std::uint32_t>(random.below(4) == 0 ? random.next() : random.below(300));
        std::memcpy(forged.data() + at, &value, sizeof value);
      }
      seal(forged);
      try {
        const std::shared_ptr<const Cells> cells = parsed_cells(forged, forest);
        const Batch batch = asked(forest, *cells, vectors, 5, 60, 2);
        CHECK(std::all_of(batch.ids.begin(), batch.ids.end(),
                          [&](std::int64_t id) { return id >= -1 && id < forest.n_items; }));
        search_cells(forest, *cells, vectors.row(0), 5, 60);
      } catch (const CorruptFile&) {
        ++refused;
      }
    }
    CHECK(refused > 40);
  }
}

TEST_CASE("the budget told for an item is the least that scores its cell") {
  const Vectors vectors = random_vectors(Layout::of(Metric::euclidean, 12), 1200, 1);
  const Vectors queries = random_vectors(vectors.layout, 20, 2);
  const Forest forest = built_with_holes(vectors);
  const Cells cells = cells_of(forest, 2, 0);  // without codes all that is scored may be answered
  const std::vector<std::int64_t> targets = {1, 4, 301, 0, 5000, -1};
  std::vector<std::int64_t> budgets(queries.count() * targets.size()), wanted;
  for (std::size_t q = 0; q < queries.count(); ++q) wanted.insert(wanted.end(), targets.begin(), targets.end());
  Cancellation never;
  cell_budgets_to_find_batch(forest, cells, queries.bytes.data(), queries.stride(), queries.count(), wanted.data(),
                             targets.size(), 2, never, budgets.data());
  for (std::size_t q = 0; q < queries.count(); ++q) {
    for (std::size_t t = 0; t < targets.size(); ++t) {
      const std::int64_t budget = budgets[q * targets.size() + t];
      if (t >= 3) {  // a hole, and numbers of no item
        CHECK(budget == -1);
        continue;
      }
      const auto found = ids_of(search_cells(forest, cells, queries.row(q), 1200, budget));
      CHECK(std::find(found.begin(), found.end(), targets[t]) != found.end());
    }
  }
}

TEST_CASE("cells so many that they are ranked by groups find nearly what all of them would") {
  const Vectors vectors = random_vectors(Layout::of(Metric::euclidean, 4), 40000, 1);
  const Vectors queries = random_vectors(vectors.layout, 300, 2);
  const Forest forest = built(vectors, {{1, 7, 2}});
  const Cells cells = cells_of(forest, 2, 0, 20000);
  REQUIRE(cells.are_ranked_by_groups());
  const Batch one = asked(forest, cells, queries, 5, 300, 1);
  CHECK(one.ids == asked(forest, cells, queries, 5, 300, 3).ids);
  std::vector<std::int64_t> budgets(queries.count() * 5);
  Cancellation never;
  cell_budgets_to_find_batch(forest, cells, queries.bytes.data(), queries.stride(), queries.count(), one.ids.data(), 5,
                             2, never, budgets.data());
  std::size_t n_found = 0;
  for (std::size_t q = 0; q < queries.count(); ++q) {
    const std::vector<std::int64_t> alone = ids_of(search_cells(forest, cells, queries.row(q), 5, 300));
    CHECK(std::equal(alone.begin(), alone.end(), one.ids.begin() + static_cast<std::ptrdiff_t>(5 * q)));
    for (const std::int64_t expected : ids_of(brute_force(forest, queries.row(q), 5))) {
      n_found += std::find(alone.begin(), alone.end(), expected) != alone.end() ? 1 : 0;
    }
    const std::int64_t budget = budgets[5 * q + 4];
    const std::vector<std::int64_t> within = ids_of(search_cells(forest, cells, queries.row(q), 5, budget));
    CHECK(std::find(within.begin(), within.end(), alone[4]) != within.end());
  }
  CHECK(n_found > 5 * queries.count() * 9 / 10);
}

TEST_CASE("items numbered by cells are runs of the file, and the same items") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Vectors vectors = random_vectors(Layout::of(metric, 9), 900, 1);
    const TemporaryFolder folder;
    for (const bool on_disk : {false, true}) {
      Index index(metric, 9);
      if (on_disk) index.on_disk_build(folder.file("ordered.ann"));
      index.add(vectors.bytes.data(), vectors.stride(), vectors.count(), nullptr);
      CellSettings settings;
      if (on_disk) {
        settings.scratch_beside = folder.file("ordered.ann");
        settings.resident_bytes = 1 << 16;
      }
      Cancellation never;
      const std::vector<std::int32_t> rows = index.order_by_cells(settings, 2, never, kUnlimited);
      REQUIRE(std::set<std::int32_t>(rows.begin(), rows.end()).size() == vectors.count());
      CHECK(index.status().n_cells == 0);
      index.build(4, 2, never);
      CHECK(index.status().n_cells > 5);
      index.save(folder.file("ordered.ann"), false);
      Index again(metric, 9);
      again.load(folder.file("ordered.ann"), false, never, true);
      std::vector<char> item(vectors.stride());
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto number = static_cast<std::int64_t>(i);
        again.item_vectors(&number, 1, item.data());
        const char* row = vectors.row(static_cast<std::size_t>(rows[i]));
        CHECK(std::equal(item.begin(), item.end(), row));
      }
      const std::vector<Neighbor> found = again.nearest(vectors.row(17), 10, 5000);
      const Forest plain = built(vectors);
      const std::vector<Neighbor> expected = brute_force(plain, vectors.row(17), 10);
      for (std::size_t i = 0; i < 10; ++i) CHECK(found[i].distance == expected[i].distance);
      // Without an order of items.
      CHECK(read_file(folder.file("ordered.ann.cells")).size() < cells_file_bytes(plain, cells_of(plain)));
      // Another item would not be in the order.
      Index more(metric, 9);
      more.add(vectors.bytes.data(), vectors.stride(), 100, nullptr);
      more.order_by_cells({}, 2, never, kUnlimited);
      more.add_after_last(vectors.row(100), vectors.stride(), 1);
      more.build(1, 2, never);
      CHECK(more.status().n_cells == 0);
      CHECK_THROWS_AS(more.order_by_cells({}, 2, never, kUnlimited), StateError);
      Index holes(metric, 9);
      const std::int64_t far = 7;
      holes.add(vectors.bytes.data(), vectors.stride(), 1, &far);
      CHECK_THROWS_AS(holes.order_by_cells({}, 2, never, kUnlimited), StateError);
    }
  }
}

TEST_SUITE_END();
