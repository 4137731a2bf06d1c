#include "core/leaf_batch.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/distinct_topk.hpp"
#include "core/exact_scan.hpp"
#include "core/search.hpp"
#include "core/tile_scoring.hpp"
#include "core/walk.hpp"

namespace dask_annoy {

namespace {

// Measured on text256 and sift128 (100,000 × 256 and 150,000 × 128 floats; 50 trees, 1,000 and 10,000 queries, budgets
// of 1,000 to 30,000; AVX-512, processor time; load on the machine): a search's time grows by 46 and 22 ns a candidate,
// and a batch's by leaves as if each leaf were read once at 96 and 50 ns a row and each pair then took 4 and 2 ns.
constexpr double kReadByQuery = 0.044;  // ns a byte of a node; less than a read by leaf, as repeats are left out before
constexpr double kReadByLeaf = 0.093;
constexpr double kScored = 0.004;  // ns a byte of a vector

constexpr std::size_t kQueriesOfWalk = 8;  // measured flat between 4 and 16
constexpr std::size_t kLeavesOfTask = 32;
constexpr std::size_t kFetchedAhead = 8;  // rows

// A query came to a leaf: the leaf's node above, the query below, so that sorted visits are grouped by leaf.
using LeafVisit = std::uint64_t;

LeafVisit leaf_visit(std::int32_t leaf, std::size_t query) {
  return std::uint64_t{static_cast<std::uint32_t>(leaf)} << 32 | static_cast<std::uint32_t>(query);
}
std::int32_t leaf_of(LeafVisit visit) { return static_cast<std::int32_t>(visit >> 32); }
std::uint32_t query_of(LeafVisit visit) { return static_cast<std::uint32_t>(visit); }

// One query's walk to the leaves to which a search with this budget comes, step by step.
class LeafWalk {
 public:
  LeafWalk(const Forest& forest, const void* vector, std::size_t budget, const ItemFilter* filter, std::size_t number)
      : query_(Query::of(forest.layout, vector)),
        walk_(forest, query_, queue_),
        budget_(budget),
        filter_(filter),
        number_(number) {}
  LeafWalk(const LeafWalk&) = delete;
  LeafWalk& operator=(const LeafWalk&) = delete;

  // Appends the leaf if the next step comes to one. False at the end.
  bool step(std::vector<LeafVisit>& visits) {
    const auto meet = [&](std::int32_t leaf, const std::int32_t* items, std::size_t count) {
      visits.push_back(leaf_visit(leaf, number_));
      if (filter_ == nullptr) {
        met_ += count;
      } else {
        for (std::size_t i = 0; i < count; ++i) met_ += filter_->passes(items[i]) ? 1 : 0;
      }
      return met_ < budget_;
    };
    return walk_.step(meet, [] {});
  }

 private:
  Query query_;
  VisitQueue queue_;
  Walk walk_;
  std::size_t budget_;
  const ItemFilter* filter_;
  std::size_t number_;
  std::size_t met_ = 0;
};

// Groups the visits by leaf: a stable sort by the digits of the leaf, lowest first.
void group_by_leaf(std::vector<LeafVisit>& visits) {
  constexpr std::size_t kBits = 11;
  constexpr std::size_t kBuckets = std::size_t{1} << kBits;
  std::vector<LeafVisit> sorted(visits.size());
  for (std::size_t shift = 32; shift < 64; shift += kBits) {
    std::vector<std::size_t> starts(kBuckets + 1);
    for (const LeafVisit visit : visits) ++starts[(visit >> shift) % kBuckets + 1];
    for (std::size_t b = 0; b < kBuckets; ++b) starts[b + 1] += starts[b];
    for (const LeafVisit visit : visits) sorted[starts[(visit >> shift) % kBuckets]++] = visit;
    visits.swap(sorted);
  }
}

// Where the queries' best are kept while leaves are scored. A set for each thread at work, as a query's leaves are
// scored by several; which thread scored what does not show in what all sets hold together.
class BestSets {
 public:
  using Set = std::vector<DistinctTopK>;

  BestSets(std::size_t n_queries, std::size_t n) : n_queries_(n_queries), n_(n) {}

  // Lends a set that nobody has.
  std::unique_ptr<Set> take() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!sets_.empty()) {
        std::unique_ptr<Set> set = std::move(sets_.back());
        sets_.pop_back();
        return set;
      }
    }
    return std::make_unique<Set>(n_queries_, DistinctTopK(n_));
  }

  void give_back(std::unique_ptr<Set> set) {
    const std::lock_guard<std::mutex> lock(mutex_);
    sets_.push_back(std::move(set));
  }

  // The best of all sets, which must all be here.
  const std::vector<Neighbor>& best_of(std::size_t query) {
    DistinctTopK& best = (*sets_[0])[query];
    for (std::size_t i = 1; i < sets_.size(); ++i) {
      for (const Neighbor& other : (*sets_[i])[query].sorted()) best.offer(other.distance, other.id);
    }
    return best.sorted();
  }

 private:
  std::size_t n_queries_;
  std::size_t n_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Set>> sets_;
};

