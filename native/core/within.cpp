#include "core/within.hpp"

#include <algorithm>

#include "core/walk.hpp"

namespace dask_annoy {

namespace {

class Scorer {
 public:
  Scorer(const Forest& forest, const Query& query, double radius, Cancellation& cancellation)
      : forest_(forest), query_(query), radius_(radius), cancellation_(cancellation), distances_(kScoredAtOnce) {}

  void score_all() {
    for (std::int32_t begin = 0; begin < forest_.n_items;) {
      const std::size_t left = static_cast<std::size_t>(forest_.n_items - begin);
      const std::size_t count = std::min(kScoredAtOnce, left);
      score(RowSet{forest_.at(begin), forest_.layout.node_size, nullptr, count});
      for (std::size_t i = 0; i < count; ++i) offer(distances_[i], begin + static_cast<std::int32_t>(i));
      begin += static_cast<std::int32_t>(count);
    }
  }

  void score_items(const std::vector<std::int32_t>& items) {
    for (std::size_t begin = 0; begin < items.size(); begin += kScoredAtOnce) {
      const std::size_t count = std::min(kScoredAtOnce, items.size() - begin);
      score(RowSet{forest_.nodes.get(), forest_.layout.node_size, items.data() + begin, count});
      for (std::size_t i = 0; i < count; ++i) offer(distances_[i], items[begin + i]);
    }
  }

  std::vector<Neighbor> nearest(std::size_t limit) {
    std::sort(found_.begin(), found_.end());
    if (found_.size() > limit) found_.resize(limit);
    return std::move(found_);
  }

 private:
  void score(const RowSet& rows) {
    cancellation_.check();
    score_nodes(forest_.layout, query_, rows, distances_.data());
  }

  void offer(float distance, std::int32_t id) {
    if (static_cast<double>(distance) > radius_) return;
    if (forest_.has_holes && forest_.node(id).n_descendants() != 1) return;
    found_.push_back({distance, id});
  }

  const Forest& forest_;
  const Query& query_;
  const double radius_;
  Cancellation& cancellation_;
  std::vector<float> distances_;
  std::vector<Neighbor> found_;
};

}  // namespace

std::vector<Neighbor> within(const Forest& forest, const void* vector, double radius, std::size_t limit,
                             std::int64_t search_k, const ItemFilter* filter, Cancellation& cancellation) {
  const Query query = Query::of(forest.layout, vector);
  Scorer scorer(forest, query, radius, cancellation);
  const BorrowedScratch borrowed;
  Scratch& scratch = *borrowed;
  const auto budget = static_cast<std::size_t>(search_k);
  if (search_k < 0 && filter == nullptr) {
    scorer.score_all();
  } else if (search_k < 0 || (filter != nullptr && budget > 0 && better_scanned(forest, *filter, budget))) {
    each_block(*filter, kScoredAtOnce, scratch.candidates,
               [&](const std::vector<std::int32_t>& items) { scorer.score_items(items); });
  } else {
    SeenItems seen(forest, scratch);
    if (filter != nullptr) {
      const auto passes = [&](std::int32_t item) { return filter->passes(item); };
      meet_items(forest, query, budget, passes, scratch.queue, seen, [] {});
    } else {
      meet_items(forest, query, budget, AnyItem{}, scratch.queue, seen, [] {});
    }
    scorer.score_items(seen.items());
  }
  return scorer.nearest(limit);
}

}  // namespace dask_annoy
