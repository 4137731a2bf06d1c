#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "core/build_memory.hpp"
#include "core/digest.hpp"
#include "core/errors.hpp"
#include "core/file.hpp"
#include "core/top_trees.hpp"
#include "kernels/kernels.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

// Walks the tree of a root and checks what the format asks of every node; counts how often each item is met.
class TreeInspector {
 public:
  explicit TreeInspector(const Forest& forest) : forest_(forest) {}

  void inspect(std::int32_t original) { descend(original, true); }

  const std::map<std::int32_t, int>& met() const { return met_; }

 private:
  // The number of items below the node.
  std::int32_t descend(std::int32_t id, bool is_root) {
    if (id < forest_.n_items) {
      ++met_[id];
      return 1;
    }
    const NodeView node = forest_.node(id);
    const std::int32_t n = node.n_descendants();
    std::int32_t below = 0;
    if (n <= forest_.layout.list_capacity) {
      for (std::int32_t i = 0; i < forest_.layout.list_capacity; ++i) {
        if (i < n) {
          if (is_root && i > 0 && node.list()[i] == 0) continue;  // a root counts holes: its list ends in zeros
          ++met_[node.list()[i]];
          ++below;
        } else {
          CHECK(node.list()[i] == 0);
        }
      }
    } else {
      CHECK(node.child(0) < id);
      CHECK(node.child(1) < id);
      below = descend(node.child(0), false) + descend(node.child(1), false);
      check_padding(id);
    }
    if (!is_root) CHECK(n == below);
    return below;
  }

  void check_padding(std::int32_t id) {
    const NodeView node = forest_.node(id);
    if (forest_.layout.metric == Metric::dot) CHECK(node.scalar() == 0.0f);
    if (forest_.layout.metric == Metric::hamming) {
      CHECK(node.scalar() == 0.0f);
      for (std::size_t w = 1; w < forest_.layout.words; ++w) CHECK(node.bits()[w] == 0);
    }
  }

  const Forest& forest_;
  std::map<std::int32_t, int> met_;
};

// Roots in their places: nodes whose copies stand at the end, in the same order.
std::vector<std::int32_t> originals_of(const Forest& forest) {
  std::vector<std::int32_t> originals;
  std::int32_t id = forest.n_items;
  for (const std::int32_t root : forest.roots) {
    while (id < forest.roots.front() && std::memcmp(forest.at(id), forest.at(root), forest.layout.node_size) != 0) ++id;
    REQUIRE(id < forest.roots.front());
    originals.push_back(id++);
  }
  return originals;
}

void check_structure(const Forest& forest, int n_trees, const std::set<std::int32_t>& present) {
  REQUIRE(forest.roots.size() == static_cast<std::size_t>(n_trees));
  CHECK(forest.roots.back() == static_cast<std::int32_t>(forest.n_nodes) - 1);
  CHECK(forest.roots.front() == static_cast<std::int32_t>(forest.n_nodes) - n_trees);
  for (const std::int32_t original : originals_of(forest)) {
    TreeInspector inspector(forest);
    inspector.inspect(original);
    std::set<std::int32_t> met;
    for (const auto& [item, times] : inspector.met()) {
      met.insert(item);
      // A root over a single item among many holes has it on both sides.
      CHECK(times <= (present.size() == 1 ? 2 : 1));
    }
    CHECK(met == present);
  }
  // What was written passes for sound when it is read, and means the same.
  const Forest read = parsed(bytes_of(forest), forest.layout);
  CHECK(read.n_items == forest.n_items);
  CHECK(read.roots == forest.roots);
  CHECK(read.has_holes == forest.has_holes);
}

std::set<std::int32_t> first(std::int32_t n) {
  std::set<std::int32_t> items;
  for (std::int32_t i = 0; i < n; ++i) items.insert(i);
  return items;
}

struct KernelsRestored {
  ~KernelsRestored() { use_kernels(""); }
};

}  // namespace

TEST_SUITE_BEGIN("builder");

