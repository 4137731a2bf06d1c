#include "core/build_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/row_block.hpp"

#if defined(__linux__)
#include <unistd.h>

#include <fstream>
#else
#include <sys/resource.h>
#endif

namespace dask_annoy {

namespace {

constexpr std::size_t kPlaneBytes = std::size_t{1} << 20;   // planes that stay in a second-level cache
constexpr std::size_t kNoteBytes = std::size_t{128} << 20;  // notes of which item is in which bucket
constexpr std::size_t kBlockBytes = std::size_t{1} << 20;   // rows on their way to the scratch file
constexpr std::size_t kLeastBuffer = std::size_t{8} << 10;  // of a bucket, in front of the scratch file
constexpr std::size_t kGoodBuffer = std::size_t{64} << 10;
constexpr std::size_t kScratchTrees = 2;                       // trees whose rows are in the scratch file at once
constexpr std::size_t kChoosingBytes = std::size_t{16} << 20;  // small forests that planes of dot are chosen on
constexpr double kAllowance = 1.15;                            // for what the allocator keeps
constexpr std::size_t kFixedAllowance = std::size_t{6} << 20;

// Lists and splits for each item of a tree, in nodes. Measured: a list is filled to 0.55 to 0.7 on average.
double nodes_of_item(const Layout& layout) { return 2.0 / (0.6 * layout.list_capacity); }

std::size_t times(std::size_t n, double factor) { return static_cast<std::size_t>(static_cast<double>(n) * factor); }

struct Needs {
  std::size_t sample, part, top_of_tree, notes_of_tree, buckets_of_tree;

  Needs(const BuildTask& task, const BucketPlan& plan) {
    const Layout& layout = task.layout;
    const std::size_t row = RowBlock::bytes_of_row(layout);
    sample = plan.n_sampled * row;
    if (layout.metric == Metric::dot) sample += kChoosingBytes;
    // Rows of the largest bucket, whose share of the sample is known up to chance.
    const std::size_t rows =
        plan.one_bucket() ? task.n_present : times(plan.sampled_of_bucket * (task.n_present / plan.n_sampled + 1), 1.4);
    const std::size_t grown = 2 * times(rows, nodes_of_item(layout) * static_cast<double>(layout.node_size));
    part = (plan.one_bucket() ? 0 : rows * row) + rows * 9 + grown;  // positions, sides, order
    buckets_of_tree = plan.one_bucket() ? 1 : 2 * plan.n_sampled / plan.sampled_of_bucket;
    top_of_tree = plan.one_bucket() ? 0 : 2 * buckets_of_tree * (layout.vector_bytes() + 128);
    notes_of_tree =
        plan.one_bucket() ? 0 : task.n_items * sizeof(std::uint16_t) + task.n_present * sizeof(std::int32_t);
  }
};

std::size_t allowed_for(std::size_t bytes) { return times(bytes, kAllowance) + kFixedAllowance; }

}  // namespace

BuildArrangement arrange_build(const BuildTask& task, const BucketPlan& plan, std::size_t working_bytes) {
  const Needs needs(task, plan);
  const auto in_place = [&](std::size_t n_trees, std::size_t n_threads) {
    const std::size_t mapped = task.on_disk && !plan.one_bucket() ? task.n_items * task.layout.node_size : 0;
    return mapped +
           allowed_for(needs.sample + n_threads * needs.part + n_trees * (needs.top_of_tree + needs.notes_of_tree));
  };
  // The buffers are gone before parts are grown.
  const auto to_scratch = [&](std::size_t n_trees, std::size_t n_threads, std::size_t buffer) {
    const std::size_t routing = n_trees * needs.buckets_of_tree * buffer + n_threads * kBlockBytes;
    return allowed_for(needs.sample + n_trees * needs.top_of_tree + std::max(routing, n_threads * needs.part));
  };
  std::size_t together = task.n_trees;
  if (!plan.one_bucket()) {
    together = std::min({together, std::max<std::size_t>(1, kPlaneBytes / needs.top_of_tree),
                         std::max<std::size_t>(1, kNoteBytes / needs.notes_of_tree)});
  }
  together = std::max<std::size_t>(together, 1);
  for (std::size_t n_threads = task.n_threads; n_threads > 0; --n_threads) {
    for (std::size_t n_trees = together; n_trees > 0; n_trees = plan.one_bucket() ? 0 : n_trees / 2) {
      const std::size_t bytes = in_place(n_trees, n_threads);
      if (bytes <= working_bytes) return {n_threads, n_trees, true, 0, bytes};
    }
    if (!task.on_disk || plan.one_bucket()) continue;
    for (std::size_t n_trees = std::min(kScratchTrees, task.n_trees); n_trees > 0; --n_trees) {
      for (std::size_t buffer = kGoodBuffer; buffer >= kLeastBuffer; buffer /= 2) {
        const std::size_t bytes = to_scratch(n_trees, n_threads, buffer);
        if (bytes <= working_bytes) {
          return {n_threads, n_trees, false, n_trees * needs.buckets_of_tree * buffer, bytes};
        }
      }
    }
  }
  std::size_t least = in_place(1, 1);
  if (task.on_disk && !plan.one_bucket()) least = std::min(least, to_scratch(1, 1, kLeastBuffer));
  throw std::invalid_argument("this build needs at least " + std::to_string((least >> 20) + 1) + " MiB of memory" +
                              (task.on_disk ? "" : " beside its items, or on_disk_build()") + ", but " +
                              std::to_string(working_bytes >> 20) + " MiB are left of the bound");
}

std::size_t expected_file_bytes(const Layout& layout, std::size_t n_items, std::size_t n_trees) {
  const auto capacity = static_cast<std::size_t>(layout.list_capacity);
  const std::size_t nodes_of_tree = n_items <= capacity ? 1 : 1 + times(n_items, nodes_of_item(layout));
  return layout.node_size * (n_items + n_trees * (nodes_of_tree + 1));
}

std::size_t resident_bytes() {
#if defined(__linux__)
  std::ifstream statm("/proc/self/statm");
  std::size_t all = 0;
  std::size_t resident = 0;
  if (statm >> all >> resident) return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return 0;
#else
  struct rusage usage{};
  getrusage(RUSAGE_SELF, &usage);  // the most there ever was
  return static_cast<std::size_t>(usage.ru_maxrss);
#endif
}

}  // namespace dask_annoy
