// Damaged files: refused with a reason, or searched within their bounds.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <mutex>

#include "core/errors.hpp"
#include "core/forest_check.hpp"
#include "core/random.hpp"
#include "core/search.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

constexpr std::int64_t kNoBound = -2;

Layout small(Metric metric) { return Layout::of(metric, metric == Metric::hamming ? 40 : 4); }

// A sound forest to damage: three trees with splits and lists.
struct Sample {
  explicit Sample(Metric metric, std::size_t n_items = 60)
      : vectors(random_vectors(small(metric), n_items, 1)),
        forest(built(vectors, {/*n_trees=*/3})),
        bytes(bytes_of(forest)) {}

  std::int32_t any(const std::function<bool(std::int32_t)>& wanted) const {
    for (std::int32_t id = forest.n_items; id < forest.roots.front(); ++id) {
      if (wanted(id)) return id;
    }
    FAIL("no such node");
    return -1;
  }
  bool is_split(std::int32_t id) const { return forest.node(id).n_descendants() > forest.layout.list_capacity; }
  bool is_inner(std::int32_t id) const { return is_split(id) && forest.node(id).n_descendants() < forest.n_items; }
  std::int32_t inner_split() const {
    return any([&](std::int32_t id) { return is_inner(id); });
  }
  std::int32_t list() const {
    return any([&](std::int32_t id) { return !is_split(id); });
  }
  std::int32_t root() const { return forest.roots.back(); }

  NodeWriter write(std::int32_t id) {
    return {bytes.data() + static_cast<std::size_t>(id) * forest.layout.node_size, forest.layout};
  }

  void check_refused(const std::string& reason) const {
    try {
      parsed(bytes, forest.layout);
      FAIL_CHECK("not refused; expected: ", reason);
    } catch (const CorruptFile& error) {
      CAPTURE(std::string(error.what()));
      CHECK(std::string(error.what()).find(reason) != std::string::npos);
    }
  }

  Vectors vectors;
  Forest forest;
  std::vector<char> bytes;
};

std::vector<std::int64_t> all_ids(const Forest& forest, const Vectors& vectors) {
  return ids_of(search(forest, vectors.row(0), vectors.count(), kNoBound));
}

void damage(const std::function<void(Sample&)>& how, const std::string& reason, std::size_t n_items = 60) {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    Sample sample(metric, n_items);
    how(sample);
    sample.check_refused(reason);
  }
}

}  // namespace

TEST_SUITE_BEGIN("forest_file");

TEST_CASE("a file cut within a node is refused") {
  for (const Metric metric : kMetrics) {
    const Sample sample(metric);
    const std::size_t node = sample.forest.layout.node_size;
    for (std::size_t size = 0; size < sample.bytes.size(); ++size) {
      if (size % node == 0 && size > 0) continue;
      const std::vector<char> cut(sample.bytes.begin(), sample.bytes.begin() + static_cast<std::ptrdiff_t>(size));
      CHECK_THROWS_AS(parsed(cut, sample.forest.layout), CorruptFile);
    }
  }
}

TEST_CASE("a file cut between nodes is refused, or still has a tree over every item") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    for (const std::size_t n_items : {1, 2, 4, 5, 9, 60}) {
      CAPTURE(n_items);
      const Sample sample(metric, n_items);
      const std::size_t node = sample.forest.layout.node_size;
      const std::vector<std::int64_t> whole = all_ids(sample.forest, sample.vectors);
      for (std::size_t nodes = 1; nodes < sample.forest.n_nodes; ++nodes) {
        CAPTURE(nodes);
        const std::vector<char> cut(sample.bytes.begin(),
                                    sample.bytes.begin() + static_cast<std::ptrdiff_t>(nodes * node));
        try {
          const Forest rest = parsed(cut, sample.forest.layout);
          CHECK(rest.n_items == sample.forest.n_items);
          CHECK(all_ids(rest, sample.vectors) == whole);
        } catch (const CorruptFile&) {
          continue;
        }
      }
    }
  }
}