TEST_CASE("the bytes are the same for any number of threads, any kernels, in memory and on disk") {
  const KernelsRestored restored;
  const TemporaryFolder folder;
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Vectors vectors = random_vectors(Layout::of(metric, 19), 700, 1);
    std::vector<char> expected;
    for (const std::string& kernels : available_kernels()) {
      use_kernels(kernels);
      for (const std::size_t n_threads : {1, 2, 5}) {
        for (const bool on_disk : {false, true}) {
          BuildOptions options;
          options.settings.n_threads = n_threads;
          if (on_disk) options.storage = file_storage(folder.file("forest"));
          const std::vector<char> bytes = bytes_of(built(vectors, options));
          if (expected.empty()) expected = bytes;
          CHECK(bytes == expected);
          if (on_disk) CHECK(read_file(folder.file("forest")) == expected);
        }
      }
    }
  }
}

// ThreadSanitizer takes ten times as long, and learns nothing from one thread.
#if defined(__SANITIZE_THREAD__)
constexpr std::array<std::size_t, 1> kThreadCounts = {3};
constexpr std::array<std::size_t, 1> kKinds = {2};
#else
constexpr std::array<std::size_t, 2> kThreadCounts = {1, 3};
constexpr std::array<std::size_t, 3> kKinds = {1, 2, 3};
#endif

// More than one bucket's worth, with a hole here and there.
Vectors many_vectors(Metric metric, BuildOptions& options) {
  const Layout layout = Layout::of(metric, metric == Metric::hamming ? 8192 : 1024);
  const Vectors vectors = random_vectors(layout, metric == Metric::hamming ? 16000 : 5000, 11);
  REQUIRE(!BucketPlan::of(layout, vectors.count()).one_bucket());
  for (std::size_t i = 0; i < vectors.count(); ++i) {
    options.ids.push_back(static_cast<std::int64_t>(i + i / 1000));
  }
  options.settings.n_trees = 3;
  return vectors;
}

// The least memory that will do, with which items go by way of the scratch file.
std::size_t least_working_bytes(const Vectors& vectors, const BuildOptions& options) {
  const BucketPlan plan = BucketPlan::of(vectors.layout, vectors.count());
  const BuildTask task{vectors.layout, vectors.count(), static_cast<std::size_t>(options.ids.back() + 1), 3, 3, true};
  for (std::size_t bytes = std::size_t{1} << 20;; bytes += std::size_t{1} << 20) {
    try {
      const bool in_place = arrange_build(task, plan, bytes).in_place;
      REQUIRE(!in_place);
      return bytes;
    } catch (const std::invalid_argument&) {
    }
  }
}

// The least memory that will do without a scratch file, with which items have no integers at hand.
std::size_t least_in_place(const Vectors& vectors, const BuildOptions& options) {
  const BucketPlan plan = BucketPlan::of(vectors.layout, vectors.count());
  const BuildTask task{vectors.layout, vectors.count(), static_cast<std::size_t>(options.ids.back() + 1), 3, 3, false};
  CHECK(arrange_build(task, plan, kUnlimited).fixed_point == !is_binary(vectors.layout.metric));
  const std::size_t bytes = dask_annoy::least_working_bytes(task, plan);
  CHECK_FALSE(arrange_build(task, plan, bytes).fixed_point);
  return bytes;
}

TEST_CASE("trees over many items are sound and the same for any threads, kernels, storage and memory bound") {
  const KernelsRestored restored;
  const TemporaryFolder folder;
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    use_kernels("");
    BuildOptions options;
    const Vectors vectors = many_vectors(metric, options);
    const Forest forest = built(vectors, options);
    check_structure(forest, 3, std::set<std::int32_t>(options.ids.begin(), options.ids.end()));
    const std::vector<char> expected = bytes_of(forest);
    for (const std::size_t n_threads : kThreadCounts) {
      options.settings.n_threads = n_threads;
      use_kernels(n_threads == 1 ? "baseline" : "");
      options.storage = nullptr;
      CHECK(bytes_of(built(vectors, options)) == expected);
      options.settings.working_bytes = least_in_place(vectors, options);
      CHECK(bytes_of(built(vectors, options)) == expected);
      for (const std::size_t working_bytes : {kUnlimited, least_working_bytes(vectors, options)}) {
        options.settings.working_bytes = working_bytes;
        options.storage = file_storage(folder.file("forest"));
        CHECK(bytes_of(built(vectors, options)) == expected);
        CHECK(folder.names() == std::vector<std::string>{"forest"});
      }
      options.settings.working_bytes = kUnlimited;
    }
  }
}

