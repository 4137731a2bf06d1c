// Products of 16-bit integers, included by one source per instruction set; the rules of kernels_impl.hpp hold.
//
// Integer sums are the same in any order, so each instruction set adds up as it likes. Nothing may exceed 32 bits: who
// calls keeps the product of both rows' lengths below 2^31, which by Cauchy-Schwarz bounds every partial sum, too.
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/table.hpp"

namespace dask_annoy {
namespace {

inline const std::int16_t* integers_at(const RowSet& rows, std::size_t r) {
  const std::size_t row = rows.ids ? static_cast<std::size_t>(rows.ids[r]) : r;
  return reinterpret_cast<const std::int16_t*>(rows.base + row * rows.stride);
}

#if defined(__SSE2__)

constexpr std::size_t kRowsAtOnce = 4;

#if defined(__AVX512BW__)

typedef __m512i Integers;

inline Integers no_integers() { return _mm512_setzero_si512(); }
inline Integers load_integers(const std::int16_t* p) { return _mm512_loadu_si512(p); }
inline Integers add_integers(Integers a, Integers b) { return _mm512_add_epi32(a, b); }
inline Integers low_words(Integers a, Integers b) { return _mm512_unpacklo_epi32(a, b); }
inline Integers high_words(Integers a, Integers b) { return _mm512_unpackhi_epi32(a, b); }
inline Integers low_pairs(Integers a, Integers b) { return _mm512_unpacklo_epi64(a, b); }
inline Integers high_pairs(Integers a, Integers b) { return _mm512_unpackhi_epi64(a, b); }
#if defined(__AVX512VNNI__)
inline Integers add_pairs(Integers sum, Integers a, Integers b) { return _mm512_dpwssd_epi32(sum, a, b); }
#else
inline Integers add_pairs(Integers sum, Integers a, Integers b) {
  return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
}
#endif
inline __m128i fold_quarters(Integers x) {
  const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

#elif defined(__AVX2__)

typedef __m256i Integers;

inline Integers no_integers() { return _mm256_setzero_si256(); }
inline Integers load_integers(const std::int16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Integers add_integers(Integers a, Integers b) { return _mm256_add_epi32(a, b); }
inline Integers low_words(Integers a, Integers b) { return _mm256_unpacklo_epi32(a, b); }
inline Integers high_words(Integers a, Integers b) { return _mm256_unpackhi_epi32(a, b); }
inline Integers low_pairs(Integers a, Integers b) { return _mm256_unpacklo_epi64(a, b); }
inline Integers high_pairs(Integers a, Integers b) { return _mm256_unpackhi_epi64(a, b); }
inline Integers add_pairs(Integers sum, Integers a, Integers b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
inline __m128i fold_quarters(Integers x) {
  return _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

#else

typedef __m128i Integers;

inline Integers no_integers() { return _mm_setzero_si128(); }
inline Integers load_integers(const std::int16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline Integers add_integers(Integers a, Integers b) { return _mm_add_epi32(a, b); }
inline Integers low_words(Integers a, Integers b) { return _mm_unpacklo_epi32(a, b); }
inline Integers high_words(Integers a, Integers b) { return _mm_unpackhi_epi32(a, b); }
inline Integers low_pairs(Integers a, Integers b) { return _mm_unpacklo_epi64(a, b); }
inline Integers high_pairs(Integers a, Integers b) { return _mm_unpackhi_epi64(a, b); }
inline Integers add_pairs(Integers sum, Integers a, Integers b) { return _mm_add_epi32(sum, _mm_madd_epi16(a, b)); }
inline __m128i fold_quarters(Integers x) { return x; }

#endif

// Of two registers one: in each quarter, two sums of either.
inline Integers merge_words(Integers a, Integers b) { return add_integers(low_words(a, b), high_words(a, b)); }

// Four rows side by side: their sums are folded in the same instructions.
inline void multiply_four(const std::int16_t* query, const std::int16_t* const* rows, std::size_t n,
                          std::int32_t* out) {
  constexpr std::size_t kStep = sizeof(Integers) / sizeof(std::int16_t);
  Integers sums[kRowsAtOnce];
#pragma GCC unroll 4
  for (Integers& sum : sums) sum = no_integers();
  for (std::size_t i = 0; i < n; i += kStep) {
    const Integers q = load_integers(query + i);
#pragma GCC unroll 4
    for (std::size_t r = 0; r < kRowsAtOnce; ++r) sums[r] = add_pairs(sums[r], q, load_integers(rows[r] + i));
  }
  // Lanes 0, 2 of either register, then 1, 3: pairs of (a, b) whose sum is that of a, of b.
  const Integers ab = merge_words(sums[0], sums[1]);
  const Integers cd = merge_words(sums[2], sums[3]);
  const __m128i folded = fold_quarters(add_integers(low_pairs(ab, cd), high_pairs(ab, cd)));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), folded);
}

void fixed_point_products(const std::int16_t* query, const RowSet& rows, std::size_t n, std::int32_t* out) {
  const std::int16_t* together[kRowsAtOnce];
  std::size_t r = 0;
  for (; r + kRowsAtOnce <= rows.count; r += kRowsAtOnce) {
    for (std::size_t i = 0; i < kRowsAtOnce; ++i) together[i] = integers_at(rows, r + i);
    multiply_four(query, together, n, out + r);
  }
  if (r == rows.count) return;
  // The last, fewer than four: the last of them again in the place of those that are missing.
  std::int32_t last[kRowsAtOnce];
  for (std::size_t i = 0; i < kRowsAtOnce; ++i) {
    together[i] = integers_at(rows, r + i < rows.count ? r + i : rows.count - 1);
  }
  multiply_four(query, together, n, last);
  std::memcpy(out + r, last, (rows.count - r) * sizeof(std::int32_t));
}

#else

void fixed_point_products(const std::int16_t* query, const RowSet& rows, std::size_t n, std::int32_t* out) {
  for (std::size_t r = 0; r < rows.count; ++r) {
    const std::int16_t* row = integers_at(rows, r);
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += static_cast<std::int32_t>(query[i]) * row[i];
    out[r] = sum;
  }
}

#endif

// In parts, so that products that do not tell, which are few, cost the others no branch.
std::size_t tell_sides(const std::int32_t* products, std::size_t n, std::int32_t below, std::int32_t above,
                       std::uint8_t* sides, std::int32_t* untold) {
  constexpr std::size_t kPart = 32;
  std::size_t n_untold = 0;
  for (std::size_t begin = 0; begin < n; begin += kPart) {
    const std::size_t end = begin + kPart < n ? begin + kPart : n;
    std::int32_t any = 0;
    for (std::size_t i = begin; i < end; ++i) {
      sides[i] = products[i] > above ? 1 : 0;
      any |= products[i] <= above && products[i] >= below ? 1 : 0;
    }
    if (any == 0) continue;
    for (std::size_t i = begin; i < end; ++i) {
      untold[n_untold] = static_cast<std::int32_t>(i);
      n_untold += products[i] <= above && products[i] >= below ? 1 : 0;
    }
  }
  return n_untold;
}

void widen(const std::int16_t* values, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(values[i]);
}

}  // namespace
}  // namespace dask_annoy
