// A score and a number as one integer, in the order of pairs: what is sorted most is then compared fastest.
#pragma once

#include <cstdint>
#include <cstring>

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

}  // namespace dask_annoy
