// Forests of the dot nodes that Annoy's development version writes, turned into those of 1.17.3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "core/forest.hpp"

namespace dask_annoy {

// Takes bytes in the order of the file.
using ByteSink = std::function<void(const char*, std::size_t)>;

// Copies an item, or a hole, into a node of another layout of the same metric and width; zeros what it does not set.
void copy_item(const NodeView& item, const Layout& layout, char* node);

// The same items and trees in nodes that hold two item numbers fewer: a list with more than fit becomes a split of two
// lists. Its plane is zero, so a query goes both ways: with a budget for all items the answers are the same; with a
// smaller one such a list may be met later than it was.
class DotConversion {
 public:
  // Keeps a reference to the forest. StateError if the file would have more than 2^31 - 1 nodes.
  explicit DotConversion(const Forest& forest);

  std::size_t size() const { return n_nodes_ * layout_.node_size; }  // bytes
  void write(const ByteSink& sink) const;

 private:
  class Writer;

  bool is_list(std::int32_t id) const;
  bool is_parted(std::int32_t id) const;
  bool is_root(std::int32_t id) const { return id >= forest_.roots.front(); }
  std::int32_t& number(std::int32_t id) { return numbers_[static_cast<std::size_t>(id - forest_.n_items)]; }
  std::int32_t new_number(std::int32_t id) const;
  void number_tree(std::int32_t root);
  std::int32_t take_numbers(std::int32_t count);

  const Forest& forest_;
  const Layout layout_;
  std::size_t n_nodes_;
  std::vector<std::int32_t> order_;    // old numbers as they are written, children first; a root only if it is parted
  std::vector<std::int32_t> numbers_;  // new ones, by the old less the items; of a parted root its first list's
  bool twice_;                         // roots that could be taken for copies of each other are written with copies
};

}  // namespace dask_annoy
