// Distances of many queries to many rows: both are packed into tiles, which kernels score from registers.
//
// What comes out is what search() gives, to the last bit: the kernels keep each pair's order of additions, and the last
// steps from a sum to a distance are those of scoring.hpp. They are taken only for pairs whose sum says that they might
// be among the best.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/layout.hpp"
#include "core/scoring.hpp"

namespace dask_annoy {

// Vectors side by side, each padded with zeros as the kernels want it.
class PackedVectors {
 public:
  PackedVectors(const Layout& layout, std::size_t capacity);

  // Bytes that one vector takes.
  static std::size_t bytes_of_vector(const Layout& layout);

  std::size_t bytes_of_vector() const { return stride_; }
  std::size_t width() const { return stride_ / sizeof(float); }
  void put(std::size_t i, const void* vector);
  const void* at(std::size_t i) const { return data() + i * stride_; }
  const float* floats(std::size_t i) const { return static_cast<const float*>(at(i)); }
  const std::uint8_t* bits(std::size_t i) const { return static_cast<const std::uint8_t*>(at(i)); }

 private:
  std::uint8_t* data() const { return vectors_.get() + aligned_; }

  std::size_t bytes_;  // of a vector without padding
  std::size_t stride_;
  std::size_t aligned_;  // where the first one starts, so that registers do not straddle cache lines
  std::unique_ptr<std::uint8_t[]> vectors_;
};

// Queries as tiles want them.
class PackedQueries {
 public:
  // Copies: `count` vectors, `stride` bytes apart.
  PackedQueries(const Layout& layout, const char* queries, std::size_t stride, std::size_t count);

  std::size_t count() const { return count_; }
  const PackedVectors& vectors() const { return vectors_; }
  float squared_norm(std::size_t q) const { return squared_norms_.empty() ? 0.0f : squared_norms_[q]; }

 private:
  std::size_t count_;
  PackedVectors vectors_;
  std::vector<float> squared_norms_;  // where the metric needs them
};

// Some rows with their numbers, packed: as many as stay in the first-level cache.
class RowTile {
 public:
  explicit RowTile(const Layout& layout);

  void clear() { numbers_.clear(); }
  bool full() const { return numbers_.size() == capacity_; }
  std::size_t count() const { return numbers_.size(); }
  std::size_t capacity() const { return capacity_; }

  // A bare vector.
  void add(const void* vector, std::int64_t number);
  // An item's node.
  void add(const NodeView& item, std::int32_t number);

  const PackedVectors& vectors() const { return vectors_; }      // all metrics but hamming
  const std::uint8_t* blocks() const { return blocks_.data(); }  // hamming: as sums over codes want them
  const float* squared_norms() const { return squared_norms_.data(); }
  const float* scales() const { return scales_.data(); }  // see find_not_above
  std::int64_t number(std::size_t row) const { return numbers_[row]; }
  std::size_t count_in_kernels() const { return (count() + kRowsOfTile - 1) / kRowsOfTile * kRowsOfTile; }

 private:
  void add(const void* vector, std::int64_t number, float squared_norm);

  Layout layout_;
  std::size_t groups_;  // hamming: 32-bit words of a vector
  std::size_t capacity_;
  PackedVectors vectors_;
  std::vector<std::uint8_t> blocks_;
  std::vector<float> squared_norms_;
  std::vector<float> scales_;
  std::vector<std::int64_t> numbers_;
};

// Scores a tile against queries and offers what might be wanted. Of one thread.
class TileScorer {
 public:
  explicit TileScorer(const Layout& layout);

  // Scores queries which[0] … which[n − 1]. best_of(q) gives where the best of query q are kept: its limit() is what a
  // distance must not exceed to be wanted, offer(distance, number) takes one.
  template <class BestOf>
  void score(const RowTile& tile, const PackedQueries& queries, const std::uint32_t* which, std::size_t n,
             const BestOf& best_of) {
    for (std::size_t begin = 0; begin < n; begin += kQueriesAtOnce) {
      const std::size_t count = n - begin < kQueriesAtOnce ? n - begin : kQueriesAtOnce;
      sum(tile, queries, which + begin, count);
      for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t q = which[begin + i];
        auto& best = best_of(q);
        const std::size_t n_wanted = find_wanted(tile, i, queries.squared_norm(q), best.limit());
        for (std::size_t w = 0; w < n_wanted; ++w) best.offer(distances_[w], tile.number(found_[w]));
      }
    }
  }

 private:
  static constexpr std::size_t kQueriesAtOnce = 8;

  void sum(const RowTile& tile, const PackedQueries& queries, const std::uint32_t* which, std::size_t n);
  // The rows of the tile that query i of those summed last might want, into found_, and their distances.
  std::size_t find_wanted(const RowTile& tile, std::size_t i, float squared_norm, float limit);

  Layout layout_;
  std::vector<float> sums_;
  std::vector<std::int32_t> bit_counts_;
  std::vector<float> zeros_;  // hamming: the biases of find_below
  std::vector<std::uint32_t> found_;
  std::vector<float> distances_;
  std::vector<float> norms_;  // of the rows found
};

}  // namespace dask_annoy