TEST_CASE("-1 trees over many items end with a whole tree, the same for any threads and memory bound") {
  const TemporaryFolder folder;
  for (const Metric metric : {Metric::euclidean, Metric::hamming}) {
    CAPTURE(std::string(metric_name(metric)));
    BuildOptions options;
    const Layout layout = Layout::of(metric, metric == Metric::hamming ? 2048 : 64);
    const Vectors vectors = random_vectors(layout, 20000, 14);
    REQUIRE(!BucketPlan::of(layout, vectors.count()).one_bucket());
    options.settings.n_trees = -1;
    const Forest forest = built(vectors, options);
    check_structure(forest, static_cast<int>(forest.roots.size()), first(20000));
    CHECK(forest.n_nodes - 20000 - forest.roots.size() >= 20000);
    options.settings.n_trees = static_cast<int>(forest.roots.size()) - 1;
    const Forest smaller = built(vectors, options);
    CHECK(smaller.n_nodes - 20000 - smaller.roots.size() < 20000);
    options.settings.n_trees = -1;
    for (const std::size_t n_threads : kThreadCounts) {
      options.settings.n_threads = n_threads;
      for (const std::size_t working_bytes : {kUnlimited, std::size_t{20} << 20}) {
        options.settings.working_bytes = working_bytes;
        options.storage = file_storage(folder.file("forest"));
        CHECK(bytes_of(built(vectors, options)) == bytes_of(forest));
      }
    }
  }
}

TEST_CASE("items that are all equal, or few kinds of them, are parted by chance among many, too") {
  for (const Metric metric : {Metric::angular, Metric::hamming}) {
    CAPTURE(std::string(metric_name(metric)));
    for (const std::size_t kinds : kKinds) {
      CAPTURE(kinds);
      BuildOptions options;
      Vectors vectors = many_vectors(metric, options);
      for (std::size_t i = kinds; i < vectors.count(); ++i) {
        std::copy_n(vectors.row(i % kinds), vectors.stride(), vectors.bytes.data() + i * vectors.stride());
      }
      check_structure(built(vectors, options), 3, std::set<std::int32_t>(options.ids.begin(), options.ids.end()));
    }
  }
}

TEST_CASE("planes of dot are of the kind that finds more in a sample: with norms that spread, or alike") {
  const Layout layout = Layout::of(Metric::dot, 16);
  for (const bool spread : {false, true}) {
    Vectors vectors = random_vectors(layout, 3000, 12);
    Random random(13);
    for (std::size_t i = 0; i < vectors.count(); ++i) {
      const float norm = spread ? 1.0f / static_cast<float>(1 + random.below(64)) : 1.0f;
      for (std::size_t d = 0; d < layout.width; ++d) {
        float& x = vectors.floats(i)[d];
        x = spread ? x * norm : std::abs(x);
      }
    }
    BuildOptions options;
    const auto with = [&](DotPlanes planes) {
      options.settings.dot_planes = planes;
      return bytes_of(built(vectors, options));
    };
    CHECK(with(DotPlanes::plain) != with(DotPlanes::lifted));
    CHECK(with(DotPlanes::chosen) == with(spread ? DotPlanes::plain : DotPlanes::lifted));
  }
}

TEST_CASE("a memory bound that no build keeps to is refused with the least that will do, and the items stay") {
  const TemporaryFolder folder;
  BuildOptions options;
  const Vectors vectors = many_vectors(Metric::euclidean, options);
  options.settings.working_bytes = 1 << 20;
  for (const bool on_disk : {false, true}) {
    ForestBuilder builder(vectors.layout, on_disk ? file_storage(folder.file("forest")) : memory_storage());
    builder.add(vectors.bytes.data(), vectors.stride(), vectors.count(), 0, options.ids.data());
    Cancellation never;
    CHECK_THROWS_WITH_AS(builder.build(options.settings, never), doctest::Contains("needs at least"),
                         std::invalid_argument);
    CHECK(builder.items().count() == vectors.count());
    CHECK(builder.build({3, 7, 2}, never).roots.size() == 3);
  }
}

