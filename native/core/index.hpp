// The index as Annoy's users know it: add, build, save or load, ask. Safe to use from several threads: queries run
// side by side, whatever changes the index waits for them and runs alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "core/builder.hpp"
#include "core/forest.hpp"
#include "core/parallel.hpp"
#include "core/topk.hpp"

namespace dask_annoy {

class Index {
 public:
  static constexpr std::uint64_t kDefaultSeed = 1234567890987654321u;  // Annoy's

  Index(Metric metric, std::size_t width);

  const Layout& layout() const { return layout_; }
  std::int32_t n_items() const;
  std::size_t n_trees() const;
  bool is_built() const;

  void set_seed(std::uint64_t seed);

  // From now on items go to this file, which also becomes the saved index. Before any item.
  void on_disk_build(const std::string& path);

  // See ForestBuilder::add. StateError once the index is built or loaded.
  void add(const char* vectors, std::size_t stride, std::size_t count, const std::int64_t* ids);
  // Returns the first number given.
  std::int32_t add_after_last(const char* vectors, std::size_t stride, std::size_t count);

  void build(int n_trees, int n_jobs, Cancellation& cancellation);
  void unbuild();

  // Writes a file that Annoy reads, and goes on from that file, as Annoy does. The file appears whole or not at all.
  void save(const std::string& path, bool prefault);
  void load(const std::string& path, bool prefault);
  void unload();

  // `search_k` as in search(). An index without trees answers with nothing.
  std::vector<Neighbor> nearest(const void* query, std::size_t n, std::int64_t search_k) const;
  std::vector<Neighbor> nearest_to_item(std::int64_t item, std::size_t n, std::int64_t search_k) const;
  void nearest_batch(const char* queries, std::size_t stride, std::size_t count, std::size_t n, std::int64_t search_k,
                     int n_jobs, Cancellation& cancellation, std::int64_t* ids, float* distances) const;
  void nearest_to_items(const std::int64_t* items, std::size_t count, std::size_t n, std::int64_t search_k, int n_jobs,
                        Cancellation& cancellation, std::int64_t* ids, float* distances) const;

  // See search.hpp. StateError without trees.
  void budgets_to_find(const char* queries, std::size_t stride, std::size_t count, const std::int64_t* targets,
                       std::size_t n_targets, int n_jobs, Cancellation& cancellation, std::int64_t* budgets) const;

  // The item's node; zeros for a hole. std::out_of_range for a number that is no item's.
  std::vector<char> item_node(std::int64_t item) const;
  float distance(std::int64_t a, std::int64_t b) const;  // in compared form

 private:
  std::int32_t checked_item(std::int64_t item) const;
  std::int32_t n_items_unlocked() const;
  void require_growing(const char* what) const;
  void reset();

  const Layout layout_;
  mutable std::shared_mutex mutex_;
  std::uint64_t seed_ = kDefaultSeed;
  std::optional<ForestBuilder> builder_;  // absent while a file is loaded
  std::shared_ptr<const Forest> forest_;  // present once built or loaded
  std::string disk_path_;                 // of an on-disk build
};

}  // namespace dask_annoy
