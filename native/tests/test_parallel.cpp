#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/errors.hpp"
#include "core/parallel.hpp"

using namespace dask_annoy;

TEST_SUITE_BEGIN("parallel");

TEST_CASE("every task runs once") {
  for (const std::size_t n_threads : {0, 1, 2, 7, 100}) {
    for (const std::size_t n_tasks : {0, 1, 2, 50}) {
      std::vector<std::atomic<int>> runs(n_tasks);
      Cancellation never;
      parallel_for(n_tasks, n_threads, never, [&](std::size_t task) { ++runs[task]; });
      for (const auto& times : runs) CHECK(times == 1);
    }
  }
}

TEST_CASE("an exception in a task reaches the caller, and tasks not yet begun never begin") {
  for (const std::size_t n_threads : {1, 2, 5}) {
    std::atomic<std::size_t> begun{0};
    Cancellation never;
    try {
      parallel_for(100000, n_threads, never, [&](std::size_t task) {
        ++begun;
        if (task == 10) throw std::domain_error("task 10");
        // The others wait for the failure, so that it is seen to stop them.
        while (task > 10 && !never.stopped()) std::this_thread::yield();
      });
      FAIL_CHECK("nothing was thrown");
    } catch (const std::domain_error& error) {
      CHECK(std::string(error.what()) == "task 10");
    }
    CHECK(begun <= 11 + n_threads);
  }
}

TEST_CASE("the first of many exceptions is the one that is thrown") {
  Cancellation never;
  std::atomic<int> first{-1};
  try {
    parallel_for(50, 4, never, [&](std::size_t task) {
      int none = -1;
      first.compare_exchange_strong(none, static_cast<int>(task));
      throw std::runtime_error("failed");
    });
    FAIL_CHECK("nothing was thrown");
  } catch (const Interrupted&) {
    FAIL_CHECK("the failure was hidden by the stop that it caused");
  } catch (const std::runtime_error& error) {
    CHECK(std::string(error.what()) == "failed");
  }
}

TEST_CASE("a stop asked for ends all tasks with Interrupted") {
  for (const std::size_t n_threads : {1, 2, 5}) {
    std::atomic<bool> wanted{false};
    Cancellation cancellation([&] { return wanted.load(); });
    CHECK_THROWS_AS(parallel_for(1000, n_threads, cancellation,
                                 [&](std::size_t) {
                                   wanted = true;
                                   while (true) {
                                     cancellation.check();
                                     std::this_thread::yield();
                                   }
                                 }),
                    Interrupted);
  }
}

TEST_CASE("a stop is heard while the caller has no task left of its own") {
  std::atomic<bool> wanted{false};
  std::atomic<int> arrived{0};
  Cancellation cancellation([&] { return wanted.load(); });
  const auto caller = std::this_thread::get_id();
  CHECK_THROWS_AS(parallel_for(2, 2, cancellation,
                               [&](std::size_t) {
                                 ++arrived;
                                 while (arrived < 2) std::this_thread::yield();
                                 if (std::this_thread::get_id() == caller) return;
                                 wanted = true;
                                 while (true) {
                                   cancellation.check();
                                   std::this_thread::yield();
                                 }
                               }),
                  Interrupted);
}

TEST_CASE("only the thread that made a cancellation is asked") {
  std::atomic<int> others{0};
  const auto owner = std::this_thread::get_id();
  Cancellation cancellation([&] {
    if (std::this_thread::get_id() != owner) ++others;
    return false;
  });
  parallel_for(100000, 4, cancellation, [&](std::size_t) { cancellation.check(); });
  CHECK(others == 0);
}

TEST_CASE("n_jobs is a positive number, or -1 for what the environment grants") {
  CHECK(thread_count(3) == 3);
  CHECK(thread_count(-1) >= 1);
  for (const int bad : {0, -2, -5}) CHECK_THROWS_AS(thread_count(bad), std::invalid_argument);
  setenv("OMP_NUM_THREADS", "1", 1);
  CHECK(thread_count(-1) == 1);
  CHECK(thread_count(3) == 3);
  setenv("OMP_NUM_THREADS", "1000000", 1);
  CHECK(thread_count(-1) < 1000000);
  for (const char* odd : {"", "0", "-4", "many"}) {
    setenv("OMP_NUM_THREADS", odd, 1);
    CHECK(thread_count(-1) >= 1);
  }
  unsetenv("OMP_NUM_THREADS");
}

TEST_SUITE_END();
