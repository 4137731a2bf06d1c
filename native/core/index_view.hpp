// What a query works with, from its start to its end, and how it goes about it. A part of index.cpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/dot_conversion.hpp"
#include "core/index.hpp"

namespace dask_annoy {

class Index::View {
 public:
  explicit View(const Index& index) : layout_(index.layout_), lock_(index.mutex_) {
    index.require_open_unlocked();
    forest_ = index.forest_;
    cells_ = index.cells_;
    as_annoy_ = index.as_annoy_;
    if (index.builder_) {
      builder_ = &*index.builder_;  // it may grow or be cut once the lock is let go
    } else {
      lock_.unlock();
    }
  }

  const Forest* forest() const { return forest_.get(); }
  const std::shared_ptr<const Forest>& shared_forest() const { return forest_; }
  const Cells* cells() const { return cells_.get(); }

  // Only with a forest.
  SearchPlan plan(const SearchOptions& options, std::size_t n_queries, std::size_t n, std::size_t n_threads,
                  const ItemFilter* filter) const;
  std::vector<Neighbor> nearest(const void* query, std::size_t n, const SearchOptions& options,
                                const ItemFilter* filter) const;
  void nearest_batch(const char* queries, std::size_t stride, std::size_t count, std::size_t n,
                     const SearchOptions& options, std::size_t n_threads, Cancellation& cancellation, std::int64_t* ids,
                     float* distances, const ItemFilter* filter) const;

  std::int32_t n_items() const { return builder_ != nullptr ? builder_->n_items() : forest_->n_items; }

  std::int32_t checked_item(std::int64_t item) const {
    const std::int32_t n = n_items();
    if (item < 0 || item >= n) {
      throw std::out_of_range("Item index " + std::to_string(item) + " is not among the " + std::to_string(n) +
                              " items");
    }
    return static_cast<std::int32_t>(item);
  }

  std::optional<ItemFilter> filter_of(const Restriction& restriction) const {
    if (!restriction.any()) return std::nullopt;
    ItemFilter filter(restriction, n_items());
    if (forest_) filter.keep_present(*forest_);
    return filter;
  }

  // Only with a forest.
  const char* vector_of(std::int32_t id) const { return forest_->at(id) + forest_->layout.vector_offset; }

  // An item's node in the index's layout.
  void read_item(std::int32_t id, char* node) const {
    if (!forest_) {
      builder_->read_item(id, node);
    } else if (forest_->layout == layout_) {
      std::copy_n(forest_->at(id), layout_.node_size, node);
    } else {
      copy_item(forest_->node(id), layout_, node);
    }
  }

  std::vector<char> item_node(std::int64_t item) const {
    std::vector<char> node(layout_.node_size);
    read_item(checked_item(item), node.data());
    return node;
  }

  bool is_present(std::int32_t id, std::vector<char>& node) const {
    if (forest_) return forest_->node(id).n_descendants() == 1;
    node.resize(layout_.node_size);
    builder_->read_item(id, node.data());
    return NodeView(node.data(), layout_).n_descendants() == 1;
  }

 private:
  const Layout& layout_;
  std::shared_lock<IndexMutex> lock_;
  std::shared_ptr<const Forest> forest_;
  std::shared_ptr<const Cells> cells_;
  bool as_annoy_ = true;
  const ForestBuilder* builder_ = nullptr;
};

}  // namespace dask_annoy
