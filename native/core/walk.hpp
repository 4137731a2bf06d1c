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
#include "core/search_scratch.hpp"
#include "core/visit_queue.hpp"

namespace dask_annoy {

// From benchmarks/filtered_search.py (text256, sift128; 50 trees; its README has the figures): 1000 items are scanned
// in a third to a half of the time of a search with the default budget, and scoring an item costs as much as passing by
// four.
constexpr std::size_t kScannedAlways = 1000;
constexpr double kPassedBy = 4.0;

// Few enough that an item's norm, which is read after all products, is still in the cache.
constexpr std::size_t kScoredAtOnce = 256;

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

// Walks all trees best-first and hands the item numbers of each leaf to a visitor. Nodes lie all over the file, so most
// of a walk would be waiting for memory: a node is fetched as soon as it is known to be visited before long.
class Walk {
 public:
  Walk(const Forest& forest, const Query& query, VisitQueue& queue) : forest_(forest), query_(query), queue_(queue) {
    queue_.clear();
    const float start = is_binary(forest.layout.metric) ? 0.0f : std::numeric_limits<float>::infinity();
    for (const std::int32_t root : forest.roots) queue_.push(start, root);
  }

  // Calls meet(items, n) until it says false or nothing is left; and meanwhile() for work that can be done while the
  // next node is on its way.
  template <class Meet, class Meanwhile>
  void run(Meet&& meet, Meanwhile&& meanwhile) {
    const auto meet_leaf = [&](std::int32_t, const std::int32_t* items, std::size_t n) { return meet(items, n); };
    while (step(meet_leaf, meanwhile)) {
    }
  }

  // One step of it: visits a node. `meet` is told the leaf's node, too: meet(leaf, items, n). False at the end.
  template <class Meet, class Meanwhile>
  bool step(Meet&& meet, Meanwhile&& meanwhile) {
    if (queue_.empty()) return false;
    const Visit visit = queue_.top();
    const NodeView node = forest_.node(visit.node);
    const std::int32_t n = node.n_descendants();
    const bool is_item = visit.node < forest_.n_items;
    if (!is_item && n > forest_.layout.list_capacity) {
      go_on_below(visit, node);
      meanwhile();
      return true;
    }
    queue_.pop();
    if (!queue_.empty()) forest_.fetch(queue_.top().node);
    if (!is_item) return meet(visit.node, node.list(), static_cast<std::size_t>(n));
    return n != 1 || meet(visit.node, &visit.node, std::size_t{1});
  }

 private:
  void go_on_below(const Visit& visit, const NodeView& split) {
    const Metric metric = forest_.layout.metric;
    const float margin = plane_margin(forest_.layout, split, query_);
    const int near = margin > 0.0f ? 1 : 0;
    // The near child keeps most of the priority. What comes next is in its place mostly, or is visited soon.
    forest_.fetch(split.child(near));
    queue_.replace_top(child_priority(metric, visit.priority, margin, near), split.child(near));
    queue_.push(child_priority(metric, visit.priority, margin, 1 - near), split.child(1 - near));
    forest_.fetch(queue_.top().node);
  }

  const Forest& forest_;
  const Query& query_;
  VisitQueue& queue_;
};

// Whether to score all that pass instead of walking: they are few, or a walk would not look at fewer, or it would pass
// by kPassedBy items for each that a scan scores.
inline bool better_scanned(std::size_t n_items, std::size_t n_passing, std::size_t budget) {
  if (n_passing <= std::max(budget, kScannedAlways)) return true;
  const auto passing = static_cast<double>(n_passing);
  return kPassedBy * passing * passing <= static_cast<double>(budget) * static_cast<double>(n_items);
}

inline bool better_scanned(const Forest& forest, const ItemFilter& filter, std::size_t budget) {
  return better_scanned(static_cast<std::size_t>(forest.n_items), filter.count(), budget);
}

struct AnyItem {
  bool operator()(std::int32_t) const { return true; }
};

// Puts into `seen` the items that pass and that a walk meets before it has met `budget` of them, repeats counted. What
// meanwhile() does is as for Walk.
template <class Passes, class Meanwhile>
void meet_items(const Forest& forest, const Query& query, std::size_t budget, const Passes& passes, VisitQueue& queue,
                SeenItems& seen, Meanwhile&& meanwhile) {
  if (budget == 0) return;
  std::size_t met = 0;
  const auto meet = [&](const std::int32_t* items, std::size_t count) {
    met += seen.add(items, count, passes);
    return met < budget;
  };
  Walk(forest, query, queue).run(meet, meanwhile);
}

// The items met, without holes.
inline std::vector<std::int32_t> present(const Forest& forest, const std::vector<std::int32_t>& items) {
  std::vector<std::int32_t> found;
  for (const std::int32_t id : items) {
    if (forest.node(id).n_descendants() == 1) found.push_back(id);
  }
  return found;
}

}  // namespace dask_annoy
