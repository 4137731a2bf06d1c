// What a build takes of memory, and how it is arranged to keep to a bound.
#pragma once

#include <cstddef>
#include <limits>

#include "core/layout.hpp"
#include "core/top_trees.hpp"

namespace dask_annoy {

constexpr std::size_t kUnlimited = std::numeric_limits<std::size_t>::max();

// How the trees of a build are grown. Nothing of it changes a byte of them.
struct BuildArrangement {
  std::size_t n_threads;     // growing parts side by side
  std::size_t n_trees;       // whose first levels are kept at once
  bool in_place;             // items are read where they lie; else by way of a scratch file
  bool fixed_point;          // items are kept as integers, too
  std::size_t buffer_bytes;  // of the scratch file
  std::size_t bytes;         // taken beside the storage, at the most
};

struct BuildTask {
  Layout layout;
  std::size_t n_present;  // items
  std::size_t n_items;    // with holes
  std::size_t n_trees;    // most that are worth keeping at once; see trees_at_once()
  std::size_t n_threads;
  bool on_disk;  // the items are in a file: reading them in place maps it
};

// Throws std::invalid_argument for a number of trees that makes no sense.
void require_tree_count(int n_trees);

// Trees of a build as far as they are known before it: of −1, what is worth keeping at once.
std::size_t trees_at_once(int n_trees, std::size_t n_threads);

// The fastest arrangement that keeps to `working_bytes`. Throws std::invalid_argument naming the least that will do.
BuildArrangement arrange_build(const BuildTask& task, const BucketPlan& plan, std::size_t working_bytes);

// The least `working_bytes` that arrange_build() takes.
std::size_t least_working_bytes(const BuildTask& task, const BucketPlan& plan);

// Bytes of the file of a forest like that, about: what splits leave in a list differs with the data. −1 trees: as many
// as take the room of the items.
std::size_t expected_file_bytes(const Layout& layout, std::size_t n_items, int n_trees);

// Memory to set aside for the trees of a forest in memory.
std::size_t tree_memory(const Layout& layout, std::size_t n_items, int n_trees);

// What a build will take, about.
struct BuildEstimate {
  std::size_t file_bytes;
  std::size_t memory_bytes;   // that the process grows by, from before the first item to the end of the build
  std::size_t least_limit;    // the least memory_limit that it keeps to, in a process that has as much as this one now
  std::size_t scratch_bytes;  // of the file system
};

// Of items without holes, to be added to a process of `resident` bytes. Throws as arrange_build() does, and for forests
// that Annoy's files cannot hold.
BuildEstimate estimate_build(const Layout& layout, std::size_t n_items, int n_trees, std::size_t n_threads,
                             bool on_disk, std::size_t memory_limit, std::size_t resident);

// Resident memory of this process.
std::size_t resident_bytes();

// Of it, pages of files and what processes share. 0 where the system does not tell.
std::size_t resident_file_bytes();

}  // namespace dask_annoy
