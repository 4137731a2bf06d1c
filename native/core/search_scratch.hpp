// What a search works with: kept by each thread from one query to the next, so that a query allocates nothing once it
// is warm.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/forest.hpp"
#include "core/topk.hpp"
#include "core/visit_queue.hpp"

namespace dask_annoy {

struct Scratch {
  VisitQueue queue;
  std::vector<std::int32_t> candidates;
  std::vector<std::uint64_t> seen;  // one bit an item; all zero between searches
  std::vector<float> distances;     // of a block of candidates
  TopK best;

  static constexpr std::size_t kKept = std::size_t{1} << 20;       // entries of the queue, candidates, neighbours
  static constexpr std::size_t kKeptWords = std::size_t{1} << 21;  // 16 MB, for 134 million items

  // Gives back what a single large query made of it. The answer in `best` is the caller's until the next search.
  void trim() {
    if (candidates.capacity() > kKept) candidates = std::vector<std::int32_t>();  // `= {}` would keep the memory
    if (queue.capacity() > kKept) queue = VisitQueue();
    if (seen.capacity() > kKeptWords) seen = std::vector<std::uint64_t>();
  }
};

// This thread's scratch, for one search at a time.
class BorrowedScratch {
 public:
  BorrowedScratch() {
    if (of_thread().best.capacity() > Scratch::kKept) of_thread().best = TopK();
  }
  ~BorrowedScratch() { of_thread().trim(); }
  BorrowedScratch(const BorrowedScratch&) = delete;
  BorrowedScratch& operator=(const BorrowedScratch&) = delete;

  Scratch& operator*() const { return of_thread(); }

 private:
  static Scratch& of_thread() {
    static thread_local Scratch scratch;
    return scratch;
  }
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
    for (const std::int32_t id : items_) words_[word_of(id)] = 0;
  }

  SeenItems(const SeenItems&) = delete;
  SeenItems& operator=(const SeenItems&) = delete;

  // Adds those of `count` items that pass and are new, and returns how many passed. An item is written to the list in
  // any case and the list grows by it or not: whether it was met before cannot be foretold, and a wrong guess costs
  // more.
  template <class Passes>
  std::size_t add(const std::int32_t* items, std::size_t count, const Passes& passes) {
    const std::size_t before = items_.size();
    items_.resize(before + count);  // first: it may throw, and what is marked must be listed
    std::int32_t* end = items_.data() + before;
    std::size_t passed = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (!passes(items[i])) continue;
      ++passed;
      std::uint64_t& word = words_[word_of(items[i])];
      const std::uint64_t bit = bit_of(items[i]);
      *end = items[i];
      end += (word & bit) == 0 ? 1 : 0;
      word |= bit;
    }
    items_.resize(static_cast<std::size_t>(end - items_.data()));
    return passed;
  }

  bool contains(std::int32_t item) const { return (words_[word_of(item)] & bit_of(item)) != 0; }

  const std::vector<std::int32_t>& items() const { return items_; }

 private:
  static std::size_t word_of(std::int32_t item) { return static_cast<std::size_t>(item) / 64; }
  static std::uint64_t bit_of(std::int32_t item) { return std::uint64_t{1} << (item % 64); }

  std::vector<std::uint64_t>& words_;
  std::vector<std::int32_t>& items_;
};

}  // namespace dask_annoy
