// Means of vectors: adding up, coding, and which of them is nearest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "core/coder.hpp"
#include "core/layout.hpp"
#include "core/ranked.hpp"
#include "kernels/kernels.hpp"

namespace dask_annoy {

// Vectors of means: floats for all metrics, for hamming the share of ones of each bit.
class Means {
 public:
  Means() : Means(Layout::of(Metric::euclidean, 1), 0) {}
  Means(const Layout& layout, std::size_t count) : layout_(layout), values_(count * layout.width) {}

  float* at(std::size_t mean) { return values_.data() + mean * layout_.width; }
  const float* at(std::size_t mean) const { return values_.data() + mean * layout_.width; }
  std::size_t count() const { return layout_.width == 0 ? 0 : values_.size() / layout_.width; }

  // As a coder takes items: floats, or words of the majority's bits in `words`.
  const void* vector(std::size_t mean, std::vector<std::uint64_t>& words) const {
    if (!is_binary(layout_.metric)) return at(mean);
    words.assign(layout_.words, 0);
    for (std::size_t d = 0; d < layout_.width; ++d) {
      if (at(mean)[d] > 0.5f) words[d / 64] |= std::uint64_t{1} << (d % 64);
    }
    return words.data();
  }

 private:
  Layout layout_;
  std::vector<float> values_;
};

// Adds vectors up, in the order in which they come.
class VectorSum {
 public:
  explicit VectorSum(const Layout& layout) : layout_(layout), sum_(layout.width), ones_(64 * layout.words) {}

  void reset() {
    std::fill(sum_.begin(), sum_.end(), 0.0);
    std::fill(ones_.begin(), ones_.end(), 0);
    weight_ = 0.0;
  }

  void add_item(const NodeView& item) {
    weight_ += 1.0;
    if (is_binary(layout_.metric)) {
      kernels().count_ones(item.bits(), layout_.words, ones_.data());
      return;
    }
    const float* v = item.vector();
    kernels().add_scaled(v, unit_scale(layout_, v), layout_.width, sum_.data());
  }

  void add_mean(const float* mean, double weight) {
    weight_ += weight;
    for (std::size_t d = 0; d < layout_.width; ++d) sum_[d] += weight * static_cast<double>(mean[d]);
  }

  void mean(float* to) const {
    const double share = weight_ > 0.0 ? 1.0 / weight_ : 0.0;
    const bool binary = is_binary(layout_.metric);
    for (std::size_t d = 0; d < layout_.width; ++d) {
      to[d] = static_cast<float>((binary ? sum_[d] + ones_[d] : sum_[d]) * share);
    }
  }

 private:
  Layout layout_;
  std::vector<double> sum_;
  std::vector<std::int32_t> ones_;  // of items' bits
  double weight_ = 0.0;
};

// Coded means, and the nearest of some of them.
class CodedMeans {
 public:
  CodedMeans(const Coder& coder, const Means& means) : coder_(coder), codes_(coder.groups()) {
    codes_.resize((means.count() + kItemsOfBlock - 1) / kItemsOfBlock);
    biases_.assign(codes_.n_blocks() * kItemsOfBlock, std::numeric_limits<float>::infinity());
    std::vector<std::uint8_t> bytes(coder.query_bytes());
    std::vector<std::uint64_t> words;
    for (std::size_t m = 0; m < means.count(); ++m) {
      biases_[m] = coder.code_item(means.vector(m, words), bytes.data());
      codes_.put(m, bytes.data());
    }
  }

  std::size_t n_blocks() const { return codes_.n_blocks(); }

  // Sums of the queries with the means of some blocks, one query after the other.
  void sum(const std::uint8_t* const* queries, std::size_t n_queries, std::size_t block, std::size_t n_blocks,
           std::vector<std::int32_t>& sums) const {
    const std::size_t needed = n_queries * n_blocks * kItemsOfBlock;
    if (sums.size() < needed) sums.resize(needed);
    coder_.sums()(queries, n_queries, codes_.at(block), n_blocks, codes_.groups(), sums.data());
  }

  // The nearest mean of the blocks, and its score, given a query's sums with them.
  Ranked nearest(const std::int32_t* sums, float factor, std::size_t block, std::size_t n_blocks) const {
    const float* biases = biases_.data() + block * kItemsOfBlock;
    const std::size_t place = kernels().find_least(sums, biases, n_blocks * kItemsOfBlock, factor);
    return ranked_as(score(biases[place], factor, sums[place]),
                     static_cast<std::uint32_t>(block * kItemsOfBlock + place));
  }

  // All means, nearest first.
  void rank(const std::uint8_t* query, float factor, std::size_t n_means, std::vector<std::int32_t>& sums,
            std::vector<Ranked>& ranked) const {
    sum(&query, 1, 0, n_blocks(), sums);
    ranked.resize(n_means);
    for (std::uint32_t m = 0; m < n_means; ++m) ranked[m] = ranked_as(score(biases_[m], factor, sums[m]), m);
    sort_ranked(ranked.data(), n_means);
  }

  CodeBlocks take_codes() { return std::move(codes_); }
  std::vector<float> take_biases() { return std::move(biases_); }

 private:
  static float score(float bias, float factor, std::int32_t sum) { return bias + factor * static_cast<float>(sum); }

  const Coder& coder_;
  CodeBlocks codes_;
  std::vector<float> biases_;
};

}  // namespace dask_annoy