TEST_CASE("a file cut after a list of just its first items is refused") {
  // As where items are numbered by cell: the first list is 0, 1 … and would do as a root.
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    Sample sample(metric);
    const std::int32_t list = sample.forest.n_items;
    REQUIRE(!sample.is_split(list));
    const std::int32_t n = sample.forest.node(list).n_descendants();
    for (std::int32_t i = 0; i < n; ++i) sample.write(list).list()[i] = i;
    sample.bytes.resize(static_cast<std::size_t>(list + 1) * sample.forest.layout.node_size);
    sample.check_refused("");  // as what is no list, or as what belongs to no tree
  }
}

TEST_CASE("zeros at the end are refused") {
  damage([](Sample& s) { s.bytes.resize(s.bytes.size() + s.forest.layout.node_size); }, "claims no items");
  damage(
      [](Sample& s) {
        const std::size_t tail = 10 * s.forest.layout.node_size;
        std::memset(s.bytes.data() + s.bytes.size() - tail, 0, tail);
      },
      "claims no items");
}

TEST_CASE("children out of range are refused") {
  for (const int side : {0, 1}) {
    for (const std::int32_t bad : {-1, -2000000000, 2000000000}) {
      damage([&](Sample& s) { s.write(s.inner_split()).set_child(side, bad); }, "has the child");
      damage([&](Sample& s) { s.write(s.root()).set_child(side, bad); }, "has the child");
    }
    damage([&](Sample& s) { s.write(s.root()).set_child(side, static_cast<std::int32_t>(s.forest.n_nodes)); },
           "has the child");
  }
}

TEST_CASE("a node that is its own child is refused") {
  damage([](Sample& s) { s.write(s.root()).set_child(0, s.root()); }, "");
  damage(
      [](Sample& s) {
        const std::int32_t id = s.inner_split();
        s.write(id).set_child(1, id);
      },
      "");
}

TEST_CASE("a cycle of nodes is refused") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    Sample sample(metric);
    // The first split below a root gets that root's place among its own children.
    const std::int32_t original =
        sample.any([&](std::int32_t id) { return sample.is_split(id) && !sample.is_inner(id); });
    const NodeView root = sample.forest.node(original);
    const std::int32_t below = sample.is_inner(root.child(0)) ? root.child(0) : root.child(1);
    REQUIRE(sample.is_inner(below));
    sample.write(below).set_child(0, original);
    sample.check_refused("original, is the child");
    sample.write(below).set_child(0, sample.forest.roots.front());
    sample.check_refused("is the child of another node");
    sample.write(below).set_child(0, below);
    sample.check_refused("two parents");
  }
}

TEST_CASE("a node with two parents is refused") {
  damage(
      [](Sample& s) {
        const std::int32_t id = s.inner_split();
        const std::int32_t other =
            s.any([&](std::int32_t node) { return s.is_inner(node) && node != id && node > id; });
        const std::int32_t list = s.any([&](std::int32_t node) { return !s.is_split(node); });
        s.write(id).set_child(0, list);
        s.write(other).set_child(0, list);
      },
      "has two parents");
}

TEST_CASE("a node that no tree reaches is refused") {
  damage(
      [](Sample& s) {
        s.write(s.inner_split()).set_child(s.forest.node(s.inner_split()).child(0) >= s.forest.n_items ? 0 : 1, 0);
      },
      "belongs to no tree");
}

TEST_CASE("lists of items out of range are refused") {
  for (const std::int32_t bad : {-1, 60, 61, 2147483647, -2147483647}) {
    damage([&](Sample& s) { s.write(s.list()).list()[1] = bad; }, "lists item");
  }
}

TEST_CASE("a negative number of descendants is refused") {
  damage([](Sample& s) { s.write(s.list()).set_n_descendants(-1); }, "descendants");
  damage([](Sample& s) { s.write(s.inner_split()).set_n_descendants(-1088797586); }, "descendants");
  damage([](Sample& s) { s.write(s.root()).set_n_descendants(-1); }, "claims -1 items");
  damage([](Sample& s) { s.write(5).set_n_descendants(-1); }, "is not an item");
}

TEST_CASE("a last node that claims more items than there are nodes is refused") {
  for (const std::int32_t n : {1000000, 2147483647}) {
    damage([&](Sample& s) { s.write(s.root()).set_n_descendants(n); }, "among");
  }
}

