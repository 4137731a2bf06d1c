#include "core/search.hpp"

#include <algorithm>
#include <limits>

#include "core/scoring.hpp"
#include "core/walk.hpp"

namespace dask_annoy {

namespace {

// Scores candidates into scratch.best. In which order does not matter, so some are scored while others are still
// sought: their rows come from memory while the walk uses the processor, and the other way round.
class CandidateScorer {
 public:
  CandidateScorer(const Forest& forest, const Query& query, Scratch& scratch)
      : forest_(forest), query_(query), scratch_(scratch) {
    scratch_.distances.resize(kScoredAtOnce);
  }

  // At most kScoredAtOnce items.
  void score(const std::int32_t* items, std::size_t count) {
    score_nodes(forest_.layout, query_, RowSet{forest_.nodes.get(), forest_.layout.node_size, items, count},
                scratch_.distances.data());
    for (std::size_t i = 0; i < count; ++i) scratch_.best.offer(scratch_.distances[i], items[i]);
  }

  // Of a list that grows: scores what was fetched last time, and fetches what comes next.
  void score_some(const std::vector<std::int32_t>& items) {
    if (fetched_ > scored_) score(items.data() + scored_, fetched_ - scored_);
    scored_ = fetched_;
    fetched_ = std::min(items.size(), scored_ + kFetchedAtOnce);
    for (std::size_t i = scored_; i < fetched_; ++i) forest_.fetch(items[i]);
  }

  void score_rest(const std::vector<std::int32_t>& items) {
    for (; scored_ < items.size(); scored_ += std::min(kScoredAtOnce, items.size() - scored_)) {
      score(items.data() + scored_, std::min(kScoredAtOnce, items.size() - scored_));
    }
  }

 private:
  static constexpr std::size_t kFetchedAtOnce = 16;  // measured flat between 8 and 32

  const Forest& forest_;
  const Query& query_;
  Scratch& scratch_;
  std::size_t scored_ = 0;
  std::size_t fetched_ = 0;
};

}  // namespace

// Annoy's default budget is without its overflow at 2^31.
std::size_t search_budget(std::size_t n_trees, std::size_t n, std::int64_t search_k) {
  if (search_k != -1) return static_cast<std::size_t>(search_k);
  constexpr auto kMost = static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max());
  return n_trees > 0 && n > kMost / n_trees ? kMost : n * n_trees;
}

const std::vector<Neighbor>& search(const Forest& forest, const void* vector, std::size_t n, std::int64_t search_k,
                                    const ItemFilter* filter) {
  const std::size_t budget = search_budget(forest.roots.size(), n, search_k);
  const bool scanned = filter != nullptr && budget > 0 && better_scanned(forest, *filter, budget);
  return scanned ? search_exact(forest, vector, n, filter) : search_trees(forest, vector, n, search_k, filter);
}

const std::vector<Neighbor>& search_exact(const Forest& forest, const void* vector, std::size_t n,
                                          const ItemFilter* filter) {
  const BorrowedScratch borrowed;
  Scratch& scratch = *borrowed;
  const Query query = Query::of(forest.layout, vector);
  scratch.best.reset(n);
  CandidateScorer scorer(forest, query, scratch);
  const auto score = [&](const std::vector<std::int32_t>& items) { scorer.score(items.data(), items.size()); };
  if (filter != nullptr) {
    each_block(*filter, kScoredAtOnce, scratch.candidates, score);
    return scratch.best.sorted();
  }
  std::vector<std::int32_t>& items = scratch.candidates;
  for (std::int32_t item = 0; item < forest.n_items;) {
    items.clear();
    for (; item < forest.n_items && items.size() < kScoredAtOnce; ++item) {
      if (forest.node(item).n_descendants() == 1) items.push_back(item);
    }
    score(items);
  }
  return scratch.best.sorted();
}

