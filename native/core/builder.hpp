// Collects items and grows a forest over them, in memory or in a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <shared_mutex>
#include <vector>

#include "core/build_memory.hpp"
#include "core/forest.hpp"
#include "core/item_set.hpp"
#include "core/node_storage.hpp"
#include "core/parallel.hpp"
#include "core/row_block.hpp"
#include "core/top_trees.hpp"
#include "core/tree_writer.hpp"

namespace dask_annoy {

// See dot_planes.hpp.
enum class DotPlanes : std::uint8_t { chosen, lifted, plain };

struct BuildSettings {
  int n_trees = -1;  // −1: as many as take the room of the items
  std::uint64_t seed = 0;
  std::size_t n_threads = 1;
  std::size_t working_bytes = kUnlimited;  // bound on the memory that the build takes beside its storage
  DotPlanes dot_planes = DotPlanes::chosen;
};

class ForestBuilder {
 public:
  ForestBuilder(const Layout& layout, std::shared_ptr<NodeStorage> storage);

  std::int32_t n_items() const { return items_.size(); }

  // Puts vectors (floats, or words of bits) under the numbers ids[i], or first, first + 1 … when ids is null.
  // Numbers may leave holes; a number given again replaces its vector.
  void add(const char* vectors, std::size_t stride, std::size_t count, std::int32_t first, const std::int64_t* ids);

  const ItemSet& items() const { return items_; }
  void read_item(std::int32_t id, char* node) const;

  // Grows trees. Tree t is seeded by (seed, t); neither threads nor the memory bound change a byte.
  Forest build(const BuildSettings& settings, Cancellation& cancellation);

  // Cuts the trees off again.
  void unbuild();

  // Numbers the items anew: i becomes what order[i] was. `order` holds every number once, and there are no holes.
  void reorder(const std::vector<std::int32_t>& order);

 private:
  template <class IdOf>
  void write_items(const char* vectors, std::size_t stride, std::size_t count, const IdOf& id_of);
  PlaneFamily family_for(const BuildSettings& settings, Cancellation& cancellation);
  float lift_items(Cancellation& cancellation);
  void read_rows(const std::vector<std::int32_t>& numbers, RowBlock& rows) const;
  void grow(const BuildSettings& settings, const BuildArrangement& arrangement, const PlaneFamily& family,
            const BucketPlan& plan, const RowBlock& sample, TreeWriter& writer, std::shared_mutex& moving,
            Cancellation& cancellation) const;

  Layout layout_;
  std::shared_ptr<NodeStorage> storage_;
  ItemSet items_;
};

}  // namespace dask_annoy
