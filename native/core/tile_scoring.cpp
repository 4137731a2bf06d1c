#include "core/tile_scoring.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace dask_annoy {

namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kPaddedFloats = 32;  // the kernels' virtual lanes

// Half of a first-level cache: the other half is for queries and sums.
constexpr std::size_t kTileBytes = std::size_t{1} << 15;
constexpr std::size_t kMostRows = 256;

// Norms for which products and quotients of two are far from the ends of float32, so that a bound holds.
constexpr float kLeastNorm = 1e-18f;
constexpr float kLargestNorm = 1e18f;

bool ordinary(float squared_norm) { return squared_norm >= kLeastNorm && squared_norm <= kLargestNorm; }

std::size_t rows_of_tile(const Layout& layout) {
  const std::size_t rows = kTileBytes / PackedVectors::bytes_of_vector(layout) / kRowsOfTile * kRowsOfTile;
  return std::clamp(rows, kRowsOfTile, kMostRows);
}

// What sum * scale must not exceed, so that no distance up to `limit` is missed: distances are rounded, so the bounds
// on squares and cosines leave a few units in the last place.
float limit_of_sums(Metric metric, float limit, float squared_norm) {
  const double bound = limit;
  switch (metric) {
    case Metric::angular: {
      if (!ordinary(squared_norm)) return std::numeric_limits<float>::infinity();
      const double cosine = 1.0 - bound * bound / 2.0 - 4e-6 * (1.0 + bound * bound);
      return static_cast<float>(-cosine * std::sqrt(static_cast<double>(squared_norm)));
    }
    case Metric::euclidean:
      return static_cast<float>(bound * bound * (1.0 + 1e-6) + 1e-37);
    case Metric::manhattan:
    case Metric::hamming:
    case Metric::dot:
      return limit;
  }
  return limit;
}

}  // namespace

std::size_t PackedVectors::bytes_of_vector(const Layout& layout) {
  if (is_binary(layout.metric)) return layout.words * sizeof(std::uint64_t);
  return (layout.width + kPaddedFloats - 1) / kPaddedFloats * kPaddedFloats * sizeof(float);
}

PackedVectors::PackedVectors(const Layout& layout, std::size_t capacity)
    : bytes_(layout.vector_bytes()),
      stride_(bytes_of_vector(layout)),
      aligned_(0),
      vectors_(new std::uint8_t[capacity * stride_ + kCacheLine]()) {
  const std::size_t over = reinterpret_cast<std::uintptr_t>(vectors_.get()) % kCacheLine;
  aligned_ = over == 0 ? 0 : kCacheLine - over;
}

void PackedVectors::put(std::size_t i, const void* vector) { std::memcpy(data() + i * stride_, vector, bytes_); }

PackedQueries::PackedQueries(const Layout& layout, const char* queries, std::size_t stride, std::size_t count)
    : count_(count), vectors_(layout, count) {
  for (std::size_t q = 0; q < count; ++q) vectors_.put(q, queries + q * stride);
  if (!stores_norm(layout.metric)) return;
  for (std::size_t q = 0; q < count; ++q) {
    squared_norms_.push_back(Query::of(layout, vectors_.floats(q)).squared_norm);
  }
}

RowTile::RowTile(const Layout& layout)
    : layout_(layout),
      groups_(2 * layout.words),
      capacity_(rows_of_tile(layout)),
      vectors_(layout, is_binary(layout.metric) ? 0 : capacity_),
      blocks_(is_binary(layout.metric) ? capacity_ * PackedVectors::bytes_of_vector(layout) : 0),
      squared_norms_(capacity_),
      scales_(capacity_, layout.metric == Metric::dot ? -1.0f : 1.0f) {
  numbers_.reserve(capacity_);
}

void RowTile::add(const void* vector, std::int64_t number) {
  const float norm = stores_norm(layout_.metric) ? Query::of(layout_, vector).squared_norm : 0.0f;
  add(vector, number, norm);
}

