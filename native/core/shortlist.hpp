// The nearest items by code, of which the best by vectors are the answer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/ranked.hpp"

namespace dask_annoy {

// Keeps the nearest items, and says below which score another one is of interest. Which ones are kept does not depend
// on the order in which they come.
class Shortlist {
 public:
  void reset(std::size_t size) {
    size_ = size;
    limit_ = size > 0 ? kNone : -kNone;
    kept_.clear();
  }

  float limit() const { return limit_; }

  void offer(float score, std::int32_t item) {
    kept_.push_back(ranked_as(score, static_cast<std::uint32_t>(item)));
    if (kept_.size() >= 2 * size_) cut();
  }

  // In no order.
  const std::vector<Ranked>& best() {
    if (kept_.size() > size_) cut();
    return kept_;
  }

 private:
  static constexpr float kNone = std::numeric_limits<float>::infinity();

  void cut() {
    if (kept_.size() <= kSortedAtMost) {
      sort_ranked(kept_.data(), kept_.size());
    } else {
      std::nth_element(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(size_) - 1, kept_.end());
    }
    kept_.resize(size_);
    // What is as near as the last may come before it by its number.
    limit_ = std::nextafter(score_of(kept_.back()), kNone);
  }

  std::size_t size_ = 0;
  float limit_ = kNone;
  std::vector<Ranked> kept_;
};

}  // namespace dask_annoy
