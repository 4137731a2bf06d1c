#include "core/build_memory.hpp"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/fixed_point.hpp"
#include "core/row_block.hpp"
#include "core/tree_writer.hpp"

#if defined(__linux__)
#include <unistd.h>

#include <fstream>
#else
#include <sys/resource.h>
#endif

namespace dask_annoy {

namespace {

constexpr std::size_t kPlaneBytes = std::size_t{4} << 20;      // planes of trees whose first levels are kept at once
constexpr std::size_t kNoteBytes = std::size_t{128} << 20;     // notes of which item is in which bucket; and not more
constexpr std::size_t kNotesOfItems = 4;                       // than this part of the items' bytes
constexpr std::size_t kBlockBytes = std::size_t{1} << 20;      // items on their way to a file
constexpr std::size_t kBytesOfRouting = std::size_t{3} << 19;  // a block, and what says where its rows go
constexpr std::size_t kLeastBuffer = std::size_t{8} << 10;     // of a bucket, in front of the scratch file
constexpr std::size_t kGoodBuffer = std::size_t{64} << 10;
constexpr std::size_t kScratchTrees = 2;                      // trees whose rows are in the scratch file at once
constexpr std::size_t kChoosingBytes = std::size_t{8} << 20;  // small forests that planes of dot are chosen on
constexpr std::size_t kMostTrees = 1024;  // more at once gain nothing, and what is kept for each adds up
constexpr std::size_t kUnknownTrees = 4;  // at once, where it is not known how many there will be
constexpr double kAllowance = 1.25;       // for what the allocator keeps
constexpr double kTreeAllowance = 1.1;    // for data that fills lists less
constexpr std::size_t kFixedAllowance = std::size_t{4} << 20;

// Lists and splits for each item of a tree, in nodes: two for a list, which is filled in part. Measured on real and on
// random rows: to 0.49 (text256, dot) up to 0.76 (width 2), and less where directions are compared.
double nodes_of_item(const Layout& layout) {
  const double capacity = layout.list_capacity;
  double filled = 0.0;
  switch (layout.metric) {
    case Metric::angular:
    case Metric::dot:
      filled = 0.62 * capacity + 0.5;
      break;
    case Metric::euclidean:
    case Metric::manhattan:
      filled = 0.69 * capacity + 0.25;
      break;
    case Metric::hamming:
      filled = 0.63 * capacity + 0.35;
      break;
  }
  return 2.0 / filled;
}

std::size_t times(std::size_t n, double factor) { return static_cast<std::size_t>(static_cast<double>(n) * factor); }

struct Needs {
  std::size_t sample, part, part_of_integers, integers, top_of_tree, notes_of_tree, buckets_of_tree;

