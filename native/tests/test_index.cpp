#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>

#include "core/errors.hpp"
#include "core/index.hpp"
#include "samples.hpp"

using namespace dask_annoy;

namespace {

constexpr std::size_t kWidth = 6;

void fill(Index& index, std::size_t n_items) {
  const Vectors vectors = random_vectors(index.layout(), n_items, 1);
  index.add_after_last(vectors.bytes.data(), vectors.stride(), vectors.count());
}

void build(Index& index, int n_trees = 4, int n_jobs = 2) {
  Cancellation never;
  index.build(n_trees, n_jobs, never);
}

}  // namespace

TEST_SUITE_BEGIN("index");

TEST_CASE("each state allows what fits it and refuses the rest") {
  const TemporaryFolder folder;
  for (const bool on_disk : {false, true}) {
    CAPTURE(on_disk);
    Index index(Metric::euclidean, kWidth);
    if (on_disk) index.on_disk_build(folder.file("disk"));
    CHECK(!index.is_built());
    CHECK_THROWS_AS(index.save(folder.file("unbuilt"), false), FileError);
    fill(index, 50);
    CHECK_THROWS_AS(index.on_disk_build(folder.file("late")), StateError);
    index.unbuild();  // nothing to remove

    build(index);
    CHECK(index.is_built());
    CHECK(index.n_trees() == 4);
    CHECK_THROWS_AS(build(index), StateError);
    CHECK_THROWS_AS(fill(index, 1), StateError);
    index.unbuild();
    CHECK(index.n_trees() == 0);
    fill(index, 10);
    CHECK(index.n_items() == 60);

    build(index);
    index.save(folder.file("saved"), false);
    CHECK(index.n_items() == 60);
    CHECK(index.n_trees() == 4);
    CHECK_THROWS_AS(fill(index, 1), StateError);
    CHECK_THROWS_AS(build(index), StateError);
    CHECK_THROWS_AS(index.unbuild(), StateError);
    CHECK_THROWS_AS(index.on_disk_build(folder.file("late")), StateError);

    index.unload();
    CHECK(index.n_items() == 0);
    CHECK(!index.is_built());
    fill(index, 3);
    CHECK(index.n_items() == 3);

    index.load(folder.file("saved"), true);
    CHECK(index.n_items() == 60);
    CHECK(index.n_trees() == 4);
  }
}

TEST_CASE("an index answers the same before and after it was saved and loaded, from memory or disk") {
  const TemporaryFolder folder;
  for (const Metric metric : kMetrics) {
    CAPTURE(std::string(metric_name(metric)));
    std::vector<std::vector<std::int64_t>> answers;
    Index in_memory(metric, kWidth);
    Index on_disk(metric, kWidth);
    on_disk.on_disk_build(folder.file("disk"));
    for (Index* index : {&in_memory, &on_disk}) {
      fill(*index, 300);
      build(*index);
      answers.push_back(ids_of(index->nearest_to_item(7, 20, -1)));
      index->save(folder.file(index == &on_disk ? "disk" : "memory"), false);
      answers.push_back(ids_of(index->nearest_to_item(7, 20, -1)));
    }
    Index loaded(metric, kWidth);
    loaded.load(folder.file("memory"), false);
    answers.push_back(ids_of(loaded.nearest_to_item(7, 20, -1)));
    for (const auto& answer : answers) CHECK(answer == answers.front());
    CHECK(read_file(folder.file("memory")) == read_file(folder.file("disk")));
  }
}

TEST_CASE("an index built on disk is saved under another name as a copy") {
  const TemporaryFolder folder;
  Index index(Metric::angular, kWidth);
  index.on_disk_build(folder.file("disk"));
  fill(index, 40);
  build(index);
  index.save(folder.file("copy"), false);
  CHECK(read_file(folder.file("copy")) == read_file(folder.file("disk")));
}

TEST_CASE("a save that fails leaves the old file, the index, and nothing else") {
  const TemporaryFolder folder;
  Index index(Metric::angular, kWidth);
  fill(index, 40);
  build(index);
  REQUIRE(mkdir(folder.file("taken").c_str(), 0700) == 0);
  CHECK_THROWS_AS(index.save(folder.file("taken"), false), FileError);
  CHECK_THROWS_AS(index.save(folder.file("no/such/folder"), false), FileError);
  CHECK(folder.names() == std::vector<std::string>{"taken"});
  CHECK(index.nearest_to_item(0, 5, -1).size() == 5);
  index.unbuild();  // still its own, not the file's
}

