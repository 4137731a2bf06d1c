#include "core/parallel.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/errors.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

namespace dask_annoy {

namespace {

constexpr auto kPollEvery = std::chrono::milliseconds(50);

// Processors this process may run on: a container or a batch system often grants fewer than the machine has.
std::size_t processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    const int n = CPU_COUNT(&set);
    if (n > 0) return static_cast<std::size_t>(n);
  }
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

// OMP_NUM_THREADS, or 0. Dask sets it to 1 for its workers, which run a task on each of their threads.
std::size_t threads_of_environment() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  if (text == nullptr) return 0;
  const long n = std::strtol(text, nullptr, 10);
  return n > 0 ? static_cast<std::size_t>(n) : 0;
}

}  // namespace

Cancellation::Cancellation(Poll poll)
    : poll_(std::move(poll)), owner_(std::this_thread::get_id()), last_(std::chrono::steady_clock::now()) {}

void Cancellation::check() {
  if (!stopped() && poll_ && std::this_thread::get_id() == owner_) {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ >= kPollEvery) {
      last_ = now;
      if (poll_()) stop();
    }
  }
  if (stopped()) throw Interrupted();
}

std::size_t thread_count(int n_jobs) {
  if (n_jobs > 0) return static_cast<std::size_t>(n_jobs);
  if (n_jobs == -1) {
    const std::size_t asked_for = threads_of_environment();
    return asked_for > 0 ? std::min(asked_for, processors()) : processors();
  }
  throw std::invalid_argument("n_jobs must be a positive number of threads, or -1 for all; got " +
                              std::to_string(n_jobs));
}

void parallel_for(std::size_t n_tasks, std::size_t n_threads, Cancellation& cancellation,
                  const std::function<void(std::size_t)>& body) {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure;
  std::mutex failure_mutex;

  const auto fail = [&] {
    const std::lock_guard<std::mutex> lock(failure_mutex);
    if (!failed.exchange(true)) failure = std::current_exception();
    cancellation.stop();  // tasks under way on other threads end at their next check
  };
  const auto work = [&] {
    try {
      while (!failed.load(std::memory_order_relaxed)) {
        const std::size_t task = next.fetch_add(1, std::memory_order_relaxed);
        if (task >= n_tasks) return;
        cancellation.check();
        body(task);
      }
    } catch (...) {
      fail();
    }
  };

  std::mutex running_mutex;
  std::condition_variable one_ended;
  std::size_t running = 0;
  std::vector<std::thread> threads;
  const std::size_t helpers = std::max<std::size_t>(std::min(n_threads, n_tasks), 1) - 1;
  threads.reserve(helpers);
  try {
    for (std::size_t i = 0; i < helpers; ++i) {
      {
        const std::lock_guard<std::mutex> lock(running_mutex);
        ++running;
      }
      threads.emplace_back([&] {
        work();
        const std::lock_guard<std::mutex> lock(running_mutex);
        --running;
        one_ended.notify_one();
      });
    }
  } catch (...) {
    const std::lock_guard<std::mutex> lock(running_mutex);
    --running;  // fewer threads than asked for do the same work
  }
  work();
  {
    // The last tasks of the others may last: the caller's wish to stop must still reach them.
    std::unique_lock<std::mutex> lock(running_mutex);
    while (!one_ended.wait_for(lock, kPollEvery, [&] { return running == 0; })) {
      lock.unlock();
      try {
        cancellation.check();
      } catch (...) {
        fail();
      }
      lock.lock();
    }
  }
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace dask_annoy
