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
  std::size_t buffer_bytes;  // of the scratch file
  std::size_t bytes;         // taken beside the storage, at the most
};

struct BuildTask {
  Layout layout;
  std::size_t n_present;  // items
  std::size_t n_items;    // with holes
  std::size_t n_trees;    // most that are worth keeping at once
  std::size_t n_threads;
  bool on_disk;  // the items are in a file: reading them in place maps it
};

// The fastest arrangement that keeps to `working_bytes`. Throws std::invalid_argument naming the least that will do.
BuildArrangement arrange_build(const BuildTask& task, const BucketPlan& plan, std::size_t working_bytes);

// Bytes of the file of a forest like that, about: what splits leave in a list differs with the data.
std::size_t expected_file_bytes(const Layout& layout, std::size_t n_items, std::size_t n_trees);

// Resident memory of this process.
std::size_t resident_bytes();

}  // namespace dask_annoy