TEST_CASE("saving over a file that others have loaded leaves them theirs") {
  const TemporaryFolder folder;
  Index first(Metric::angular, kWidth);
  fill(first, 500);
  build(first);
  first.save(folder.file("forest"), false);
  const auto before = ids_of(first.nearest_to_item(400, 10, -1));
  Index second(Metric::angular, kWidth);
  fill(second, 3);
  build(second);
  second.save(folder.file("forest"), false);
  CHECK(ids_of(first.nearest_to_item(400, 10, -1)) == before);
  Index third(Metric::angular, kWidth);
  third.on_disk_build(folder.file("forest"));
  CHECK(ids_of(second.nearest_to_item(0, 10, -1)).size() == 3);
}

TEST_CASE("saved files take the mode that the umask leaves") {
  const TemporaryFolder folder;
  const mode_t before = umask(027);
  Index index(Metric::angular, kWidth);
  fill(index, 3);
  build(index);
  index.save(folder.file("forest"), false);
  CHECK(umask(before) == 027);
  struct stat info{};
  REQUIRE(stat(folder.file("forest").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("a damaged file is refused and what was loaded before stays") {
  const TemporaryFolder folder;
  Index index(Metric::angular, kWidth);
  fill(index, 40);
  build(index);
  index.save(folder.file("sound"), false);
  std::vector<char> bytes = read_file(folder.file("sound"));
  bytes.resize(bytes.size() / 2);
  write_file(folder.file("damaged"), bytes);
  CHECK_THROWS_AS(index.load(folder.file("damaged"), false), CorruptFile);
  CHECK(index.n_items() == 40);
  CHECK(index.nearest_to_item(0, 5, -1).size() == 5);
}

TEST_CASE("numbers that are no item's are refused, holes have vectors of zeros") {
  Index index(Metric::euclidean, kWidth);
  const Vectors vectors = random_vectors(index.layout(), 1, 1);
  const std::int64_t id = 5;
  index.add(vectors.bytes.data(), vectors.stride(), 1, &id);
  for (const bool is_built : {false, true}) {
    if (is_built) build(index);
    for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{6}, std::int64_t{1} << 40}) {
      CHECK_THROWS_AS(index.item_node(bad), std::out_of_range);
      CHECK_THROWS_AS(index.nearest_to_item(bad, 1, -1), std::out_of_range);
      CHECK_THROWS_AS(index.distance(0, bad), std::out_of_range);
    }
    const std::vector<char> hole = index.item_node(2);
    CHECK(std::all_of(hole.begin(), hole.end(), [](char c) { return c == 0; }));
    CHECK(index.distance(5, 5) == 0.0f);
  }
}

TEST_CASE("an index without trees answers with nothing, and batches with padding") {
  Index index(Metric::dot, kWidth);
  fill(index, 10);
  const Vectors queries = random_vectors(index.layout(), 2, 2);
  CHECK(index.nearest(queries.row(0), 3, -1).empty());
  std::vector<std::int64_t> ids(6);
  std::vector<float> distances(6);
  Cancellation never;
  index.nearest_batch(queries.bytes.data(), queries.stride(), 2, 3, -1, 2, never, ids.data(), distances.data());
  CHECK(ids == std::vector<std::int64_t>(6, -1));
  CHECK(distances == std::vector<float>(6, missing_distance(Metric::dot)));
  const std::int64_t target = 0;
  CHECK_THROWS_AS(index.budgets_to_find(queries.row(0), queries.stride(), 1, &target, 1, 1, never, ids.data()),
                  StateError);
}

TEST_CASE("the seed makes the forest, and unload brings Annoy's back") {
  const TemporaryFolder folder;
  const auto bytes_with = [&](const std::function<void(Index&)>& prepare) {
    Index index(Metric::angular, kWidth);
    prepare(index);
    fill(index, 200);
    build(index);
    index.save(folder.file("forest"), false);
    return read_file(folder.file("forest"));
  };
  const auto by_default = bytes_with([](Index&) {});
  CHECK(by_default == bytes_with([](Index& index) { index.set_seed(Index::kDefaultSeed); }));
  CHECK(by_default != bytes_with([](Index& index) { index.set_seed(1); }));
  CHECK(by_default == bytes_with([](Index& index) {
          index.set_seed(1);
          index.unload();
        }));
}

TEST_CASE("the status tells what an index is, and which file is mapped") {
  const TemporaryFolder folder;
  Index index(Metric::euclidean, kWidth);
  index.set_seed(7);
  fill(index, 50);
  IndexStatus status = index.status();
  CHECK(status.n_items == 50);
  CHECK(!status.is_built);
  CHECK(!status.is_loaded);
  CHECK(status.n_bytes == 50 * index.layout().node_size);
  CHECK(status.seed == 7);
  CHECK(!status.file);
  build(index);
  status = index.status();
  CHECK(status.is_built);
  CHECK(status.n_trees == 4);
  CHECK(!status.file);

  const std::string path = folder.file("saved");
  index.save(path, false);
  status = index.status();
  CHECK(status.is_loaded);
  REQUIRE(static_cast<bool>(status.file));
  struct stat info{};
  REQUIRE(stat(path.c_str(), &info) == 0);
  CHECK(status.file->path == path);
  CHECK(status.file->inode == info.st_ino);
  CHECK(status.file->device == info.st_dev);
  CHECK(status.file->size == status.n_bytes);
  CHECK(status.file->mtime_ns / 1'000'000'000 == info.st_mtime);
  index.unload();
  CHECK(!index.status().file);

  index.on_disk_build(folder.file("disk"));
  CHECK(index.status().building_file == folder.file("disk"));
  fill(index, 50);
  build(index);
  CHECK(!index.status().file);  // the builder may still cut its trees off
}

TEST_CASE("queries run while another thread loads, unloads, adds and builds") {
  const TemporaryFolder folder;
  const std::string path = folder.file("forest");
  {
    Index index(Metric::angular, kWidth);
    fill(index, 200);
    build(index);
    index.save(path, false);
  }
  Index shared(Metric::angular, kWidth);
  const Vectors queries = random_vectors(shared.layout(), 8, 3);
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0};
  const auto ask = [&](std::uint64_t way) {
    std::vector<std::int64_t> ids(8 * 5);
    std::vector<float> distances(8 * 5);
    while (!done) {
      try {
        if (way == 0) {
          // Whole answers or none: all states have 200 items or are unbuilt.
          const std::size_t found = shared.nearest(queries.row(0), 5, -2).size();
          if (found != 0 && found != 5) ++wrong;
        } else if (way == 1) {
          Cancellation never;
          shared.nearest_batch(queries.bytes.data(), queries.stride(), 8, 5, -1, 2, never, ids.data(),
                               distances.data());
        } else {
          shared.nearest_to_item(3, 5, -1);
          shared.distance(1, 2);
          shared.n_trees();
        }
      } catch (const std::out_of_range&) {
        continue;  // no items at this moment
      }
      std::this_thread::yield();  // lets the writer in
    }
  };
  std::vector<std::thread> readers;
  for (const std::uint64_t way : {0, 1, 2}) readers.emplace_back(ask, way);
  for (int round = 0; round < 15; ++round) {
    shared.load(path, round % 2 == 0);
    shared.unload();
    fill(shared, 200);
    build(shared, 3, 2);
    shared.unbuild();
    build(shared, 2, 1);
    shared.save(path, false);
    shared.unload();
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong == 0);
}

TEST_CASE("a closed index refuses every use, and closing again does nothing") {
  const TemporaryFolder folder;
  const std::string path = folder.file("forest");
  for (const char* state : {"empty", "filled", "built", "on disk", "loaded"}) {
    CAPTURE(std::string(state));
    const std::string kind = state;
    Index index(Metric::euclidean, kWidth);
    if (kind == "on disk") index.on_disk_build(folder.file("disk"));
    if (kind != "empty") fill(index, 30);
    if (kind != "empty" && kind != "filled") build(index);
    if (kind == "loaded") index.save(path, false);
    CHECK(!index.is_closed());
    index.require_open();
    index.close();
    index.close();
    CHECK(index.is_closed());
    CHECK(index.layout().width == kWidth);

    Cancellation never;
    const Vectors rows = random_vectors(index.layout(), 2, 1);
    const char* const query = rows.row(0);
    std::vector<std::int64_t> ids(2, 0);
    std::vector<float> distances(2);
    std::vector<char> room(1000);
    const std::vector<std::function<void()>> uses = {
        [&] { index.require_open(); },
        [&] { index.n_items(); },
        [&] { index.n_trees(); },
        [&] { index.is_built(); },
        [&] { index.set_seed(1); },
        [&] { index.on_disk_build(folder.file("new")); },
        [&] { index.add(query, rows.stride(), 1, ids.data()); },
        [&] { index.add_after_last(query, rows.stride(), 1); },
        [&] { index.build(1, 1, never); },
        [&] { index.unbuild(); },
        [&] { index.save(folder.file("new"), false); },
        [&] { index.load(path, false); },
        [&] { index.unload(); },
        [&] { index.copy_file([&](std::size_t) { return room.data(); }); },
        [&] { index.load_bytes(nullptr, 0, never); },
        [&] { index.nearest(query, 1, -1); },
        [&] { index.nearest_to_item(0, 1, -1); },
        [&] { index.nearest_batch(query, rows.stride(), 1, 1, -1, 1, never, ids.data(), distances.data()); },
        [&] { index.nearest_to_items(ids.data(), 1, 1, -1, 1, never, ids.data(), distances.data()); },
        [&] { index.within(query, 1.0, 1, -1, never); },
        [&] { index.within_of_item(0, 1.0, 1, -1, never); },
        [&] { index.budgets_to_find(query, rows.stride(), 1, ids.data(), 1, 1, never, ids.data()); },
        [&] { index.item_node(0); },
        [&] { index.item_vectors(ids.data(), 1, room.data()); },
        [&] { index.has_item(0); },
        [&] { index.present_items(); },
        [&] { index.distance(0, 1); },
    };
    for (std::size_t use = 0; use < uses.size(); ++use) {
      CAPTURE(use);
      CHECK_THROWS_WITH_AS(uses[use](), doctest::Contains("the index is closed"), StateError);
    }
    CHECK(!folder.has("new"));
  }
}

TEST_CASE("queries run while other threads load and one closes, and none sees half a state") {
  const TemporaryFolder folder;
  std::vector<std::string> paths;
  for (const std::size_t n_items : {100, 300}) {
    Index index(Metric::angular, kWidth);
    fill(index, n_items);
    build(index);
    paths.push_back(folder.file(std::to_string(n_items)));
    index.save(paths.back(), false);
  }
  for (int round = 0; round < 10; ++round) {
    Index shared(Metric::angular, kWidth);
    shared.load(paths[0], false);
    const Vectors queries = random_vectors(shared.layout(), 8, 3);
    std::atomic<int> wrong{0};
    std::atomic<int> answered{0};
    const auto until_closed = [&](const std::function<void()>& use) {
      try {
        while (true) use();
      } catch (const StateError& error) {
        if (std::string(error.what()).find("the index is closed") == std::string::npos) ++wrong;
      }
    };
    std::vector<std::thread> threads;
    threads.emplace_back(until_closed, [&] {
      const std::size_t found = shared.nearest(queries.row(0), 1000, -2).size();
      if (found != 100 && found != 300) ++wrong;
      ++answered;
    });
    threads.emplace_back(until_closed, [&] {
      Cancellation never;
      std::vector<std::int64_t> ids(8 * 5);
      std::vector<float> distances(8 * 5);
      shared.nearest_batch(queries.bytes.data(), queries.stride(), 8, 5, -1, 2, never, ids.data(), distances.data());
      if (std::count(ids.begin(), ids.end(), -1) > 0) ++wrong;
      ++answered;
    });
    threads.emplace_back(until_closed, [&] {
      const auto items = shared.present_items();
      if (items.size() != 100 && items.size() != 300) ++wrong;
      ++answered;
    });
    for (const std::string& path : paths) {
      threads.emplace_back(until_closed, [&, path] { shared.load(path, false); });
    }
    while (answered < 30) std::this_thread::yield();
    shared.close();
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  }
}

TEST_CASE("a load or a save that is stopped leaves everything as it was") {
  const TemporaryFolder folder;
  Index index(Metric::angular, kWidth);
  fill(index, 40);
  build(index);
  index.save(folder.file("forest"), false);
  const std::vector<char> before = read_file(folder.file("forest"));
  Cancellation stopped;
  stopped.stop();
  CHECK_THROWS_AS(index.load(folder.file("forest"), false, stopped), Interrupted);
  CHECK_THROWS_AS(index.save(folder.file("forest"), false, stopped), Interrupted);
  CHECK(index.nearest_to_item(0, 5, -1).size() == 5);
  CHECK(read_file(folder.file("forest")) == before);
  CHECK(folder.names().size() == 1);
}

TEST_CASE("what a call runs from within may use other indexes, and is refused where it would wait for itself") {
  const TemporaryFolder folder;
  Index index(Metric::euclidean, kWidth);
  fill(index, 3000);
  Index other(Metric::euclidean, kWidth);
  Cancellation never;
  const auto from_within = [&](const std::function<void()>& use) {
    return Cancellation([use] {
      use();
      return true;  // and then stop
    });
  };
  const Vectors queries = random_vectors(index.layout(), 2000, 2);
  std::vector<std::int64_t> ids(queries.count());
  std::vector<float> distances(queries.count());
  const auto ask_at_length = [&](Cancellation& cancellation) {
    while (true) {
      index.nearest_batch(queries.bytes.data(), queries.stride(), queries.count(), 1, 100000, 1, cancellation,
                          ids.data(), distances.data());
    }
  };
  const auto add_one = [&](Index& to) { to.add(queries.bytes.data(), queries.stride(), 1, nullptr); };

  // While it is changed neither questions nor changes have anything to hold on to.
  for (const auto& use : std::vector<std::function<void()>>{[&] { index.n_items(); }, [&] { index.close(); }}) {
    Cancellation cancellation = from_within(use);
    CHECK_THROWS_WITH_AS(index.build(1'000'000, 1, cancellation), doctest::Contains("being changed"), StateError);
    CHECK(index.n_items() == 3000);
    CHECK(!index.is_built());
  }
  Cancellation with_another = from_within([&] { add_one(other); });
  CHECK_THROWS_AS(index.build(1'000'000, 1, with_another), Interrupted);
  CHECK(other.n_items() == 1);

  // While a forest in memory is asked, more may be asked, but nothing changed.
  build(index);
  Cancellation asking = from_within([&] { CHECK(index.nearest(queries.row(0), 1, -1).size() == 1); });
  CHECK_THROWS_AS(ask_at_length(asking), Interrupted);
  for (const auto& use :
       std::vector<std::function<void()>>{[&] { index.unbuild(); }, [&] { index.unload(); },
                                          [&] { index.save(folder.file("x"), false); }, [&] { index.close(); }}) {
    Cancellation changing = from_within(use);
    CHECK_THROWS_WITH_AS(ask_at_length(changing), doctest::Contains("being asked"), StateError);
  }
  CHECK(index.n_items() == 3000);

  // A query of a loaded file holds the file and not the index.
  index.save(folder.file("saved"), false);
  Cancellation closing = from_within([&] { index.close(); });
  CHECK_THROWS_AS(index.nearest_batch(queries.bytes.data(), queries.stride(), queries.count(), 1,
                                      {1'000'000'000, SearchMethod::trees}, 1, closing, ids.data(), distances.data()),
                  Interrupted);
  CHECK(index.is_closed());
}

TEST_CASE("two threads may save at once and both files are whole") {
  const TemporaryFolder folder;
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; ++round) {
        Index index(Metric::manhattan, kWidth);
        fill(index, 100);
        build(index, 3, 1);
        index.save(folder.file("forest"), false);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Index index(Metric::manhattan, kWidth);
  index.load(folder.file("forest"), false);
  CHECK(index.n_items() == 100);
  CHECK(folder.names().size() == 1);
}

TEST_SUITE_END();
