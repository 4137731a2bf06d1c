// The two layouts of dot nodes: told apart, both searched, the development version's turned into 1.17.3's.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "core/dot_conversion.hpp"
#include "core/errors.hpp"
#include "core/index.hpp"
#include "core/random.hpp"
#include "core/search.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

constexpr std::int64_t kNoBound = -2;

Layout released(std::size_t width) { return Layout::of(Metric::dot, width); }

std::vector<char> converted(const Forest& forest) {
  const DotConversion conversion(forest);
  std::vector<char> bytes;
  conversion.write([&](const char* piece, std::size_t n) { bytes.insert(bytes.end(), piece, piece + n); });
  CHECK(bytes.size() == conversion.size());
  return bytes;
}

void put(std::vector<char>& bytes, std::size_t word, std::int32_t value) {
  std::memcpy(bytes.data() + 4 * word, &value, sizeof value);
}

// 160 bytes of dot with 4 dimensions: 5 nodes of 32 bytes (2 items, 3 lists over them) and 4 of 40 (3 items, a list).
std::vector<char> two_forests_in_one() {
  std::vector<char> bytes(160);
  for (const std::size_t item : {0, 8}) put(bytes, item, 1);
  for (const std::size_t list : {16, 24, 32}) put(bytes, list, 2);
  for (const std::size_t item : {0, 10, 20}) put(bytes, item, 1), put(bytes, item + 5, 1);
  put(bytes, 30, 3);
  return bytes;
}

}  // namespace

TEST_SUITE_BEGIN("dot_layouts");

TEST_CASE("the development version's nodes have eight bytes more and lists of two items more") {
  for (const std::size_t f : {1, 2, 3, 128}) {
    const Layout layout = Layout::of_development_dot(f);
    CHECK(layout.node_size == 24 + 4 * f);
    CHECK(layout.children_offset == 4);
    CHECK(layout.scalar_offset == 12);
    CHECK(layout.vector_offset == 24);
    CHECK(layout.list_capacity == static_cast<std::int32_t>(f + 5));
    CHECK(layout.vector_bytes() == 4 * f);
    CHECK(layout != released(f));
  }
}

TEST_CASE("whichever layout a file has, it is read in that one, be it ever so small or degenerate") {
  std::size_t in_both_sizes = 0;
  for (const bool zeros : {false, true}) {
    for (const std::size_t width : {1, 2, 4, 8}) {
      for (std::size_t n = 0; n < 25; ++n) {
        for (const int n_trees : {1, 2, 3}) {
          for (const std::int32_t step : {1, 2}) {
            CAPTURE(zeros);
            CAPTURE(width);
            CAPTURE(n);
            CAPTURE(n_trees);
            CAPTURE(step);
            Vectors vectors = random_vectors(released(width), n, 1);
            if (zeros) std::fill(vectors.bytes.begin(), vectors.bytes.end(), char{0});
            const std::vector<char> development = development_dot_file(vectors, n_trees, 1, step);
            BuildOptions options{n_trees};
            options.settings.n_threads = 1;
            for (std::size_t i = 0; i < n; ++i) options.ids.push_back(static_cast<std::int64_t>(i) * step);
            const std::vector<char> ours = bytes_of(built(vectors, options));
            for (const auto* bytes : {&development, &ours}) {
              const Layout expected = bytes == &ours ? released(width) : Layout::of_development_dot(width);
              const Forest forest = parsed(*bytes, released(width));
              if (bytes->size() % (16 + 4 * width) == 0 && bytes->size() % (24 + 4 * width) == 0) ++in_both_sizes;
              if (n > 0) CHECK(forest.layout == expected);  // without items, all is zero in both
              CHECK(forest.n_items == (n == 0 ? 0 : static_cast<std::int32_t>(n - 1) * step + 1));
            }
          }
        }
      }
    }
  }
  CHECK(in_both_sizes > 50);
}

TEST_CASE("bytes that are sound in both layouts are refused unless the items look written in just one") {
  const std::vector<char> forged = two_forests_in_one();
  const Forest forest = parsed(forged, released(4));  // as items of 1.17.3 have no children
  CHECK(forest.layout.is_development_dot());
  CHECK(forest.n_items == 3);
  std::vector<char> bytes = forged;
  put(bytes, 1, 7);
  try {
    parsed(bytes, released(4));
    FAIL_CHECK("not refused");
  } catch (const CorruptFile& error) {
    CHECK(error.reason.find("can be read as dot nodes of 32 bytes (2 items) and of 40 bytes") != std::string::npos);
  }
  bytes = forged;
  put(bytes, 5, 0);  // an item that was not built
  CHECK(parsed(bytes, released(4)).layout == released(4));
}

TEST_CASE("bytes that hold items in one layout and none in the other are read as the one that has them") {
  // 7 nodes of 20 bytes: a hole and six lists of it. Every 28 bytes there is a zero.
  std::vector<char> bytes(140);
  for (std::size_t node = 1; node < 7; ++node) put(bytes, 5 * node, 1);
  const Forest forest = parsed(bytes, released(1));
  CHECK(forest.layout == released(1));
  CHECK(forest.n_items == 1);
  CHECK(forest.has_holes);
}

TEST_CASE("a file sound in neither layout is refused with the reasons of both") {
  std::vector<char> bytes = two_forests_in_one();
  put(bytes, 39, 9);  // nothing reads it
  put(bytes, 32, -1);
  try {
    parsed(bytes, released(4));
    FAIL_CHECK("not refused");
  } catch (const CorruptFile& error) {
    CHECK(error.reason.find("claims -1 items") != std::string::npos);
    CHECK(error.reason.find("development version: node 3 lists item -1 of 3") != std::string::npos);
  }
  bytes.resize(159);
  try {
    parsed(bytes, released(4));
    FAIL_CHECK("not refused");
  } catch (const CorruptFile& error) {
    CHECK(error.reason.find("neither of 32") != std::string::npos);
    CHECK(error.reason.find("nor of 40") != std::string::npos);
  }
}

