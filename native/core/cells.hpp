// Cells: a partition of a forest's items into neighbourhoods, each with its mean, so that a search scores the items of
// the nearest cells side by side instead of reading scattered candidates. They begin as the leaves of a tree and are
// refined by moving every item to the cell of the nearest mean; the forest stays as it is.
//
// Cells whose means are near each other form groups. Items are numbered by place: cell after cell, within a cell by
// item number. Codes of items, if there are any, lie in that order, every cell from the start of a block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/coder.hpp"
#include "core/forest.hpp"
#include "core/parallel.hpp"

namespace dask_annoy {

struct Cells {
  explicit Cells(Coder coder_) : coder(std::move(coder_)), means(coder.groups()), groups(coder.groups()) {}

  Coder coder;

  std::vector<std::uint32_t> starts;        // by cell: the place of its first item; then the number of items
  std::vector<std::int32_t> items;          // by place
  CodeBlocks means;                         // by cell
  std::vector<float> mean_biases;           // likewise, infinite for what fills up the last block
  std::vector<std::uint32_t> group_starts;  // by group: its first cell; then the number of cells
  CodeBlocks groups;                        // means of groups
  std::vector<float> group_biases;

  bool has_codes = false;
  std::vector<std::uint32_t> block_starts;  // by cell: its first block; then the number of blocks
  CodeBlocks codes{0};
  std::vector<float> biases;  // by place in the blocks

  std::shared_ptr<const Mapping> mapping;  // that codes and means are of, if of any

  std::size_t n_cells() const { return starts.empty() ? 0 : starts.size() - 1; }
  std::size_t n_groups() const { return group_starts.empty() ? 0 : group_starts.size() - 1; }
  std::size_t n_items() const { return items.size(); }
  std::size_t size_of(std::size_t cell) const { return starts[cell + 1] - starts[cell]; }
  std::size_t blocks_of(std::size_t cell) const { return block_starts[cell + 1] - block_starts[cell]; }

  // Lays out block_starts for cells of these sizes.
  void place_blocks();
};

struct CellSettings {
  std::size_t n_cells = 0;  // about; 0 chooses by the number of items
  bool with_codes = true;
  std::size_t n_threads = 1;
};

// How many cells serve n items best: see the cost model in cells.cpp.
std::size_t best_n_cells(std::size_t n_items);

// Bytes of the file of cells, chosen by their number, over a forest without holes, about.
std::size_t expected_cells_bytes(const Layout& layout, std::size_t n_items);

// Depends on the forest and the settings, not on the number of threads.
Cells build_cells(const Forest& forest, const CellSettings& settings, Cancellation& cancellation);

}  // namespace dask_annoy