  Needs(const BuildTask& task, const BucketPlan& plan) {
    const Layout& layout = task.layout;
    const std::size_t row = RowBlock::bytes_of_row(layout);
    sample = plan.n_sampled * row;
    if (layout.metric == Metric::dot) sample += kChoosingBytes;
    // Rows of the largest bucket, whose share of the sample is known up to chance.
    const std::size_t rows =
        plan.one_bucket() ? task.n_present : times(plan.sampled_of_bucket * (task.n_present / plan.n_sampled + 1), 1.3);
    const std::size_t grown = 2 * times(rows, nodes_of_item(layout) * static_cast<double>(layout.node_size));
    part_of_integers = rows * 9 + grown + kPartsWaiting * grown / 2;  // positions, sides, order; without the rows yet
    part = part_of_integers + (plan.one_bucket() ? 0 : rows * row);
    // Whether planes of dot have an extra dimension is known only once the items are.
    const PlaneFamily family{layout, layout.metric == Metric::dot ? 1.0f : 0.0f};
    const std::size_t integers_of_item = FixedPoint::serves(family) ? FixedPoint::bytes_of_row(family) : 0;
    part_of_integers += rows * RowBlock::bytes_of_chosen(integers_of_item);
    // Who builds on disk does so to hold little of the items.
    integers = plan.one_bucket() || task.on_disk ? 0 : task.n_items * integers_of_item;
    buckets_of_tree = plan.one_bucket() ? 1 : 2 * plan.n_sampled / plan.sampled_of_bucket;
    top_of_tree = plan.one_bucket() ? 0 : 2 * buckets_of_tree * (layout.vector_bytes() + integers_of_item + 128);
    notes_of_tree =
        plan.one_bucket() ? 0 : task.n_items * sizeof(std::uint16_t) + task.n_present * sizeof(std::int32_t);
  }
};

std::string mebibytes_up(std::size_t bytes) { return std::to_string((bytes >> 20) + 1); }

std::size_t allowed_for(std::size_t bytes) { return times(bytes, kAllowance) + kFixedAllowance; }

std::size_t bytes_in_place(const BuildTask& task, const BucketPlan& plan, const Needs& needs, std::size_t n_trees,
                           std::size_t n_threads, bool fixed_point) {
  const std::size_t mapped = task.on_disk && !plan.one_bucket() ? task.n_items * task.layout.node_size : 0;
  const std::size_t parts = n_threads * (fixed_point ? needs.part_of_integers : needs.part);
  return mapped + (fixed_point ? needs.integers : 0) +
         allowed_for(needs.sample + parts + n_trees * (needs.top_of_tree + needs.notes_of_tree));
}

// The buffers are gone before parts are grown.
std::size_t bytes_by_scratch(const Needs& needs, std::size_t n_trees, std::size_t n_threads, std::size_t buffer) {
  const std::size_t routing = n_trees * needs.buckets_of_tree * buffer + n_threads * kBytesOfRouting;
  return allowed_for(needs.sample + n_trees * needs.top_of_tree + std::max(routing, n_threads * needs.part));
}

bool may_use_scratch(const BuildTask& task, const BucketPlan& plan) { return task.on_disk && !plan.one_bucket(); }

}  // namespace

void require_tree_count(int n_trees) {
  if (n_trees >= 1 || n_trees == -1) return;
  throw std::invalid_argument(
      "n_trees must be a positive number of trees, or -1 for as many as take the room of the items; got " +
      std::to_string(n_trees));
}

std::size_t trees_at_once(int n_trees, std::size_t n_threads) {
  if (n_trees == -1) return std::max(n_threads, kUnknownTrees);
  return std::min(static_cast<std::size_t>(n_trees), std::max(n_threads, kMostTrees));
}

std::size_t least_working_bytes(const BuildTask& task, const BucketPlan& plan) {
  const Needs needs(task, plan);
  const std::size_t least = bytes_in_place(task, plan, needs, 1, 1, false);
  return may_use_scratch(task, plan) ? std::min(least, bytes_by_scratch(needs, 1, 1, kLeastBuffer)) : least;
}

BuildArrangement arrange_build(const BuildTask& task, const BucketPlan& plan, std::size_t working_bytes) {
  const Needs needs(task, plan);
  std::size_t together = task.n_trees;
  if (!plan.one_bucket()) {
    const std::size_t noted = std::min(kNoteBytes, task.n_items * task.layout.node_size / kNotesOfItems);
    together = std::min({together, std::max<std::size_t>(1, kPlaneBytes / needs.top_of_tree),
                         std::max(task.n_threads, noted / needs.notes_of_tree)});
  }
  together = std::max<std::size_t>(together, 1);
  for (std::size_t n_threads = task.n_threads; n_threads > 0; --n_threads) {
    for (const bool fixed_point : {true, false}) {
      if (fixed_point && needs.integers == 0) continue;
      for (std::size_t n_trees = together; n_trees > 0; n_trees = plan.one_bucket() ? 0 : n_trees / 2) {
        const std::size_t bytes = bytes_in_place(task, plan, needs, n_trees, n_threads, fixed_point);
        if (bytes <= working_bytes) return {n_threads, n_trees, true, fixed_point, 0, bytes};
      }
    }
    if (!may_use_scratch(task, plan)) continue;
    for (std::size_t n_trees = std::min(kScratchTrees, task.n_trees); n_trees > 0; --n_trees) {
      for (std::size_t buffer = kGoodBuffer; buffer >= kLeastBuffer; buffer /= 2) {
        const std::size_t bytes = bytes_by_scratch(needs, n_trees, n_threads, buffer);
        if (bytes <= working_bytes) {
          return {n_threads, n_trees, false, false, n_trees * needs.buckets_of_tree * buffer, bytes};
        }
      }
    }
  }
  throw std::invalid_argument("this build needs at least " + mebibytes_up(least_working_bytes(task, plan)) +
                              " MiB of memory" + (task.on_disk ? "" : " beside its items, or on_disk_build()") +
                              ", but " + std::to_string(working_bytes >> 20) + " MiB are left of the bound");
}

std::size_t expected_file_bytes(const Layout& layout, std::size_t n_items, int n_trees) {
  if (n_trees < 1) return 2 * n_items * layout.node_size;
  const auto capacity = static_cast<std::size_t>(layout.list_capacity);
  const std::size_t nodes_of_tree = n_items <= capacity ? 1 : 1 + times(n_items, nodes_of_item(layout));
  return layout.node_size * (n_items + static_cast<std::size_t>(n_trees) * (nodes_of_tree + 1));
}

std::size_t tree_memory(const Layout& layout, std::size_t n_items, int n_trees) {
  return times(expected_file_bytes(layout, n_items, n_trees) - n_items * layout.node_size, kTreeAllowance);
}

BuildEstimate estimate_build(const Layout& layout, std::size_t n_items, int n_trees, std::size_t n_threads,
                             bool on_disk, std::size_t memory_limit, std::size_t resident) {
  require_tree_count(n_trees);
  if (static_cast<double>(n_items) +
          std::max(n_trees, 1) * (static_cast<double>(n_items) * nodes_of_item(layout) + 2.0) >
      static_cast<double>(std::numeric_limits<std::int32_t>::max())) {
    throw std::invalid_argument("a forest of " + std::to_string(n_trees) + " trees over " + std::to_string(n_items) +
                                " items would have more than 2^31 - 1 nodes, which Annoy's files cannot count; build "
                                "fewer trees or several indexes");
  }
  const BucketPlan plan = BucketPlan::of(layout, n_items);
  const BuildTask task{layout, n_items, n_items, trees_at_once(n_trees, n_threads), n_threads, on_disk};
  const std::size_t items = n_items * layout.node_size;
  BuildEstimate estimate{};
  estimate.file_bytes = expected_file_bytes(layout, n_items, n_trees);
  // Which items there are is noted in a bit each; a block of items is on its way to the file.
  std::size_t held = n_items / 8 + kBlockBytes;
  if (!on_disk) held += items + tree_memory(layout, n_items, n_trees);
  std::size_t working = kUnlimited;
  if (memory_limit != kUnlimited) working = memory_limit > resident + held ? memory_limit - resident - held : 0;
  const BuildArrangement arrangement = arrange_build(task, plan, working);
  estimate.memory_bytes = held + arrangement.bytes;
  estimate.least_limit = resident + held + least_working_bytes(task, plan);
  if (!arrangement.in_place) {
    // The last chunk of a bucket is written whole.
    estimate.scratch_bytes =
        std::min<std::size_t>(arrangement.n_trees, task.n_trees) * items + arrangement.buffer_bytes;
  }
  return estimate;
}

#if defined(__linux__)
namespace {

// The number at a place of /proc/self/statm, in bytes.
std::size_t bytes_of_statm(int place) {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  for (int i = 0; i <= place; ++i) statm >> pages;
  return statm ? pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) : 0;
}

}  // namespace
#endif

std::size_t resident_bytes() {
#if defined(__linux__)
  return bytes_of_statm(1);
#else
  struct rusage usage{};
  getrusage(RUSAGE_SELF, &usage);  // the most there ever was
  return static_cast<std::size_t>(usage.ru_maxrss);
#endif
}

std::size_t resident_file_bytes() {
#if defined(__linux__)
  return bytes_of_statm(2);
#else
  return 0;
#endif
}

}  // namespace dask_annoy