// Scores leaves against the queries that came to them. Of one thread.
class LeafScorer {
 public:
  LeafScorer(const Forest& forest, const PackedQueries& queries, const ItemFilter* filter, BestSets::Set& best)
      : forest_(forest),
        queries_(queries),
        filter_(filter),
        best_(best),
        tile_(forest.layout),
        scorer_(forest.layout) {}

  // Of one leaf.
  void score(const LeafVisit* begin, const LeafVisit* end) {
    which_.clear();
    for (const LeafVisit* visit = begin; visit != end; ++visit) which_.push_back(query_of(*visit));
    const std::int32_t leaf = leaf_of(*begin);
    const NodeView node = forest_.node(leaf);
    const bool is_item = leaf < forest_.n_items;
    const std::int32_t* const items = is_item ? &leaf : node.list();
    const std::size_t count = is_item ? 1 : static_cast<std::size_t>(node.n_descendants());
    for (std::size_t i = 0; i < std::min(kFetchedAhead, count); ++i) forest_.fetch(items[i]);
    for (std::size_t i = 0; i < count; ++i) {
      if (i + kFetchedAhead < count) forest_.fetch(items[i + kFetchedAhead]);
      if (filter_ != nullptr && !filter_->passes(items[i])) continue;
      const NodeView item = forest_.node(items[i]);
      if (item.n_descendants() != 1) continue;  // a hole
      tile_.add(item, items[i]);
      if (tile_.full()) score_tile();
    }
    if (tile_.count() > 0) score_tile();
  }

 private:
  void score_tile() {
    scorer_.score(tile_, queries_, which_.data(), which_.size(),
                  [&](std::uint32_t q) -> DistinctTopK& { return best_[q]; });
    tile_.clear();
  }

  const Forest& forest_;
  const PackedQueries& queries_;
  const ItemFilter* filter_;
  BestSets::Set& best_;
  RowTile tile_;
  TileScorer scorer_;
  std::vector<std::uint32_t> which_;
};

// Some of a batch's queries.
class LeafBatch {
 public:
  LeafBatch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries, std::size_t n,
            std::size_t n_threads, Cancellation& cancellation, const ItemFilter* filter, std::size_t most_visits)
      : forest_(forest),
        queries_(forest.layout, queries, stride, n_queries),
        n_(n),
        n_threads_(n_threads),
        cancellation_(cancellation),
        filter_(filter),
        most_visits_(most_visits),
        walked_((n_queries + kQueriesOfWalk - 1) / kQueriesOfWalk) {}

  void run(std::size_t budget, std::int64_t* ids, float* distances) {
    std::vector<std::size_t> walks(walked_.size());
    for (std::size_t w = 0; w < walks.size(); ++w) walks[w] = w;
    while (!walks.empty()) {  // again, if there are more visits than may be held
      std::vector<LeafVisit> visits = walk(walks, budget);
      group_by_leaf(visits);
      BestSets best(queries_.count(), n_);
      score(visits, best);
      std::vector<std::size_t> left;
      std::vector<std::size_t> done;
      for (const std::size_t w : walks) (walked_[w] ? done : left).push_back(w);
      answer(done, best, ids, distances);
      walks = std::move(left);
    }
  }

 private:
  std::size_t end_of(std::size_t walk) const { return std::min(queries_.count(), (walk + 1) * kQueriesOfWalk); }

  // Walks queries until there are as many visits as may be held, and says in walked_ which they were.
  std::vector<LeafVisit> walk(const std::vector<std::size_t>& walks, std::size_t budget) {
    std::vector<LeafVisit> visits;
    std::mutex mutex;
    std::atomic<std::size_t> n_visits{0};
    parallel_for(walks.size(), n_threads_, cancellation_, [&](std::size_t task) {
      if (n_visits.load(std::memory_order_relaxed) >= most_visits_) return;
      const std::size_t w = walks[task];
      std::vector<LeafVisit> own;
      // Step by step in turn: each waits for its next node while the others go on.
      std::vector<std::unique_ptr<LeafWalk>> going;
      for (std::size_t q = w * kQueriesOfWalk; q < end_of(w); ++q) {
        going.push_back(std::make_unique<LeafWalk>(forest_, queries_.vectors().at(q), budget, filter_, q));
      }
      while (!going.empty()) {
        cancellation_.check();
        const auto ended = [&](const std::unique_ptr<LeafWalk>& walk) { return !walk->step(own); };
        going.erase(std::remove_if(going.begin(), going.end(), ended), going.end());
      }
      walked_[w] = 1;
      n_visits.fetch_add(own.size(), std::memory_order_relaxed);
      const std::lock_guard<std::mutex> lock(mutex);
      visits.insert(visits.end(), own.begin(), own.end());
    });
    return visits;
  }

  void score(const std::vector<LeafVisit>& visits, BestSets& best) {
    std::vector<std::size_t> starts;  // of the leaves
    for (std::size_t i = 0; i < visits.size(); ++i) {
      if (i == 0 || leaf_of(visits[i]) != leaf_of(visits[i - 1])) starts.push_back(i);
    }
    const std::size_t n_leaves = starts.size();
    starts.push_back(visits.size());
    parallel_for((n_leaves + kLeavesOfTask - 1) / kLeavesOfTask, n_threads_, cancellation_, [&](std::size_t task) {
      std::unique_ptr<BestSets::Set> own = best.take();
      LeafScorer scorer(forest_, queries_, filter_, *own);
      for (std::size_t i = task * kLeavesOfTask; i < std::min(n_leaves, (task + 1) * kLeavesOfTask); ++i) {
        cancellation_.check();
        scorer.score(visits.data() + starts[i], visits.data() + starts[i + 1]);
      }
      best.give_back(std::move(own));
    });
  }

  void answer(const std::vector<std::size_t>& walks, BestSets& best, std::int64_t* ids, float* distances) {
    parallel_for(walks.size(), n_threads_, cancellation_, [&](std::size_t task) {
      for (std::size_t q = walks[task] * kQueriesOfWalk; q < end_of(walks[task]); ++q) {
        write_answer(forest_.layout.metric, best.best_of(q), n_, ids + q * n_, distances + q * n_);
      }
    });
  }

  const Forest& forest_;
  PackedQueries queries_;
  std::size_t n_;
  std::size_t n_threads_;
  Cancellation& cancellation_;
  const ItemFilter* filter_;
  std::size_t most_visits_;
  std::vector<std::uint8_t> walked_;  // one each, as threads write side by side
};

}  // namespace

