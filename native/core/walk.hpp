// The walk that all searches share: best-first through all trees at once, handing out what it meets.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/forest.hpp"
#include "core/item_filter.hpp"
#include "core/scoring.hpp"
#include "core/topk.hpp"

namespace dask_annoy {

constexpr std::size_t kScannedAlways = 1000;
constexpr double kPassedBy = 8.0;
constexpr std::size_t kScoredAtOnce = 1024;

struct Visit {
  float priority;
  std::int32_t node;

  friend bool operator<(const Visit& a, const Visit& b) {
    return a.priority < b.priority || (a.priority == b.priority && a.node < b.node);
  }
};

// What a search needs, kept by each thread so that a query allocates nothing once it is warm.
struct Scratch {
  std::vector<Visit> queue;
  std::vector<std::int32_t> candidates;
  std::vector<std::uint64_t> seen;  // one bit an item; all zero between searches
  std::vector<float> distances;
  TopK best;
};

inline Scratch& thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

inline float plane_margin(const Layout& layout, const NodeView& split, const Query& query) {
  switch (layout.metric) {
    case Metric::hamming:
      return bit_of_split(query.bits, split.bits()[0]) ? 1.0f : 0.0f;
    case Metric::euclidean:
    case Metric::manhattan:
      return split.scalar() + kernels().dot(split.vector(), query.values, layout.width);
    case Metric::dot: {
      // The square of the extra dimension is what Annoy 1.17.3 adds; files of ours hold 0 there.
      const float extra = layout.extra_in_margin ? split.scalar() : 0.0f;
      return kernels().dot(split.vector(), query.values, layout.width) + extra * extra;
    }
    case Metric::angular:
      return kernels().dot(split.vector(), query.values, layout.width);
  }
  return 0.0f;
}

// How promising a child is: the least margin on the way to it, or for bits minus the number of wrong turns. Never NaN,
// which would have no place in the queue's order: std::min keeps its first argument when the second is NaN, so a plane
// that gives no margin (a file may hold NaN) sends a query both ways.
inline float child_priority(Metric metric, float parent, float margin, int side) {
  if (metric == Metric::hamming) return parent - (margin == static_cast<float>(side) ? 0.0f : 1.0f);
  return std::min(parent, side == 1 ? margin : -margin);
}

// Walks all trees best-first and hands the item numbers of each leaf to a visitor.
class Walk {
 public:
  Walk(const Forest& forest, const Query& query, std::vector<Visit>& queue)
      : forest_(forest), query_(query), queue_(queue) {
    queue_.clear();
    const float start = is_binary(forest.layout.metric) ? 0.0f : std::numeric_limits<float>::infinity();
    for (const std::int32_t root : forest.roots) push(start, root);
  }

  // Calls meet(items, n) until it says false or nothing is left.
  template <class Meet>
  void run(Meet&& meet) {
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end());
      const Visit visit = queue_.back();
      queue_.pop_back();
      const NodeView node = forest_.node(visit.node);
      const std::int32_t n = node.n_descendants();
      if (visit.node < forest_.n_items) {
        if (n == 1 && !meet(&visit.node, std::size_t{1})) return;
      } else if (n <= forest_.layout.list_capacity) {
        if (!meet(node.list(), static_cast<std::size_t>(n))) return;
      } else {
        const float margin = plane_margin(forest_.layout, node, query_);
        for (const int side : {1, 0}) {
          push(child_priority(forest_.layout.metric, visit.priority, margin, side), node.child(side));
        }
      }
    }
  }

 private:
  void push(float priority, std::int32_t node) {
    queue_.push_back({priority, node});
    std::push_heap(queue_.begin(), queue_.end());
  }

  const Forest& forest_;
  const Query& query_;
  std::vector<Visit>& queue_;
};

// The set of items a search has met: one bit an item, cleaned up by the list of those that were set.
class SeenItems {
 public:
  SeenItems(const Forest& forest, Scratch& scratch) : words_(scratch.seen), items_(scratch.candidates) {
    const std::size_t n_words = (static_cast<std::size_t>(forest.n_items) + 63) / 64;
    if (words_.size() < n_words) words_.resize(n_words, 0);
    items_.clear();
  }

  ~SeenItems() {
    for (const std::int32_t id : items_) words_[static_cast<std::size_t>(id) / 64] = 0;
  }

  SeenItems(const SeenItems&) = delete;
  SeenItems& operator=(const SeenItems&) = delete;

  void add(std::int32_t item) {
    if (contains(item)) return;
    items_.push_back(item);  // first: it may throw, and what is marked must be listed
    words_[static_cast<std::size_t>(item) / 64] |= std::uint64_t{1} << (item % 64);
  }

  bool contains(std::int32_t item) const {
    return (words_[static_cast<std::size_t>(item) / 64] >> (item % 64) & 1) != 0;
  }

  const std::vector<std::int32_t>& items() const { return items_; }

 private:
  std::vector<std::uint64_t>& words_;
  std::vector<std::int32_t>& items_;
};

// Whether to score all that pass instead of walking: they are few, or a walk would not look at fewer, or it would pass
// by kPassedBy items for each that a scan scores.
inline bool better_scanned(const Forest& forest, const ItemFilter& filter, std::size_t budget) {
  if (filter.count() <= std::max(budget, kScannedAlways)) return true;
  const auto count = static_cast<double>(filter.count());
  return kPassedBy * count * count <= static_cast<double>(budget) * static_cast<double>(forest.n_items);
}

struct AnyItem {
  bool operator()(std::int32_t) const { return true; }
};

// Puts into `seen` the items that pass and that a walk meets before it has met `budget` of them, repeats counted.
template <class Passes>
void meet_items(const Forest& forest, const Query& query, std::size_t budget, const Passes& passes,
                std::vector<Visit>& queue, SeenItems& seen) {
  if (budget == 0) return;
  std::size_t met = 0;
  Walk(forest, query, queue).run([&](const std::int32_t* items, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      if (!passes(items[i])) continue;
      seen.add(items[i]);
      ++met;
    }
    return met < budget;
  });
}

// The items met, without holes; in `storage` if they had to be copied.
inline const std::vector<std::int32_t>& present(const Forest& forest, const std::vector<std::int32_t>& items,
                                                std::vector<std::int32_t>& storage) {
  if (!forest.has_holes) return items;
  storage.clear();
  for (const std::int32_t id : items) {
    if (forest.node(id).n_descendants() == 1) storage.push_back(id);
  }
  return storage;
}

}  // namespace dask_annoy