TEST_CASE("an item that is none is refused") {
  damage([](Sample& s) { s.write(0).set_n_descendants(2); }, "is not an item");
  damage([](Sample& s) { s.write(59).set_n_descendants(1000); }, "is not an item");
}

TEST_CASE("a split on a bit that vectors do not have is refused") {
  for (const std::uint64_t bit : {std::uint64_t{64}, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
    Sample sample(Metric::hamming);
    sample.write(sample.inner_split()).bits()[0] = bit;
    sample.check_refused("splits on bit");
  }
}

TEST_CASE("a file of another metric or width is refused where its bytes tell") {
  const Sample sample(Metric::angular, 500);
  const Layout& own = sample.forest.layout;
  for (const Metric metric : kMetrics) {
    for (std::size_t width = 1; width < 40; ++width) {
      const Layout other = Layout::of(metric, width);
      // Such files differ in what their vectors mean, not in their nodes.
      if (other.node_size == own.node_size && other.children_offset == own.children_offset) continue;
      CAPTURE(std::string(metric_name(metric)));
      CAPTURE(width);
      CHECK_THROWS_AS(parsed(sample.bytes, other), CorruptFile);
    }
  }
}

TEST_CASE("roots copied in another order, as Annoy's threads may leave them, are all found once") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    Sample sample(metric);
    const std::size_t node = sample.forest.layout.node_size;
    char* copies = sample.bytes.data() + static_cast<std::size_t>(sample.forest.roots.front()) * node;
    std::vector<char> swapped(copies, copies + node);
    std::memmove(copies, copies + node, 2 * node);
    std::memcpy(copies + 2 * node, swapped.data(), node);
    const Forest forest = parsed(sample.bytes, sample.forest.layout);
    CHECK(forest.roots.size() == 3);
    CHECK(all_ids(forest, sample.vectors) == all_ids(sample.forest, sample.vectors));
  }
}

TEST_CASE("roots written once, at the end, are accepted") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Vectors vectors = random_vectors(small(metric), 60, 1);
    const Forest forest = built(vectors, {/*n_trees=*/1});
    std::vector<char> bytes = bytes_of(forest);
    bytes.resize(bytes.size() - forest.layout.node_size);
    const Forest read = parsed(bytes, forest.layout);
    CHECK(read.roots.size() == 1);
    CHECK(all_ids(read, vectors) == all_ids(forest, vectors));
  }
}

TEST_CASE("whatever bytes are changed, a file is refused or a search of it ends within its bounds") {
  Random random(11);
  std::size_t searched = 0;
  for (int round = 0; round < 4000; ++round) {
    static const std::vector<Sample> samples = [] {
      std::vector<Sample> all;
      for (const Metric metric : kMetrics) {
        for (const std::size_t n_items : {3, 12, 60}) all.emplace_back(metric, n_items);
      }
      return all;
    }();
    const Sample& sample = samples[random.below(samples.size())];
    std::vector<char> bytes = sample.bytes;
    for (std::size_t change = random.below(4) + 1; change > 0; --change) {
      const std::size_t words = bytes.size() / 4;
      switch (random.below(4)) {
        case 0:
          bytes[random.below(bytes.size())] = static_cast<char>(random.next());
          break;
        case 1: {  // a small number where numbers of nodes and items are
          const auto value = static_cast<std::int32_t>(random.below(sample.forest.n_nodes + 4)) - 2;
          std::memcpy(bytes.data() + 4 * random.below(words), &value, sizeof value);
          break;
        }
        case 2:  // one word over another
          std::memmove(bytes.data() + 4 * random.below(words), bytes.data() + 4 * random.below(words), 4);
          break;
        case 3:
          bytes.resize(bytes.size() - sample.forest.layout.node_size * random.below(2));
          break;
      }
    }
    try {
      const Forest forest = parsed(bytes, sample.forest.layout);
      for (const std::int64_t budget : {std::int64_t{-1}, std::int64_t{7}, kNoBound}) {
        for (const Neighbor& neighbor : search(forest, sample.vectors.row(0), 10, budget)) {
          CHECK(neighbor.id >= 0);
          CHECK(neighbor.id < forest.n_items);
        }
      }
      ++searched;
    } catch (const CorruptFile&) {
      continue;
    }
  }
  CHECK(searched > 400);  // most changes hit vectors, so the search is tried as well as the check
  CHECK(searched < 3600);
}

