// A score and a number as one integer, in the order of pairs: what is sorted most is then compared fastest.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kernels.hpp"

namespace dask_annoy {

using Ranked = std::uint64_t;

inline Ranked ranked_as(float score, std::uint32_t number) {
  std::uint32_t bits;
  std::memcpy(&bits, &score, sizeof bits);
  bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<Ranked>(bits) << 32 | number;
}

inline std::uint32_t number_of(Ranked ranked) { return static_cast<std::uint32_t>(ranked); }

inline float score_of(Ranked ranked) {
  auto bits = static_cast<std::uint32_t>(ranked >> 32);
  bits = (bits & 0x80000000u) != 0 ? bits & 0x7fffffffu : ~bits;
  float score;
  std::memcpy(&score, &bits, sizeof score);
  return score;
}

// Ascending; of numbers that are all different.
inline void sort_ranked(Ranked* ranked, std::size_t n) {
  if (n > kSortedAtMost) return std::sort(ranked, ranked + n);
  Ranked sorted[kSortedAtMost];
  kernels().sort_few(ranked, n, sorted);
  std::copy_n(sorted, n, ranked);
}

}  // namespace dask_annoy
