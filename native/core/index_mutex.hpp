// The lock of an index: those that ask share it, who changes the index has it alone.
#pragma once

#include <shared_mutex>

namespace dask_annoy {

// Unlike std::shared_mutex it knows the threads that hold it. Calls that last run the caller's code from time to time
// (a Cancellation's poll: signal handlers, in Python), and that code may use the same index, in the same thread. It may
// then ask what is being asked already; all else would wait for itself, and is a StateError.
class IndexMutex {
 public:
  void lock();
  void unlock();
  void lock_shared();
  void unlock_shared();

 private:
  std::shared_mutex mutex_;
};

}  // namespace dask_annoy