TEST_CASE("the bytes are those of earlier releases, on every machine") {
  // A change here changes every user's files: it needs a reason and a line in the changelog.
  const std::map<Metric, std::uint64_t> expected = {
      {Metric::angular, 11294152813736140201u},   {Metric::euclidean, 2611678483619031034u},
      {Metric::manhattan, 13111315368210965687u}, {Metric::hamming, 6554244100425919254u},
      {Metric::dot, 951156890304457447u},
  };
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const std::vector<char> bytes = bytes_of(built(random_vectors(Layout::of(metric, 40), 2000, 2)));
    CHECK(digest_rows(bytes.data(), bytes.size(), bytes.size(), 1, 0).second == expected.at(metric));
  }
}

TEST_CASE("trees are written children first, hold every item once, pad with zeros, and have their roots copied") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    for (const std::size_t n_items : {1, 2, 3, 7, 8, 40, 500}) {
      CAPTURE(n_items);
      const Forest forest = built(random_vectors(Layout::of(metric, 5), n_items, 3));
      check_structure(forest, 5, first(static_cast<std::int32_t>(n_items)));
    }
  }
}

TEST_CASE("numbers without an item are holes of zeros and in no tree") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    for (const std::size_t n_items : {1, 2, 3, 9, 200}) {
      CAPTURE(n_items);
      for (const std::int64_t apart : {2, 50}) {
        BuildOptions options;
        std::set<std::int32_t> present;
        for (std::size_t i = 0; i < n_items; ++i) {
          options.ids.push_back(3 + apart * static_cast<std::int64_t>(i));
          present.insert(static_cast<std::int32_t>(options.ids.back()));
        }
        const Forest forest = built(random_vectors(Layout::of(metric, 4), n_items, 4), options);
        check_structure(forest, 5, present);
        for (std::int32_t id = 0; id < forest.n_items; ++id) {
          if (present.count(id) != 0) continue;
          CHECK(std::all_of(forest.at(id), forest.at(id) + forest.layout.node_size, [](char c) { return c == 0; }));
        }
      }
    }
  }
}

TEST_CASE("an index without items is built into roots without items") {
  for (const Metric metric : kMetrics) {
    const Forest forest = built(random_vectors(Layout::of(metric, 4), 0, 5));
    CHECK(forest.n_items == 0);
    CHECK(forest.roots.size() == 5);
    CHECK(parsed(bytes_of(forest), forest.layout).roots.size() == 5);
  }
}

TEST_CASE("items that no plane parts are shared out by chance, and the build ends") {
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    const Layout layout = Layout::of(metric, 6);
    const Vectors one = random_vectors(layout, 1, 6);
    const Vectors other = random_vectors(layout, 1, 7);
    for (const char* kind : {"all equal", "two points", "all zero", "one apart"}) {
      CAPTURE(std::string(kind));
      Vectors vectors{layout, {}};
      for (int i = 0; i < 400; ++i) {
        const std::string name = kind;
        const bool second = (name == "two points" && i % 2 == 1) || (name == "one apart" && i == 77);
        const Vectors& from = second ? other : one;
        vectors.bytes.insert(vectors.bytes.end(), from.bytes.begin(), from.bytes.end());
        if (name == "all zero") std::fill(vectors.bytes.begin(), vectors.bytes.end(), 0);
      }
      check_structure(built(vectors), 5, first(400));
    }
  }
}

TEST_CASE("huge and tiny vectors, whose squares are infinite or zero, are built all the same") {
  for (const Metric metric : {Metric::angular, Metric::euclidean, Metric::manhattan, Metric::dot}) {
    CAPTURE(std::string(metric_name(metric)));
    for (const float scale : {1e37f, 1e-37f}) {
      Vectors vectors = random_vectors(Layout::of(metric, 6), 300, 8);
      for (std::size_t i = 0; i < vectors.count(); ++i) {
        for (std::size_t d = 0; d < 6; ++d) vectors.floats(i)[d] *= scale;
      }
      check_structure(built(vectors), 5, first(300));
    }
  }
}