TEST_CASE("a converted forest has the items, the trees and the answers of the one it was made from") {
  std::size_t parted = 0;
  for (const std::size_t width : {1, 2, 7, 40}) {
    for (const std::size_t n : {0, 1, 2, 4, 5, 6, 7, 8, 12, 44, 45, 60, 200}) {
      for (const std::int32_t step : {1, 3}) {
        for (const int n_trees : {1, 3}) {
          CAPTURE(width);
          CAPTURE(n);
          CAPTURE(step);
          CAPTURE(n_trees);
          const Vectors vectors = random_vectors(released(width), n, n);
          const Forest forest = parsed(development_dot_file(vectors, n_trees, n, step), released(width));
          if (n > 0) REQUIRE(forest.layout.is_development_dot());
          if (!forest.layout.is_development_dot()) continue;
          CHECK(forest.roots.size() == static_cast<std::size_t>(n_trees));
          const std::vector<char> bytes = converted(forest);
          const Forest same = parsed(bytes, released(width));
          REQUIRE(same.layout == released(width));
          CHECK(same.n_items == forest.n_items);
          CHECK(same.roots.size() == forest.roots.size());
          CHECK(same.has_holes == forest.has_holes);
          for (std::int32_t id = 0; id < forest.n_items; ++id) {
            CHECK(same.node(id).n_descendants() == forest.node(id).n_descendants());
            CHECK(std::memcmp(same.node(id).vector(), forest.node(id).vector(), 4 * width) == 0);
          }
          if (same.n_nodes > forest.n_nodes) ++parted;
          const Vectors queries = random_vectors(released(width), 3, 99);
          for (std::size_t q = 0; q < queries.count(); ++q) {
            const auto expected = ids_of(brute_force(forest, queries.row(q), n));
            CHECK(ids_of(search(forest, queries.row(q), n, kNoBound)) == expected);
            CHECK(ids_of(search(same, queries.row(q), n, kNoBound)) == expected);
          }
        }
      }
    }
  }
  CHECK(parted > 20);
}

TEST_CASE("a tree as deep as it has splits is converted") {
  // Each split has an item and the next split for children: a walk by recursion would use up the stack.
  const Layout layout = Layout::of_development_dot(1);
  const std::int32_t n_items = 100000;
  std::vector<char> bytes(static_cast<std::size_t>(2 * n_items) * layout.node_size);
  for (std::int32_t id = 0; id < 2 * n_items; ++id) {
    char* const node = bytes.data() + static_cast<std::size_t>(id) * layout.node_size;
    NodeWriter writer(node, layout);
    if (id < n_items) {
      writer.set_n_descendants(1);
      node[20] = 1;
      writer.vector()[0] = static_cast<float>(id);
    } else {
      writer.set_n_descendants(id + 1 < 2 * n_items ? n_items - 1 : n_items);
      writer.set_child(0, id - n_items);
      writer.set_child(1, id > n_items ? id - 1 : 0);
    }
  }
  const Forest forest = parsed(bytes, released(1));
  REQUIRE(forest.layout.is_development_dot());
  const Forest same = parsed(converted(forest), released(1));
  const float query = 1.0f;
  const std::vector<std::int64_t> expected = {99999, 99998, 99997};
  CHECK(ids_of(search(forest, &query, 3, kNoBound)) == expected);
  CHECK(ids_of(search(same, &query, 3, kNoBound)) == expected);
}

TEST_CASE("an index loaded from the development version's nodes is asked, saved and copied as any other") {
  const TemporaryFolder folder;
  const Vectors vectors = random_vectors(released(6), 200, 3);
  write_file(folder.file("development"), development_dot_file(vectors, 4, 3, 2));
  Index index(Metric::dot, 6);
  index.load(folder.file("development"), false);
  CHECK(index.n_items() == 399);
  CHECK(index.n_trees() == 4);
  CHECK(index.has_item(2));
  CHECK(!index.has_item(1));
  const auto ask = [&] { return ids_of(index.nearest_to_item(8, 20, kNoBound)); };
  const auto answer = ask();
  CHECK(answer == ids_of(index.nearest(vectors.row(4), 20, kNoBound)));
  const std::vector<char> node = index.item_node(8);
  CHECK(std::memcmp(NodeView(node.data(), index.layout()).vector(), vectors.row(4), vectors.stride()) == 0);
  const std::vector<char> hole = index.item_node(7);
  CHECK(std::all_of(hole.begin(), hole.end(), [](char c) { return c == 0; }));
  std::vector<char> rows(2 * vectors.stride());
  const std::int64_t items[] = {8, 7};
  index.item_vectors(items, 2, rows.data());
  CHECK(std::memcmp(rows.data(), vectors.row(4), vectors.stride()) == 0);
  CHECK(index.distance(8, 8) ==
        index
            .nearest_to_item(
                8, 399, kNoBound)[static_cast<std::size_t>(std::find(answer.begin(), answer.end(), 8) - answer.begin())]
            .distance);

  std::vector<char> copy;
  index.copy_file([&](std::size_t size) {
    copy.resize(size);
    return copy.data();
  });
  index.save(folder.file("saved"), false);
  CHECK(read_file(folder.file("saved")) == copy);
  CHECK(copy.size() % index.layout().node_size == 0);
  CHECK(ask() == answer);
  CHECK(index.n_trees() == 4);
}

TEST_SUITE_END();