const std::vector<Neighbor>& search_trees(const Forest& forest, const void* vector, std::size_t n,
                                          std::int64_t search_k, const ItemFilter* filter) {
  const BorrowedScratch borrowed;
  Scratch& scratch = *borrowed;
  const Query query = Query::of(forest.layout, vector);
  const std::size_t budget = search_budget(forest.roots.size(), n, search_k);
  scratch.best.reset(n);
  CandidateScorer scorer(forest, query, scratch);
  SeenItems seen(forest, scratch);
  const auto meanwhile = [&] { scorer.score_some(seen.items()); };
  if (filter != nullptr) {
    const auto passes = [&](std::int32_t item) { return filter->passes(item); };
    meet_items(forest, query, budget, passes, scratch.queue, seen, meanwhile);
    scorer.score_rest(seen.items());
  } else if (!forest.has_holes) {
    meet_items(forest, query, budget, AnyItem{}, scratch.queue, seen, meanwhile);
    scorer.score_rest(seen.items());
  } else {
    // Holes count as candidates, as in Annoy, but have nothing to score.
    meet_items(forest, query, budget, AnyItem{}, scratch.queue, seen, [] {});
    scorer.score_rest(present(forest, seen.items()));
  }
  return scratch.best.sorted();
}

void budgets_to_find(const Forest& forest, const void* vector, const std::int64_t* targets, std::size_t n_targets,
                     std::int64_t* budgets) {
  const BorrowedScratch borrowed;
  Scratch& scratch = *borrowed;
  const Query query = Query::of(forest.layout, vector);
  SeenItems wanted(forest, scratch);
  for (std::size_t t = 0; t < n_targets; ++t) {
    budgets[t] = -1;
    if (targets[t] < 0 || targets[t] >= forest.n_items) continue;
    const auto item = static_cast<std::int32_t>(targets[t]);
    // The list of a root over holes is filled up with zeros, so item 0 may be met and yet be a hole.
    if (forest.node(item).n_descendants() == 1) wanted.add(&item, 1, AnyItem{});
  }
  std::size_t missing = wanted.items().size();
  if (missing == 0) return;
  std::int64_t met = 0;
  const auto find = [&](std::int32_t item) {
    bool first_time = false;
    for (std::size_t t = 0; t < n_targets; ++t) {
      if (targets[t] != item || budgets[t] >= 0) continue;
      budgets[t] = met + 1;  // the search goes on to this leaf while it has met fewer than its budget
      first_time = true;
    }
    if (first_time) --missing;
  };
  const auto meet = [&](const std::int32_t* items, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      if (wanted.contains(items[i])) find(items[i]);
    }
    met += static_cast<std::int64_t>(count);
    return missing > 0;
  };
  Walk(forest, query, scratch.queue).run(meet, [] {});
}

void write_answer(Metric metric, const std::vector<Neighbor>& neighbors, std::size_t n, std::int64_t* ids,
                  float* distances) {
  for (std::size_t i = 0; i < n; ++i) {
    const bool found = i < neighbors.size();
    ids[i] = found ? neighbors[i].id : -1;
    distances[i] = found ? returned_distance(metric, neighbors[i].distance) : missing_distance(metric);
  }
}

void search_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries, std::size_t n,
                  std::int64_t search_k, std::size_t n_threads, Cancellation& cancellation, std::int64_t* ids,
                  float* distances, const ItemFilter* filter) {
  each_query(n_queries, n_threads, cancellation, [&](std::size_t q) {
    write_answer(forest.layout.metric, search(forest, queries + q * stride, n, search_k, filter), n, ids + q * n,
                 distances + q * n);
  });
}

void budgets_to_find_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries,
                           const std::int64_t* targets, std::size_t n_targets, std::size_t n_threads,
                           Cancellation& cancellation, std::int64_t* budgets) {
  each_query(n_queries, n_threads, cancellation, [&](std::size_t q) {
    budgets_to_find(forest, queries + q * stride, targets + q * n_targets, n_targets, budgets + q * n_targets);
  });
}

}  // namespace dask_annoy
