#include "core/coder.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/errors.hpp"
#include "core/file.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kCacheLine = 64;
// Two products of a code with them fit into 16 bits.
constexpr float kLargestWeight = 63.0f;
constexpr float kLargestNibbleWeight = 127.0f;
// Values farther from the mean are cut to the range's ends; with few codes finer steps are worth more than wide ranges.
constexpr double kDeviations = 4.0;
constexpr double kNibbleDeviations = 2.7;

}  // namespace

float unit_scale(const Layout& layout, const float* vector) {
  if (layout.metric != Metric::angular) return 1.0f;
  const float norm = std::sqrt(kernels().dot(vector, vector, layout.width));
  return norm > 0.0f && std::isfinite(norm) ? 1.0f / norm : 0.0f;
}

void CodeBlocks::resize(std::size_t n_blocks) {
  n_blocks_ = n_blocks;
  const std::shared_ptr<std::uint8_t[]> room(new std::uint8_t[bytes() + kCacheLine]());
  const std::size_t over = reinterpret_cast<std::uintptr_t>(room.get()) % kCacheLine;
  own_ = room.get() + (over == 0 ? 0 : kCacheLine - over);
  codes_ = {room, own_};
}

void CodeBlocks::resize_in_file(std::size_t n_blocks, const std::string& path) {
  n_blocks_ = n_blocks;
  const std::size_t n = bytes();
  if (n == 0) return resize(n_blocks);
  File file = File::scratch_beside(path);
  file.resize(n);
  void* const room = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_SHARED, file.descriptor(), 0);
  if (room == MAP_FAILED) throw FileError("cannot map the codes of cells beside", path);
  own_ = static_cast<std::uint8_t*>(room);
  codes_ = std::shared_ptr<const std::uint8_t>(own_,
                                               [n](const std::uint8_t* p) { munmap(const_cast<std::uint8_t*>(p), n); });
  is_in_file_ = true;
}

void CodeBlocks::release() const {
  if (is_in_file_) madvise(own_, bytes(), MADV_DONTNEED);  // of a shared file: its pages stay with the system
}

void CodeBlocks::view(std::shared_ptr<const std::uint8_t> codes, std::size_t n_blocks) {
  n_blocks_ = n_blocks;
  codes_ = std::move(codes);
  own_ = nullptr;
}

void CodeBlocks::put(std::size_t item, const std::uint8_t* codes) {
  std::uint8_t* block = own_ + item / kItemsOfBlock * bytes_of_block() + item % kItemsOfBlock * 4;
  for (std::size_t g = 0; g < groups_; ++g) std::memcpy(block + g * 4 * kItemsOfBlock, codes + 4 * g, 4);
}

std::size_t Coder::bytes_of(const Layout& layout, int bits) {
  if (is_binary(layout.metric)) return 8 * layout.words;
  return bits == 4 ? (layout.width + 7) / 8 * 4 : (layout.width + 3) / 4 * 4;
}

Coder::Coder(const Layout& layout, std::vector<float> low, std::vector<float> step, int bits)
    : layout_(layout), bits_(bits), groups_(bytes_of(layout, bits) / 4), low_(std::move(low)), step_(std::move(step)) {
  // The product with an item is that with low, the same for all items, and with step * code. A smaller score is nearer.
  const bool euclidean = layout.metric == Metric::euclidean;
  for (std::size_t d = 0; d < low_.size(); ++d) {
    divisors_.push_back(step_[d] > 0.0f ? step_[d] : std::numeric_limits<float>::infinity());
    weights_from_.push_back(euclidean ? low_[d] + highest() / 2.0f * step_[d] : 0.0f);
    weight_steps_.push_back(step_[d] * (euclidean ? -2.0f : -1.0f));
  }
}

