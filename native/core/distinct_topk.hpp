// The best k of a stream in which the same item may come several times.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "core/topk.hpp"

namespace dask_annoy {

// What is near enough is collected and, once there is much of it, sorted, freed of repeats and cut to k. An item must
// always come with the same distance; repeats are then neighbours in the order.
class DistinctTopK {
 public:
  explicit DistinctTopK(std::size_t k = 0) : k_(k) {}

  // Neighbours farther than this are not wanted. For k above 0.
  float limit() const { return limit_; }

  // Distances are never NaN.
  void offer(float distance, std::int64_t id) {
    if (distance > limit_) return;
    kept_.push_back({distance, id});
    if (kept_.size() >= cut_at_) cut();
  }

  // Nearest first.
  const std::vector<Neighbor>& sorted() {
    cut();
    return kept_;
  }

 private:
  static constexpr std::size_t kLeastRoom = 32;

  void cut() {
    std::sort(kept_.begin(), kept_.end());
    const auto same = [](const Neighbor& a, const Neighbor& b) { return a.id == b.id; };
    kept_.erase(std::unique(kept_.begin(), kept_.end(), same), kept_.end());
    if (kept_.size() >= k_) {
      kept_.resize(k_);
      if (k_ > 0) limit_ = kept_.back().distance;
    }
    cut_at_ = kept_.size() + std::max(kept_.size(), kLeastRoom);
  }

  std::size_t k_;
  std::size_t cut_at_ = kLeastRoom;
  float limit_ = std::numeric_limits<float>::infinity();
  std::vector<Neighbor> kept_;
};

}  // namespace dask_annoy
