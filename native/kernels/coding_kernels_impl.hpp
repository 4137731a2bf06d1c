// Kernels that make codes of vectors and sums for their means, included by one source per instruction set after the
// registers of kernels_impl.hpp, whose rules hold. Each element is computed on its own, so any register width gives the
// same codes.
#pragma once

namespace dask_annoy {
namespace {

// Of a vector's value, how much a code step of that dimension counts for it.
inline float weight(float value, float scale, float from, float step) { return (value * scale - from) * step; }

// The bits of numbers that are not negative have their order, and maxima of integers any order of evaluation.
float largest_weight(const float* vector, float scale, const float* from, const float* steps, std::size_t n) {
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float w = weight(vector[i], scale, from[i], steps[i]);
    std::int32_t bits;
    std::memcpy(&bits, &w, sizeof bits);
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
  }
  float size;
  std::memcpy(&size, &largest, sizeof size);
  return size;
}

void round_weights(const float* vector, float scale, const float* from, const float* steps, float factor, float most,
                   std::size_t n, std::int8_t* rounded) {
  constexpr float kToInteger = 12582912.0f;  // floats of this size are integers: adding it rounds to the nearest
  for (std::size_t i = 0; i < n; ++i) {
    float w = weight(vector[i], scale, from[i], steps[i]) / factor;
    w = w > most ? most : w;
    w = w < -most ? -most : w;
    rounded[i] = static_cast<std::int8_t>(static_cast<std::int32_t>((w + kToInteger) - kToInteger));
  }
}

void nearest_codes(const float* vector, float scale, const float* low, const float* steps, float highest, std::size_t n,
                   std::uint8_t* codes) {
  for (std::size_t i = 0; i < n; ++i) {
    float code = (vector[i] * scale - low[i]) / steps[i];
    code = code > 0.0f ? code : 0.0f;  // NaN is not
    code = code < highest ? code + 0.5f : highest;
    codes[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(code));
  }
}

float coded_squares(const std::uint8_t* codes, const float* steps, float middle, std::size_t n) {
  float lanes[kLanes] = {};
  const auto square = [&](std::size_t i) {
    const float x = (static_cast<float>(codes[i]) - middle) * steps[i];
    return x * x;
  };
  std::size_t begin = 0;
  for (; begin + kLanes <= n; begin += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += square(begin + lane);
  }
  for (std::size_t i = begin; i < n; ++i) lanes[i - begin] += square(i);
  Vector sums[kRegisters];
  std::memcpy(sums, lanes, sizeof sums);
  return fold(sums);
}

void add_scaled(const float* vector, float scale, std::size_t n, double* sums) {
  for (std::size_t i = 0; i < n; ++i) sums[i] += static_cast<double>(vector[i] * scale);
}

void count_ones(const std::uint64_t* bits, std::size_t words, std::int32_t* counts) {
  for (std::size_t half = 0; half < 2 * words; ++half) {
    const auto part = static_cast<std::uint32_t>(bits[half / 2] >> (half % 2 * 32));
    std::int32_t* own = counts + 32 * half;
    for (std::uint32_t i = 0; i < 32; ++i) own[i] += (part & (std::uint32_t{1} << i)) != 0 ? 1 : 0;
  }
}

}  // namespace
}  // namespace dask_annoy
