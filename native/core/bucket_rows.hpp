// The rows of a group of trees, by tree and bucket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "core/file.hpp"
#include "core/fixed_point.hpp"
#include "core/item_set.hpp"
#include "core/node_storage.hpp"
#include "core/parallel.hpp"
#include "core/row_block.hpp"
#include "core/top_trees.hpp"

namespace dask_annoy {

class BucketRows {
 public:
  virtual ~BucketRows() = default;

  virtual std::size_t count(std::size_t tree, std::size_t bucket) const = 0;

  // What the rows that are read depend on stays where it is as long as the caller has this.
  virtual std::shared_lock<std::shared_mutex> hold() const { return {}; }

  // Those of the buckets first, first + 1 … last − 1, in any order, while held. Several threads may read.
  virtual void read(std::size_t tree, std::size_t first, std::size_t last, RowBlock& rows) const = 0;
};

// Items where they lie: in memory, or in a file that is mapped. What grows behind them may move them, so who reads
// holds `moving` shared and who moves them holds it alone.
class ItemsInPlace {
 public:
  ItemsInPlace(const NodeStorage& storage, std::shared_mutex& moving);

  // While `moving` is held.
  const char* nodes() const { return mapped_ ? mapped_.get() : storage_.in_place(); }
  std::shared_mutex& moving() const { return moving_; }

 private:
  const NodeStorage& storage_;
  std::shared_mutex& moving_;
  std::shared_ptr<const char> mapped_;  // of a file
};

// Notes each tree's items by bucket, and reads their rows from where they are. `rounding` may be null; `fixed`, the
// integers of the items, too, whose vectors are copied then.
std::unique_ptr<BucketRows> route_in_place(const Layout& layout, const ItemsInPlace& items, const FixedPoint* rounding,
                                           const FixedItems* fixed, const ItemSet& present,
                                           const std::vector<TopTree>& trees, std::size_t n_threads,
                                           Cancellation& cancellation);

// Reads the items once, in sequence, and writes each tree's rows by bucket to the scratch file, over what was there: to
// write to pages that the system has at hand costs it much less than to find new ones. Takes `buffer_bytes` meanwhile,
// and per bucket next to nothing afterwards. The file stays with the rows until they are read.
std::unique_ptr<BucketRows> route_to_scratch(const Layout& layout, const NodeStorage& storage,
                                             const FixedPoint* rounding, const ItemSet& present,
                                             const std::vector<TopTree>& trees, File& scratch, std::size_t buffer_bytes,
                                             std::size_t n_threads, Cancellation& cancellation);

}  // namespace dask_annoy
