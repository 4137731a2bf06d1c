// Kernels that tell which scores pass a limit, how many do, or which is the least; included by one source per
// instruction set after the registers of kernels_impl.hpp, whose rules hold. Nearly all scores fail, so sixteen are
// decided by one test.
#pragma once

namespace dask_annoy {
namespace {

constexpr std::size_t kTestedAtOnce = 16;
static_assert(kItemsOfBlock == kTestedAtOnce && kRowsOfTile == kTestedAtOnce, "scores come in whole tests");

typedef std::int32_t IntegerLanes __attribute__((vector_size(kVector * sizeof(float))));

// One bit a lane, from lanes that are all ones or all zeros.
inline std::uint32_t bits_of(IntegerLanes lanes) {
#if defined(__AVX512DQ__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(lanes));
#elif defined(__AVX2__)
  return static_cast<std::uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(lanes)));
#elif defined(__SSE2__)
  return static_cast<std::uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(lanes)));
#else
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < kVector; ++i) bits |= lanes[i] != 0 ? 1u << i : 0u;
  return bits;
#endif
}

// passes(i) tells which of the kVector scores from place i on pass.
template <class Passes>
inline std::size_t find(std::size_t n, std::uint32_t* found, const Passes& passes) {
  std::size_t n_found = 0;
  for (std::size_t begin = 0; begin < n; begin += kTestedAtOnce) {
    std::uint32_t bits = 0;
#pragma GCC unroll 4
    for (std::size_t i = 0; i < kTestedAtOnce; i += kVector) bits |= bits_of(passes(begin + i)) << i;
    for (; bits != 0; bits &= bits - 1) {
      found[n_found++] = static_cast<std::uint32_t>(begin) + static_cast<std::uint32_t>(__builtin_ctz(bits));
    }
  }
  return n_found;
}

// Of codes, from their sums.
inline Vector scores_at(const std::int32_t* sums, const float* biases, std::size_t i, float factor) {
  IntegerLanes sum;
  std::memcpy(&sum, sums + i, sizeof sum);
  return load(biases + i) + factor * __builtin_convertvector(sum, Vector);
}

std::size_t find_below(const std::int32_t* sums, const float* biases, std::size_t n, float factor, float limit,
                       std::uint32_t* found) {
  return find(n, found, [&](std::size_t i) { return scores_at(sums, biases, i, factor) < limit; });
}

std::size_t count_below(const std::int32_t* sums, const float* biases, std::size_t n, float factor, float limit) {
  IntegerLanes counts = {};
  for (std::size_t i = 0; i < n; i += kVector) counts -= scores_at(sums, biases, i, factor) < limit;
  std::size_t count = 0;
  for (std::size_t lane = 0; lane < kVector; ++lane) count += static_cast<std::size_t>(counts[lane]);
  return count;
}

// The least of a register's lanes, which are passed in memory: a register whose parts are taken would live there.
template <std::size_t N, class T>
inline T least_of(const T* lanes) {
  if constexpr (N == 1) {
    return lanes[0];
  } else {
    T halves[N / 2];
    for (std::size_t i = 0; i < N / 2; ++i) halves[i] = lanes[i] < lanes[N / 2 + i] ? lanes[i] : lanes[N / 2 + i];
    return least_of<N / 2, T>(halves);
  }
}

std::size_t find_least(const std::int32_t* sums, const float* biases, std::size_t n, float factor) {
  if (n == 0) return 0;
  IntegerLanes places;
  for (std::size_t lane = 0; lane < kVector; ++lane) places[lane] = static_cast<std::int32_t>(lane);
  Vector least = scores_at(sums, biases, 0, factor);
  IntegerLanes first = places;
  for (std::size_t i = kVector; i < n; i += kVector) {
    places += static_cast<std::int32_t>(kVector);
    const Vector scores = scores_at(sums, biases, i, factor);
    const IntegerLanes less = scores < least;
    least = less ? scores : least;
    first = less ? places : first;
  }
  float scores[kVector];
  const Vector all = least + 0.0f;  // a copy, so that the loop's register stays one
  std::memcpy(scores, &all, sizeof scores);
  const IntegerLanes none = IntegerLanes{} + 0x7fffffff;
  const IntegerLanes firsts = least == least_of<kVector>(scores) ? first : none;
  std::int32_t candidates[kVector];
  std::memcpy(candidates, &firsts, sizeof candidates);
  return static_cast<std::size_t>(least_of<kVector>(candidates));
}

std::size_t find_not_above(const float* values, const float* scales, std::size_t n, float limit, std::uint32_t* found) {
  return find(n, found, [&](std::size_t i) { return ~(load(values + i) * load(scales + i) > limit); });
}

}  // namespace
}  // namespace dask_annoy