TEST_CASE("many splits that claim to be roots are checked in reasonable time") {
  // A forged file: 200 000 roots and as many splits that are no copies of them would be 10^10 comparisons one by one.
  const Layout layout = Layout::of(Metric::euclidean, 1);
  const std::int32_t n_items = layout.list_capacity + 1;
  const std::int32_t n = 200000;
  std::vector<char> bytes(static_cast<std::size_t>(n_items + 2 * n) * layout.node_size);
  for (std::int32_t id = 0; id < n_items + 2 * n; ++id) {
    NodeWriter node(bytes.data() + static_cast<std::size_t>(id) * layout.node_size, layout);
    node.set_n_descendants(id < n_items ? 1 : n_items);
    if (id == n_items + n) node.set_n_descendants(n_items + 1);
    if (id >= n_items) node.set_child(0, id % n_items), node.set_child(1, id > n_items + n ? 0 : 1);
  }
  const Forest forest = [&]() -> Forest {
    try {
      return parsed(bytes, layout);
    } catch (const CorruptFile&) {
      return {};
    }
  }();
  CHECK(forest.roots.empty());
}

TEST_CASE("the reason for a refusal names the lowest of several faults, whatever the number of threads") {
  constexpr std::size_t kBlock = 512;  // bytes a thread takes: many blocks even in a small file
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    Sample sample(metric, 400);
    const auto verdict = [&](std::size_t n_threads) -> std::string {
      Forest forest;
      forest.layout = sample.forest.layout;
      forest.nodes = std::shared_ptr<const char>(std::shared_ptr<void>(), sample.bytes.data());
      forest.n_nodes = sample.bytes.size() / forest.layout.node_size;
      Cancellation never;
      try {
        check_forest(forest, "test", n_threads, never, {}, kBlock);
      } catch (const CorruptFile& refusal) {
        return refusal.reason;
      }
      return "sound";
    };
    CHECK(verdict(1) == "sound");
    CHECK(verdict(3) == "sound");
    std::vector<std::int32_t> lists;
    for (std::int32_t id = sample.forest.n_items; id < sample.forest.roots.front(); ++id) {
      if (!sample.is_split(id)) lists.push_back(id);
    }
    for (std::size_t i = 10; i < lists.size(); i += 7) sample.write(lists[i]).list()[0] = -5;
    for (int round = 0; round < 20; ++round) {
      CHECK(verdict(3) == "node " + std::to_string(lists[10]) + " lists item -5 of 400");
    }
    CHECK(verdict(1) == verdict(3));
    sample.write(350).set_n_descendants(7);
    sample.write(20).set_n_descendants(9);
    for (int round = 0; round < 20; ++round) CHECK(verdict(3).find("node 20 of 400 items is not an item") == 0);
  }
}

TEST_CASE("two parents far apart are found by several threads as by one") {
  constexpr std::size_t kBlock = 512;
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    Sample sample(metric, 400);
    const std::int32_t first = sample.inner_split();
    std::int32_t last = -1;
    for (std::int32_t id = sample.forest.n_items; id < sample.forest.roots.front(); ++id) {
      if (sample.is_inner(id)) last = id;
    }
    REQUIRE(last > first);
    const std::int32_t shared = sample.any([&](std::int32_t id) { return !sample.is_split(id); });
    sample.write(first).set_child(1, shared);
    sample.write(last).set_child(0, shared);
    Forest forest;
    forest.layout = sample.forest.layout;
    forest.nodes = std::shared_ptr<const char>(std::shared_ptr<void>(), sample.bytes.data());
    forest.n_nodes = sample.bytes.size() / forest.layout.node_size;
    Cancellation never;
    for (int round = 0; round < 20; ++round) {
      CHECK_THROWS_WITH_AS(check_forest(forest, "test", 3, never, {}, kBlock), doctest::Contains("two parents"),
                           CorruptFile);
    }
  }
}

