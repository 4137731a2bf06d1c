// Puts grown trees down behind the items, in order, whoever grows them first.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "core/bucket_rows.hpp"
#include "core/node_storage.hpp"
#include "core/top_trees.hpp"
#include "core/tree.hpp"

namespace dask_annoy {

// How a tree is put together: its parts left to right, each the rows of some buckets side by side, and the splits of
// its first levels above them.
struct TreeOutline {
  struct Part {
    std::size_t first_bucket, last_bucket;  // last not included
    std::size_t count;                      // items
    std::uint64_t seed;
  };
  struct Split {
    std::size_t node;  // of the TopTree
    std::size_t count;
    std::int32_t children[2];  // a split before this one, or −1 − a part
  };

  // Splits over so few items that they pass for a list are parts instead.
  static TreeOutline of(const TopTree& top, const std::vector<std::size_t>& bucket_counts, const Layout& layout);

  std::vector<Part> parts;
  std::vector<Split> splits;  // children before parents; empty when the whole tree is one part
};

// Parts that wait for an earlier one, for each thread: enough that no thread stands still, few enough to hold.
constexpr std::size_t kPartsWaiting = 2;

class TreeWriter {
 public:
  // `moving` is held alone while the storage moves. `window` parts may wait for an earlier one.
  TreeWriter(const Layout& layout, std::int32_t n_items, NodeStorage& storage, std::shared_mutex& moving,
             std::size_t window);

  // Ends the writing after so many trees, or at −1 once they have as many nodes as there are items.
  void stop_after(int n_trees) { n_trees_ = n_trees; }
  bool enough() const;

  // The parts of the next trees are numbered through, in the order in which they are put down.
  void begin_group(const std::vector<TopTree>& tops, const std::vector<TreeOutline>& outlines);

  // Takes part `index` of the group; waits while too many parts before it are missing.
  void take(std::size_t index, Subtree&& part, Cancellation& cancellation);

  // Annoy finds the roots by their copies at the end. Returns the numbers of the copies.
  std::vector<std::int32_t> copy_roots();

 private:
  void put_down(Subtree& part);
  void finish_tree();
  void append(const std::vector<char>& nodes);
  void require_room(std::size_t n_nodes) const;
  bool enough_unlocked() const;

  Layout layout_;
  std::int32_t n_items_;
  NodeStorage& storage_;
  std::shared_mutex& moving_;
  std::size_t window_;
  int n_trees_ = -1;

  mutable std::mutex mutex_;
  std::condition_variable put_one_down_;
  const std::vector<TopTree>* tops_ = nullptr;
  const std::vector<TreeOutline>* outlines_ = nullptr;
  std::map<std::size_t, Subtree> waiting_;
  std::size_t next_ = 0;                // part of the group to put down next
  std::size_t tree_ = 0;                // of the group, and
  std::vector<std::int32_t> children_;  // the numbers of its parts so far
  std::size_t n_tree_nodes_ = 0;
  std::size_t n_finished_nodes_ = 0;  // of whole trees
  std::vector<std::int32_t> roots_;
};

}  // namespace dask_annoy