void RowTile::add(const NodeView& item, std::int32_t number) {
  float norm = stores_norm(layout_.metric) ? item.scalar() : 0.0f;
  // Some writers leave the norm out: see score_nodes.
  if (stores_norm(layout_.metric) && norm == 0.0f) norm = Query::of(layout_, item.vector()).squared_norm;
  add(item.vector(), number, norm);
}

void RowTile::add(const void* vector, std::int64_t number, float squared_norm) {
  const std::size_t at = numbers_.size();
  numbers_.push_back(number);
  if (is_binary(layout_.metric)) {
    constexpr std::size_t kWord = sizeof(std::uint32_t);
    std::uint8_t* word =
        blocks_.data() + at / kItemsOfBlock * groups_ * kWord * kItemsOfBlock + at % kItemsOfBlock * kWord;
    for (std::size_t g = 0; g < groups_; ++g) {
      std::memcpy(word + g * kWord * kItemsOfBlock, static_cast<const char*>(vector) + g * kWord, kWord);
    }
    return;
  }
  vectors_.put(at, vector);
  if (!stores_norm(layout_.metric)) return;
  squared_norms_[at] = squared_norm;
  // NaN is above no limit: pairs without a bound are always looked at.
  scales_[at] = ordinary(squared_norm) ? -1.0f / std::sqrt(squared_norm) : std::numeric_limits<float>::quiet_NaN();
}

TileScorer::TileScorer(const Layout& layout) : layout_(layout) {
  const std::size_t rows = rows_of_tile(layout);
  sums_.resize(is_binary(layout.metric) ? 0 : kQueriesAtOnce * rows);
  bit_counts_.resize(is_binary(layout.metric) ? kQueriesAtOnce * rows : 0);
  zeros_.resize(is_binary(layout.metric) ? rows : 0);
  found_.resize(rows + 1);
  distances_.resize(rows);
  norms_.resize(rows);
}

void TileScorer::sum(const RowTile& tile, const PackedQueries& queries, const std::uint32_t* which, std::size_t n) {
  const Kernels& k = kernels();
  const std::size_t rows = tile.count_in_kernels();
  if (is_binary(layout_.metric)) {
    const std::uint8_t* bits[kQueriesAtOnce];
    for (std::size_t i = 0; i < n; ++i) bits[i] = queries.vectors().bits(which[i]);
    k.differing_bits(bits, n, tile.blocks(), rows / kItemsOfBlock, 2 * layout_.words, bit_counts_.data());
    return;
  }
  const float* vectors[kQueriesAtOnce];
  for (std::size_t i = 0; i < n; ++i) vectors[i] = queries.vectors().floats(which[i]);
  const ScoreTile sum_tile = layout_.metric == Metric::euclidean   ? k.squared_l2_tile
                             : layout_.metric == Metric::manhattan ? k.l1_tile
                                                                   : k.dot_tile;
  sum_tile(vectors, n, tile.vectors().floats(0), rows, tile.vectors().width(), sums_.data(), rows);
}

std::size_t TileScorer::find_wanted(const RowTile& tile, std::size_t i, float squared_norm, float limit) {
  const std::size_t rows = tile.count_in_kernels();
  const float limit_of_sum = limit_of_sums(layout_.metric, limit, squared_norm);
  const float* sums = sums_.data() + i * rows;
  const std::int32_t* counts = bit_counts_.data() + i * rows;
  std::size_t n = is_binary(layout_.metric)
                      ? kernels().find_below(counts, zeros_.data(), rows, 1.0f, limit_of_sum + 0.5f, found_.data())
                      : kernels().find_not_above(sums, tile.scales(), rows, limit_of_sum, found_.data());
  while (n > 0 && found_[n - 1] >= tile.count()) --n;  // what fills the tile up
  for (std::size_t w = 0; w < n; ++w) {
    const std::uint32_t row = found_[w];
    distances_[w] = is_binary(layout_.metric) ? static_cast<float>(counts[row]) : sums[row];
    norms_[w] = tile.squared_norms()[row];
  }
  finish_sums(layout_.metric, squared_norm, norms_.data(), distances_.data(), n);
  return n;
}

}  // namespace dask_annoy