TEST_CASE("bytes are asked for ahead and released, each once, and in time") {
  const Sample sample(Metric::euclidean, 400);
  Cancellation never;
  for (const std::size_t n_threads : {1, 3}) {
    std::mutex mutex;
    std::vector<std::pair<std::size_t, std::size_t>> asked, released;
    bool asked_before_released = true;
    ByteHints hints;
    hints.read_ahead = [&](std::size_t offset, std::size_t n) {
      const std::lock_guard<std::mutex> lock(mutex);
      asked.emplace_back(offset, offset + n);
    };
    hints.release = [&](std::size_t offset, std::size_t n) {
      const std::lock_guard<std::mutex> lock(mutex);
      released.emplace_back(offset, offset + n);
      asked_before_released &= std::any_of(asked.begin(), asked.end(), [&](const auto& range) {
        return range.first <= offset && range.second >= offset + n;
      });
    };
    Forest forest;
    forest.layout = sample.forest.layout;
    forest.nodes = sample.forest.nodes;
    forest.n_nodes = sample.forest.n_nodes;
    check_forest(forest, "test", n_threads, never, hints, 512);
    // Which of several threads comes first is theirs to settle: none waits for what another asks.
    if (n_threads == 1) CHECK(asked_before_released);
    for (auto* ranges : {&asked, &released}) {
      std::sort(ranges->begin(), ranges->end());
      CHECK(ranges->front().first == 0);
      for (std::size_t i = 1; i < ranges->size(); ++i) CHECK((*ranges)[i].first == (*ranges)[i - 1].second);
      CHECK(ranges->back().second >= sample.bytes.size());
    }
  }
}

TEST_CASE("planes and vectors that are not finite are searched in order and to the end") {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Metric metric : kMetrics) {
    if (is_binary(metric)) continue;  // all bits are numbers
    CAPTURE(std::string(metric_name(metric)));
    for (const float value : {kNan, -kNan, kInfinity, -kInfinity}) {
      for (const bool in_planes : {true, false}) {
        for (const bool everywhere : {true, false}) {
          Sample sample(metric);
          for (std::int32_t id = 0; id < static_cast<std::int32_t>(sample.forest.n_nodes); ++id) {
            const bool is_item = id < sample.forest.n_items;
            if (is_item == in_planes || (!everywhere && id % 2 == 0)) continue;
            if (!is_item && !sample.is_split(id)) continue;
            sample.write(id).vector()[id % 4] = value;
            if (metric != Metric::angular) sample.write(id).set_scalar(value);
            if (metric == Metric::angular && is_item && id % 3 == 0) sample.write(id).set_scalar(value);
          }
          const Forest forest = parsed(sample.bytes, sample.forest.layout);
          for (std::size_t q = 0; q < 3; ++q) {
            const std::vector<Neighbor> all = search(forest, sample.vectors.row(q), 60, kNoBound);
            CHECK(all.size() == 60);
            CHECK(ids_of(all) == ids_of(brute_force(forest, sample.vectors.row(q), 60)));
            for (std::size_t i = 0; i < all.size(); ++i) {
              CHECK(!std::isnan(all[i].distance));
              if (i > 0) CHECK(all[i - 1] < all[i]);
            }
          }
          const std::vector<Neighbor> own = search(forest, forest.at(7) + forest.layout.vector_offset, 60, kNoBound);
          CHECK(own.size() == 60);
        }
      }
    }
  }
}

TEST_CASE("a file that is missing, empty, a folder or a pipe is refused") {
  const TemporaryFolder folder;
  const Layout layout = Layout::of(Metric::angular, 4);
  Cancellation never;
  CHECK_THROWS_AS(open_forest(folder.file("missing"), layout, false, 2, never), FileError);
  CHECK_THROWS_AS(open_forest(folder.file(""), layout, false, 2, never), FileError);
  write_file(folder.file("empty"), {});
  CHECK_THROWS_AS(open_forest(folder.file("empty"), layout, false, 2, never), CorruptFile);
  REQUIRE(mkfifo(folder.file("pipe").c_str(), 0600) == 0);
  CHECK_THROWS_AS(open_forest(folder.file("pipe"), layout, false, 2, never), FileError);
}

TEST_SUITE_END();