void search_leaves_batch(const Forest& forest, const char* queries, std::size_t stride, std::size_t n_queries,
                         std::size_t n, std::int64_t search_k, std::size_t n_threads, Cancellation& cancellation,
                         std::int64_t* ids, float* distances, const ItemFilter* filter, const LeafBatchBounds& bounds) {
  const std::size_t budget = search_budget(forest.roots.size(), n, search_k);
  if (n == 0 || budget == 0) {
    for (std::size_t q = 0; q < n_queries; ++q) {
      write_answer(forest.layout.metric, {}, n, ids + q * n, distances + q * n);
    }
    return;
  }
  if (filter != nullptr && better_scanned(forest, *filter, budget)) {
    search_exact_batch(forest, queries, stride, n_queries, n, n_threads, cancellation, ids, distances, filter);
    return;
  }
  const std::size_t kept = 2 * std::min(n, static_cast<std::size_t>(forest.n_items)) + 64;
  const std::size_t at_once = std::max(kQueriesOfWalk, bounds.neighbors / kept);
  for (std::size_t begin = 0; begin < n_queries; begin += at_once) {
    LeafBatch batch(forest, queries + begin * stride, stride, std::min(at_once, n_queries - begin), n, n_threads,
                    cancellation, filter, bounds.visits * n_threads);
    batch.run(budget, ids + begin * n, distances + begin * n);
  }
}

double queries_per_leaf(const Forest& forest, std::size_t n_queries, std::size_t budget) {
  const auto items = static_cast<double>(forest.n_items);  // each is in one leaf of each tree
  const double in_trees = items * static_cast<double>(forest.roots.size());
  return in_trees > 0.0 ? static_cast<double>(n_queries) * std::min(static_cast<double>(budget) / in_trees, 1.0) : 0.0;
}

double nanoseconds_of_candidate(const Layout& layout) { return kReadByQuery * static_cast<double>(layout.node_size); }

double nanoseconds_of_candidate_by_leaves(const Layout& layout, double sharing) {
  // Visits fall on leaves by chance, so of many leaves that few queries come to, most are left out.
  const double reads = sharing > 0.0 ? -std::expm1(-sharing) / sharing : 1.0;
  return kReadByLeaf * reads * static_cast<double>(layout.node_size) +
         kScored * static_cast<double>(layout.vector_bytes());
}

bool leaf_batch_pays(const Forest& forest, std::size_t n_queries, std::size_t budget) {
  const double sharing = queries_per_leaf(forest, n_queries, budget);
  return !is_binary(forest.layout.metric) &&
         nanoseconds_of_candidate_by_leaves(forest.layout, sharing) < nanoseconds_of_candidate(forest.layout);
}

}  // namespace dask_annoy