TEST_CASE("-1 trees grow until they take as many nodes as the items, the same for any number of threads") {
  const Vectors vectors = random_vectors(Layout::of(Metric::euclidean, 4), 900, 9);
  BuildOptions options;
  options.settings.n_trees = -1;
  options.settings.n_threads = 1;
  const Forest forest = built(vectors, options);
  const std::size_t trees = forest.n_nodes - 900 - forest.roots.size();
  CHECK(trees >= 900);
  options.settings.n_trees = static_cast<int>(forest.roots.size()) - 1;
  const Forest smaller = built(vectors, options);
  CHECK(smaller.n_nodes - 900 - smaller.roots.size() < 900);
  for (const std::size_t n_threads : {2, 5}) {
    options.settings.n_trees = -1;
    options.settings.n_threads = n_threads;
    CHECK(bytes_of(built(vectors, options)) == bytes_of(forest));
  }
}

TEST_CASE("numbers of trees that make no sense are refused") {
  for (const int n_trees : {0, -2, -100}) {
    BuildOptions options;
    options.settings.n_trees = n_trees;
    CHECK_THROWS_AS(built(random_vectors(Layout::of(Metric::angular, 3), 5, 1), options), std::invalid_argument);
  }
}

TEST_CASE("item numbers that Annoy's files cannot hold are refused before anything changes") {
  const Layout layout = Layout::of(Metric::angular, 3);
  const Vectors vectors = random_vectors(layout, 2, 1);
  ForestBuilder builder(layout, memory_storage());
  for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{1} << 31, (std::int64_t{1} << 31) - 1}) {
    const std::int64_t ids[] = {0, bad};
    CHECK_THROWS_AS(builder.add(vectors.bytes.data(), vectors.stride(), 2, 0, ids), std::out_of_range);
    CHECK(builder.n_items() == 0);
  }
}

TEST_CASE("a build that is stopped leaves the items, and the next build gives the same bytes") {
  const TemporaryFolder folder;
  const Vectors vectors = random_vectors(Layout::of(Metric::angular, 8), 3000, 10);
  const std::vector<char> expected = bytes_of(built(vectors));
  for (const bool on_disk : {false, true}) {
    const auto storage = on_disk ? file_storage(folder.file("forest")) : memory_storage();
    ForestBuilder builder(vectors.layout, storage);
    builder.add(vectors.bytes.data(), vectors.stride(), vectors.count(), 0, nullptr);
    Cancellation stopped;
    stopped.stop();
    CHECK_THROWS_AS(builder.build({5, 7, 2}, stopped), Interrupted);
    CHECK(storage->size() == 3000 * vectors.layout.node_size);
    Cancellation never;
    CHECK(bytes_of(builder.build({5, 7, 2}, never)) == expected);
    builder.unbuild();
    CHECK(bytes_of(builder.build({5, 7, 2}, never)) == expected);
  }
}

TEST_CASE("a scratch file has no name, so that nothing is left of it however the process ends") {
  const TemporaryFolder folder;
  File scratch = File::scratch_beside(folder.file("forest"));
  CHECK(folder.names().empty());
  scratch.write(5, "rows", 4);
  char read[4];
  scratch.read(5, read, 4);
  CHECK(std::string(read, 4) == "rows");
  CHECK_THROWS_WITH_AS(scratch.read(100, read, 4), doctest::Contains("the scratch file beside"), FileError);
}

TEST_CASE("a storage that fails leaves no items that were never written") {
  struct FullDisk final : NodeStorage {
    std::size_t size() const override { return bytes_held; }
    void resize(std::size_t bytes) override { bytes_held = bytes; }
    void write(std::size_t, const char*, std::size_t) override { throw FileError("cannot write to", "disk", ENOSPC); }
    void read(std::size_t, char*, std::size_t) const override {}
    std::shared_ptr<const char> bytes() const override { return nullptr; }
    std::size_t bytes_held = 0;
  };
  const auto storage = std::make_shared<FullDisk>();
  const Vectors vectors = random_vectors(Layout::of(Metric::angular, 8), 10, 10);
  ForestBuilder builder(vectors.layout, storage);
  CHECK_THROWS_AS(builder.add(vectors.bytes.data(), vectors.stride(), 10, 0, nullptr), FileError);
  CHECK(builder.n_items() == 0);
  CHECK(storage->size() == 0);
}

TEST_SUITE_END();
