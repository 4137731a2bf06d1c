#include "core/cells.hpp"

#include <algorithm>
#include <cmath>

namespace dask_annoy {

namespace {

// Items of a cell. A smaller cell is a better guess at where neighbours are, a larger one costs fewer means to rank.
// A query at recall 0.9 ranks all n / size means and scores some 150 cells: both cost the same near sqrt(n / 150),
// which is 36 for 200,000 items. Cells of fewer than three blocks waste too much of their last one.
constexpr double kCellsScored = 150.0;
constexpr double kSmallest = 48.0;
constexpr double kLargest = 192.0;

}  // namespace

std::size_t best_n_cells(std::size_t n_items) {
  const auto n = static_cast<double>(n_items);
  const double size = std::clamp(std::sqrt(n / kCellsScored), kSmallest, kLargest);
  return std::max<std::size_t>(1, static_cast<std::size_t>(n / size));
}

std::size_t expected_cells_bytes(const Layout& layout, std::size_t n_items) {
  if (n_items == 0) return 0;
  const std::size_t bytes_of_item = Coder(layout, {}, {}).bytes();
  const auto n_cells = static_cast<double>(best_n_cells(n_items));
  const double blocks = static_cast<double>(n_items) / static_cast<double>(kItemsOfBlock) + n_cells / 2.0;
  const double codes = (blocks * static_cast<double>(kItemsOfBlock) + n_cells) * static_cast<double>(bytes_of_item + 4);
  return static_cast<std::size_t>(codes + 4.0 * static_cast<double>(n_items) + 12.0 * n_cells);
}

void Cells::place_blocks() {
  block_starts.resize(n_cells() + 1);
  std::uint32_t block = 0;
  for (std::size_t cell = 0; cell < n_cells(); ++cell) {
    block_starts[cell] = block;
    block += static_cast<std::uint32_t>((size_of(cell) + kItemsOfBlock - 1) / kItemsOfBlock);
  }
  block_starts[n_cells()] = block;
}

}  // namespace dask_annoy
