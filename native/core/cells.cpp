#include "core/cells.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace dask_annoy {

namespace {

// A query at recall 0.9 ranks all n / size means and scores some 150 cells.
constexpr double kCellsScored = 150.0;
// Smaller cells than three blocks waste too much of their last one.
constexpr double kSmallest = 48.0;
constexpr double kLargest = 192.0;
// Narrower vectors have neighbours that four bits a dimension confuse.
constexpr std::size_t kWidthForNibbles = 64;

}  // namespace

int code_bits_of(const Layout& layout, const CellSettings& settings) {
  if (settings.code_bits == 0) return 0;
  if (is_binary(layout.metric)) return 8;
  if (settings.code_bits != CellSettings::kBestCodes) return settings.code_bits;
  return layout.width >= kWidthForNibbles ? 4 : 8;
}

// A smaller cell is a better guess at where neighbours are, a larger one costs fewer means to rank. What is spent is
// n / size * mean + 150 * size * item, least at size = sqrt(n / 150 * mean / item). In a batch both are arithmetic on
// the same number of dimensions. Where queries are too few to share cells, both are reading: a byte a dimension of a
// mean (a bit for hamming), and as much or half as much of an item.
std::size_t best_n_cells(const Layout& layout, std::size_t n_items, const CellSettings& settings) {
  const auto n = static_cast<double>(n_items);
  const int bits = code_bits_of(layout, settings);
  double mean_to_item = 1.0;
  if (static_cast<double>(settings.batch_size) * kCellsScored * kSmallest < n && !is_binary(layout.metric)) {
    mean_to_item = bits == 0 ? 0.25 : 8.0 / bits;  // without codes the vectors are read
  }
  const double size = std::clamp(std::sqrt(n / kCellsScored * mean_to_item), kSmallest, kLargest);
  return std::max<std::size_t>(1, static_cast<std::size_t>(n / size));
}

std::size_t expected_cells_bytes(const Layout& layout, std::size_t n_items) {
  if (n_items == 0) return 0;
  const auto n_cells = static_cast<double>(best_n_cells(layout, n_items, {}));
  const auto bytes = [&](int bits) { return static_cast<double>(Coder::bytes_of(layout, bits) + 4); };
  const double blocks = static_cast<double>(n_items) / static_cast<double>(kItemsOfBlock) + n_cells / 2.0;
  const double codes = blocks * static_cast<double>(kItemsOfBlock) * bytes(code_bits_of(layout, {}));
  return static_cast<std::size_t>(codes + n_cells * bytes(8) + 4.0 * static_cast<double>(n_items) + 12.0 * n_cells);
}

std::size_t cells_memory(const Layout& layout, std::size_t n_items, const CellSettings& settings) {
  constexpr std::size_t kOfItem = 26;  // its number and its cell, by leaf and by cell; its bias
  const std::size_t n_cells = settings.n_cells > 0 ? settings.n_cells : best_n_cells(layout, n_items, settings);
  const std::size_t sample =
      is_binary(layout.metric) ? 0 : std::min(n_items, kLearntFrom) * layout.width * sizeof(float);
  const std::size_t means = n_cells * layout.width * (2 * sizeof(float) + 1);
  const int bits = code_bits_of(layout, settings);
  const bool in_memory = bits != 0 && settings.scratch_beside.empty();
  const std::size_t codes = in_memory ? (n_items + n_cells * kItemsOfBlock / 2) * Coder::bytes_of(layout, bits) : 0;
  return n_items * kOfItem + sample + means + codes;
}

CellSettings within_memory(const Forest& forest, CellSettings settings, std::size_t memory_limit,
                           std::size_t resident) {
  constexpr std::size_t kBeyond = std::size_t{12} << 20;   // that the system maps without being asked
  constexpr std::size_t kOfThread = std::size_t{6} << 20;  // got between two looks at the bound, and what it holds
  if (forest.file) settings.scratch_beside = forest.file->path;
  const auto n_items = static_cast<std::size_t>(forest.n_items);
  const std::size_t least = resident + cells_memory(forest.layout, n_items, settings) + settings.n_threads * kOfThread +
                            (forest.mapping ? kBeyond : 0);
  if (memory_limit < least) {
    throw std::invalid_argument("memory_limit is " + std::to_string(memory_limit) + " bytes, but cells need at least " +
                                std::to_string(least) + ", of which the process has " + std::to_string(resident) +
                                " already");
  }
  settings.resident_bytes = memory_limit - least;
  return settings;
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
