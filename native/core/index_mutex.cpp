#include "core/index_mutex.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "core/errors.hpp"

namespace dask_annoy {

namespace {

struct Hold {
  const IndexMutex* mutex;
  std::size_t times;
  bool alone;
};

// What this thread holds: one index as a rule, more where the code that a call runs uses others.
std::vector<Hold>& holds() {
  static thread_local std::vector<Hold> held;
  return held;
}

// Going on would be to wait for oneself.
[[noreturn]] void refuse(bool is_changed) {
  throw StateError(std::string("this index is being ") + (is_changed ? "changed" : "asked") +
                   " by a call of this very thread, from within which this one came (as from a signal handler): " +
                   (is_changed ? "use" : "change") + " it when that call has ended");
}

auto hold_on(const IndexMutex* mutex) {
  return std::find_if(holds().begin(), holds().end(), [&](const Hold& hold) { return hold.mutex == mutex; });
}

}  // namespace

void IndexMutex::lock() {
  const auto mine = hold_on(this);
  if (mine != holds().end()) refuse(mine->alone);
  holds().push_back({this, 1, true});  // before: it may throw
  mutex_.lock();
}

void IndexMutex::unlock() {
  holds().erase(hold_on(this));
  mutex_.unlock();
}

void IndexMutex::lock_shared() {
  const auto mine = hold_on(this);
  if (mine == holds().end()) {
    holds().push_back({this, 1, false});
    mutex_.lock_shared();
  } else if (mine->alone) {
    refuse(true);
  } else {
    ++mine->times;
  }
}

void IndexMutex::unlock_shared() {
  const auto mine = hold_on(this);
  if (--mine->times > 0) return;
  holds().erase(mine);
  mutex_.unlock_shared();
}

}  // namespace dask_annoy
