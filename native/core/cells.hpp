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
#include <string>
#include <vector>

#include "core/build_memory.hpp"
#include "core/coder.hpp"
#include "core/forest.hpp"
#include "core/parallel.hpp"

namespace dask_annoy {

// With as many cells or more, a query is compared with the cells of the nearest groups only. With fewer all means are
// scored in less time than choosing takes.
constexpr std::size_t kCellsForGroups = 16384;

// Items whose values tell the ranges of codes.
constexpr std::size_t kLearntFrom = std::size_t{1} << 14;

struct Cells {
  Cells(Coder coder_, Coder item_coder_)
      : coder(std::move(coder_)),
        item_coder(std::move(item_coder_)),
        means(coder.groups()),
        groups(coder.groups()),
        codes(item_coder.groups()) {}

  Coder coder;       // of means
  Coder item_coder;  // the same, or one of half a byte

  std::vector<std::uint32_t> starts;        // by cell: the place of its first item; then the number of items
  std::vector<std::int32_t> items;          // by place; none where items are numbered by place
  CodeBlocks means;                         // by cell
  std::vector<float> mean_biases;           // likewise, infinite for what fills up the last block
  std::vector<std::uint32_t> group_starts;  // by group: its first cell; then the number of cells
  CodeBlocks groups;                        // means of groups
  std::vector<float> group_biases;

  bool has_codes = false;
  std::vector<std::uint32_t> block_starts;  // by cell: its first block; then the number of blocks
  CodeBlocks codes;
  std::vector<float> biases;  // by place in the blocks

  std::shared_ptr<const Mapping> mapping;  // that codes and means are of, if of any

  std::size_t n_cells() const { return starts.empty() ? 0 : starts.size() - 1; }
  std::size_t n_groups() const { return group_starts.empty() ? 0 : group_starts.size() - 1; }
  std::size_t n_items() const { return starts.empty() ? 0 : starts.back(); }
  std::int32_t item_at(std::size_t place) const {
    return items.empty() ? static_cast<std::int32_t>(place) : items[place];
  }
  bool are_ranked_by_groups() const { return n_cells() >= kCellsForGroups && n_groups() > 1; }
  std::size_t items_of_group(std::size_t group) const {
    return starts[group_starts[group + 1]] - starts[group_starts[group]];
  }
  std::size_t size_of(std::size_t cell) const { return starts[cell + 1] - starts[cell]; }
  std::size_t blocks_of(std::size_t cell) const { return block_starts[cell + 1] - block_starts[cell]; }

  // Lays out block_starts for cells of these sizes.
  void place_blocks();
};

struct CellSettings {
  static constexpr int kBestCodes = -1;

  std::size_t n_cells = 0;              // about; 0 chooses by the cost model
  int code_bits = kBestCodes;           // a dimension of an item: 8, 4, or 0 for no codes
  std::size_t batch_size = kUnlimited;  // queries that will be asked together
  std::size_t n_threads = 1;
  // About how many bytes of a mapped forest are resident at a time.
  std::size_t resident_bytes = kUnlimited;
  // In whose folder a file without a name holds the codes; empty holds them in memory.
  std::string scratch_beside;
};

// Bits of a dimension of an item's code, 0 for no codes: those that the settings ask for, or that serve best. For
// hamming, whose codes are the vectors, 8 stands for any.
int code_bits_of(const Layout& layout, const CellSettings& settings);

// How many cells serve n items best: see the cost model in cells.cpp.
std::size_t best_n_cells(const Layout& layout, std::size_t n_items, const CellSettings& settings);

// Bytes of the file of cells, as the cost model chooses them, over a forest without holes, about.
std::size_t expected_cells_bytes(const Layout& layout, std::size_t n_items);

// Memory that making cells takes, about, beside the pages of a mapped forest: codes count unless they go to a file.
std::size_t cells_memory(const Layout& layout, std::size_t n_items, const CellSettings& settings);

// Settings with which the process stays under `memory_limit` bytes, of which `resident` are taken: codes of a mapped
// forest go to a file beside it. Throws std::invalid_argument naming the least that will do.
CellSettings within_memory(const Forest& forest, CellSettings settings, std::size_t memory_limit, std::size_t resident);

// Depends on the forest and the settings, not on the number of threads or the memory bound.
Cells build_cells(const Forest& forest, const CellSettings& settings, Cancellation& cancellation);

}  // namespace dask_annoy
