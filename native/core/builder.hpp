// Collects items and grows a forest over them, in memory or in a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/forest.hpp"
#include "core/node_storage.hpp"
#include "core/parallel.hpp"
#include "core/tree.hpp"

namespace dask_annoy {

class ForestBuilder {
 public:
  ForestBuilder(const Layout& layout, std::shared_ptr<NodeStorage> storage);

  std::int32_t n_items() const { return n_items_; }

  // Puts vectors (floats, or words of bits) under the numbers ids[i], or first, first + 1 … when ids is null.
  // Numbers may leave holes; a number given again replaces its vector.
  void add(const char* vectors, std::size_t stride, std::size_t count, std::int32_t first, const std::int64_t* ids);

  void read_item(std::int32_t id, char* node) const;

  // Appends trees: `n_trees` of them, or with −1 as many as take the room of the items. Tree t is seeded by
  // (seed, t), so the bytes do not depend on the number of threads.
  Forest build(int n_trees, std::uint64_t seed, std::size_t n_threads, Cancellation& cancellation);

  // Cuts the trees off again.
  void unbuild();

 private:
  template <class IdOf>
  void write_items(const char* vectors, std::size_t stride, std::size_t count, const IdOf& id_of);
  float prepare_dot();
  std::vector<std::int32_t> present_items(const char* nodes) const;
  void require_room(std::size_t n_nodes) const;
  void append(const Tree& tree);

  Layout layout_;
  std::shared_ptr<NodeStorage> storage_;
  std::int32_t n_items_ = 0;
  std::size_t n_tree_nodes_ = 0;
};

}  // namespace dask_annoy
