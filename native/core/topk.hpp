// The best k of a stream of scored items.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace dask_annoy {

struct Neighbor {
  float distance;  // in the form in which distances are compared: smaller is nearer
  std::int64_t id;

  // A total order, so that answers do not depend on the order in which items were met.
  friend bool operator<(const Neighbor& a, const Neighbor& b) {
    return a.distance < b.distance || (a.distance == b.distance && a.id < b.id);
  }
};

class TopK {
 public:
  explicit TopK(std::size_t k = 0) { reset(k); }

  void reset(std::size_t k) {
    k_ = k;
    heap_.clear();
  }

  std::size_t capacity() const { return heap_.capacity(); }

  // Neighbours farther than this are not wanted. For k above 0.
  float limit() const {
    return heap_.size() < k_ ? std::numeric_limits<float>::infinity() : heap_.front().distance;
  }

  // Distances are never NaN: scoring turns NaN into infinity.
  void offer(float distance, std::int64_t id) {
    const Neighbor candidate{distance, id};
    if (heap_.size() < k_) {
      heap_.push_back(candidate);
      std::push_heap(heap_.begin(), heap_.end());
    } else if (k_ > 0 && candidate < heap_.front()) {
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.back() = candidate;
      std::push_heap(heap_.begin(), heap_.end());
    }
  }

  // Nearest first; the heap is used up.
  const std::vector<Neighbor>& sorted() {
    std::sort_heap(heap_.begin(), heap_.end());
    return heap_;
  }

 private:
  std::size_t k_ = 0;
  std::vector<Neighbor> heap_;  // a max-heap: the worst kept neighbour is in front
};

}  // namespace dask_annoy