Coder Coder::learn(const Layout& layout, const float* vectors, std::size_t count, int bits) {
  if (is_binary(layout.metric)) return {layout, {}, {}, bits};
  const float highest = bits == 4 ? 15.0f : 255.0f;
  const std::size_t width = layout.width;
  std::vector<double> sum(width), squares(width);
  std::vector<float> low(width, std::numeric_limits<float>::max());
  std::vector<float> high(width, std::numeric_limits<float>::lowest());
  for (std::size_t v = 0; v < count; ++v) {
    for (std::size_t d = 0; d < width; ++d) {
      const float x = vectors[v * width + d];
      sum[d] += x;
      squares[d] += static_cast<double>(x) * x;
      low[d] = std::min(low[d], x);
      high[d] = std::max(high[d], x);
    }
  }
  std::vector<float> step(width);
  for (std::size_t d = 0; d < width; ++d) {
    if (count == 0) low[d] = high[d] = 0.0f;
    const double mean = count == 0 ? 0.0 : sum[d] / static_cast<double>(count);
    const double variance = count == 0 ? 0.0 : squares[d] / static_cast<double>(count) - mean * mean;
    const double reach = (bits == 4 ? kNibbleDeviations : kDeviations) * std::sqrt(std::max(variance, 0.0));
    if (std::isfinite(reach)) {
      low[d] = std::max(low[d], static_cast<float>(mean - reach));
      high[d] = std::min(high[d], static_cast<float>(mean + reach));
    }
    step[d] = high[d] > low[d] ? (high[d] / highest - low[d] / highest) : 0.0f;
  }
  if (layout.metric == Metric::manhattan) {
    // Differences are added up, so all dimensions need one scale.
    std::fill(step.begin(), step.end(), *std::max_element(step.begin(), step.end()));
  }
  return {layout, std::move(low), std::move(step), bits};
}

float Coder::code_item(const void* vector, std::uint8_t* codes) const {
  if (is_binary(layout_.metric)) {
    std::memcpy(codes, vector, bytes());
    return 0.0f;
  }
  const auto* values = static_cast<const float*>(vector);
  std::memset(codes, 0, query_bytes());
  kernels().nearest_codes(values, unit_scale(layout_, values), low_.data(), divisors_.data(), highest(), layout_.width,
                          codes);
  // The squared length of what the codes stand for, from the middle of the ranges.
  float squared = 0.0f;
  if (layout_.metric == Metric::euclidean) {
    squared = kernels().coded_squares(codes, step_.data(), highest() / 2.0f, layout_.width);
  }
  if (is_packed()) {
    for (std::size_t g = 0; g < groups_; ++g) {  // what is written has been read
      std::uint32_t low_halves, high_halves;
      std::memcpy(&low_halves, codes + 8 * g, 4);
      std::memcpy(&high_halves, codes + 8 * g + 4, 4);
      low_halves |= high_halves << 4;
      std::memcpy(codes + 4 * g, &low_halves, 4);
    }
  }
  return std::min(squared, std::numeric_limits<float>::max());
}

float Coder::code_query(const void* vector, std::uint8_t* codes) const {
  if (is_binary(layout_.metric)) {
    std::memcpy(codes, vector, bytes());
    return 1.0f;
  }
  const auto* values = static_cast<const float*>(vector);
  std::memset(codes, 0, query_bytes());
  if (layout_.metric == Metric::manhattan) {
    kernels().nearest_codes(values, 1.0f, low_.data(), divisors_.data(), highest(), layout_.width, codes);
    return layout_.width > 0 ? step_[0] : 1.0f;
  }
  const float scale = unit_scale(layout_, values);
  const float largest =
      kernels().largest_weight(values, scale, weights_from_.data(), weight_steps_.data(), layout_.width);
  const float most = is_packed() ? kLargestNibbleWeight : kLargestWeight;
  const float factor = largest / most;
  if (!(factor > 0.0f) || !std::isfinite(factor)) return 0.0f;
  kernels().round_weights(values, scale, weights_from_.data(), weight_steps_.data(), factor, most, layout_.width,
                          reinterpret_cast<std::int8_t*>(codes));
  return factor;
}

SumCodes Coder::sums() const {
  const Kernels& k = kernels();
  switch (layout_.metric) {
    case Metric::hamming:
      return k.differing_bits;
    case Metric::manhattan:
      return is_packed() ? k.nibble_differences : k.code_differences;
    case Metric::angular:
    case Metric::euclidean:
    case Metric::dot:
      break;
  }
  return is_packed() ? k.nibble_products : k.code_products;
}

}  // namespace dask_annoy
