// Threads for work that lasts, and the way to stop it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <thread>

namespace dask_annoy {

// Asks the caller from time to time whether to go on. Only the thread that made it asks (a signal reaches Python's
// main thread only); the others see the answer.
class Cancellation {
 public:
  using Poll = std::function<bool()>;  // true: stop

  explicit Cancellation(Poll poll = nullptr);

  // Throws Interrupted once the caller wants to stop. Cheap enough for every node of a tree.
  void check();
  void stop() { stopped_.store(true, std::memory_order_relaxed); }
  bool stopped() const { return stopped_.load(std::memory_order_relaxed); }

 private:
  Poll poll_;
  std::thread::id owner_;
  std::chrono::steady_clock::time_point last_;
  std::atomic<bool> stopped_{false};
};

// Threads to use for n_jobs: a positive number, or −1 for the processors this process may run on, but no more than the
// environment variable OMP_NUM_THREADS grants. Throws std::invalid_argument for others.
std::size_t thread_count(int n_jobs);

// Runs body(task) for task 0 … n_tasks−1, in that order of start, on up to n_threads threads, the calling one among
// them. The first exception stops the rest and is thrown to the caller.
void parallel_for(std::size_t n_tasks, std::size_t n_threads, Cancellation& cancellation,
                  const std::function<void(std::size_t)>& body);

}  // namespace dask_annoy
