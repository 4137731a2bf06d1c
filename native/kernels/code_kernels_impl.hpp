// Kernels over codes, included by one source per instruction set; the rules of kernels_impl.hpp hold.
//
// Codes lie in blocks of 16 items: four bytes of item 0, four of item 1 … of item 15, then the next four bytes of each.
// One register (or a few) then holds the same four dimensions of all items, a query's four are one word to repeat, and
// sums need no folding. All is integer arithmetic, which has one result on every machine.
//
// Of codes of half a byte (nibbles) a group holds eight dimensions: the low halves of its four bytes the first four,
// the high halves the others. Queries have a byte a dimension all the same.
//
// The including source defines DASK_ANNOY_CODES_VNNI, _AVX512, _AVX2, _SSE2 or _PORTABLE.
#if !defined(DASK_ANNOY_CODES_PORTABLE)
#include <immintrin.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/table.hpp"

namespace dask_annoy {
namespace {

constexpr std::size_t kItems = kItemsOfBlock;
constexpr std::size_t kGroupBytes = 4 * kItems;

#if defined(DASK_ANNOY_CODES_VNNI) || defined(DASK_ANNOY_CODES_AVX512)

constexpr std::size_t kQueriesAtOnce = 8;
constexpr std::size_t kBlocksAtOnce = 2;
constexpr std::size_t kBlocksForOne = 8;  // for one query: as many sums that do not wait for each other

// The sums of 16 items, and four bytes of each.
struct Sums {
  __m512i r;
};
typedef __m512i Bytes;
typedef __m512i Word;

inline void clear(Sums& sums) { sums.r = _mm512_setzero_si512(); }
inline Bytes bytes_at(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
inline Word repeated(const std::uint8_t* p) {
  std::int32_t word;
  std::memcpy(&word, p, sizeof word);
  return _mm512_set1_epi32(word);
}
inline void store(std::int32_t* out, const Sums& sums) { _mm512_storeu_si512(out, sums.r); }
inline Bytes low_halves(Bytes bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
inline Bytes high_halves(Bytes bytes) { return low_halves(_mm512_srli_epi16(bytes, 4)); }

#if defined(DASK_ANNOY_CODES_VNNI)
inline __m512i add_products(__m512i sum, __m512i codes, __m512i weights) {
  return _mm512_dpbusd_epi32(sum, codes, weights);
}
inline __m512i count_bits(__m512i sum, __m512i x) { return _mm512_add_epi32(sum, _mm512_popcnt_epi32(x)); }
#else
inline __m512i add_products(__m512i sum, __m512i codes, __m512i weights) {
  const __m512i pairs = _mm512_maddubs_epi16(codes, weights);
  return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
inline __m512i count_bits(__m512i sum, __m512i x) {
  const __m512i nibbles = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m512i low = _mm512_set1_epi8(15);
  const __m512i counts = _mm512_add_epi8(_mm512_shuffle_epi8(nibbles, _mm512_and_si512(x, low)),
                                         _mm512_shuffle_epi8(nibbles, _mm512_and_si512(_mm512_srli_epi16(x, 4), low)));
  return add_products(sum, counts, _mm512_set1_epi8(1));
}
#endif

struct Products {
  static void add(Sums& sums, Bytes codes, Word query) { sums.r = add_products(sums.r, codes, query); }
};
struct Differences {
  static void add(Sums& sums, Bytes codes, Word query) {
    const __m512i difference = _mm512_or_si512(_mm512_subs_epu8(codes, query), _mm512_subs_epu8(query, codes));
    sums.r = add_products(sums.r, difference, _mm512_set1_epi8(1));
  }
};
struct DifferingBits {
  static void add(Sums& sums, Bytes codes, Word query) { sums.r = count_bits(sums.r, _mm512_xor_si512(codes, query)); }
};

#elif defined(DASK_ANNOY_CODES_AVX2)

constexpr std::size_t kQueriesAtOnce = 4;
constexpr std::size_t kBlocksAtOnce = 1;
constexpr std::size_t kBlocksForOne = 4;

struct Sums {
  __m256i r[2];
};
struct Bytes {
  __m256i r[2];
};
typedef __m256i Word;

inline void clear(Sums& sums) { sums.r[0] = sums.r[1] = _mm256_setzero_si256(); }
inline Bytes bytes_at(const std::uint8_t* p) {
  return {{_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
           _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))}};
}
inline Word repeated(const std::uint8_t* p) {
  std::int32_t word;
  std::memcpy(&word, p, sizeof word);
  return _mm256_set1_epi32(word);
}
inline void store(std::int32_t* out, const Sums& sums) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), sums.r[0]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8), sums.r[1]);
}
inline Bytes low_halves(const Bytes& bytes) {
  const __m256i low = _mm256_set1_epi8(15);
  return {{_mm256_and_si256(bytes.r[0], low), _mm256_and_si256(bytes.r[1], low)}};
}
inline Bytes high_halves(const Bytes& bytes) {
  return low_halves({{_mm256_srli_epi16(bytes.r[0], 4), _mm256_srli_epi16(bytes.r[1], 4)}});
}

inline __m256i add_products(__m256i sum, __m256i codes, __m256i weights) {
  const __m256i pairs = _mm256_maddubs_epi16(codes, weights);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

struct Products {
  static void add(Sums& sums, const Bytes& codes, Word query) {
    for (int half = 0; half < 2; ++half) sums.r[half] = add_products(sums.r[half], codes.r[half], query);
  }
};
struct Differences {
  static void add(Sums& sums, const Bytes& codes, Word query) {
    for (int half = 0; half < 2; ++half) {
      const __m256i difference =
          _mm256_or_si256(_mm256_subs_epu8(codes.r[half], query), _mm256_subs_epu8(query, codes.r[half]));
      sums.r[half] = add_products(sums.r[half], difference, _mm256_set1_epi8(1));
    }
  }
};
struct DifferingBits {
  static void add(Sums& sums, const Bytes& codes, Word query) {
    const __m256i nibbles = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i low = _mm256_set1_epi8(15);
    for (int half = 0; half < 2; ++half) {
      const __m256i x = _mm256_xor_si256(codes.r[half], query);
      const __m256i counts =
          _mm256_add_epi8(_mm256_shuffle_epi8(nibbles, _mm256_and_si256(x, low)),
                          _mm256_shuffle_epi8(nibbles, _mm256_and_si256(_mm256_srli_epi16(x, 4), low)));
      sums.r[half] = add_products(sums.r[half], counts, _mm256_set1_epi8(1));
    }
  }
};

#elif defined(DASK_ANNOY_CODES_SSE2)

constexpr std::size_t kQueriesAtOnce = 2;
constexpr std::size_t kBlocksAtOnce = 1;
constexpr std::size_t kBlocksForOne = 1;

// A sum an item, and counts of bits that are still in single bytes: `runs` were added to each.
struct Sums {
  __m128i r[4];
  __m128i counts[4];
  int runs;
};
struct Bytes {
  __m128i r[4];
};
typedef __m128i Word;

inline void clear(Sums& sums) {
  for (int i = 0; i < 4; ++i) sums.r[i] = sums.counts[i] = _mm_setzero_si128();
  sums.runs = 0;
}
inline Bytes bytes_at(const std::uint8_t* p) {
  Bytes bytes;
  for (int i = 0; i < 4; ++i) bytes.r[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * i));
  return bytes;
}
inline Word repeated(const std::uint8_t* p) {
  std::int32_t word;
  std::memcpy(&word, p, sizeof word);
  return _mm_set1_epi32(word);
}

// Without instructions for bytes, those at even and at odd places are taken as 16-bit numbers.
inline __m128i even(__m128i bytes) { return _mm_and_si128(bytes, _mm_set1_epi16(255)); }
inline __m128i odd(__m128i bytes) { return _mm_srli_epi16(bytes, 8); }

inline __m128i sum_of_four(__m128i bytes) {
  return _mm_madd_epi16(_mm_add_epi16(even(bytes), odd(bytes)), _mm_set1_epi16(1));
}

inline void add_counts(Sums& sums) {
  for (int i = 0; i < 4; ++i) {
    sums.r[i] = _mm_add_epi32(sums.r[i], sum_of_four(sums.counts[i]));
    sums.counts[i] = _mm_setzero_si128();
  }
  sums.runs = 0;
}

inline void store(std::int32_t* out, Sums& sums) {
  if (sums.runs > 0) add_counts(sums);
  for (int i = 0; i < 4; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 4 * i), sums.r[i]);
}

inline Bytes low_halves(Bytes bytes) {
  for (__m128i& r : bytes.r) r = _mm_and_si128(r, _mm_set1_epi8(15));
  return bytes;
}
inline Bytes high_halves(Bytes bytes) {
  for (__m128i& r : bytes.r) r = _mm_srli_epi16(r, 4);
  return low_halves(bytes);
}

struct Products {
  static void add(Sums& sums, const Bytes& codes, Word query) {
    const __m128i even_weights = _mm_srai_epi16(_mm_slli_epi16(query, 8), 8);
    const __m128i odd_weights = _mm_srai_epi16(query, 8);
    for (int i = 0; i < 4; ++i) {
      const __m128i products =
          _mm_add_epi32(_mm_madd_epi16(even(codes.r[i]), even_weights), _mm_madd_epi16(odd(codes.r[i]), odd_weights));
      sums.r[i] = _mm_add_epi32(sums.r[i], products);
    }
  }
};
struct Differences {
  static void add(Sums& sums, const Bytes& codes, Word query) {
    for (int i = 0; i < 4; ++i) {
      const __m128i difference = _mm_or_si128(_mm_subs_epu8(codes.r[i], query), _mm_subs_epu8(query, codes.r[i]));
      sums.r[i] = _mm_add_epi32(sums.r[i], sum_of_four(difference));
    }
  }
};
struct DifferingBits {
  static void add(Sums& sums, const Bytes& codes, Word query) {
    constexpr int kMostRuns = 31;  // of at most 8 each
    const __m128i two = _mm_set1_epi8(0x55), four = _mm_set1_epi8(0x33), eight = _mm_set1_epi8(0x0f);
    for (int i = 0; i < 4; ++i) {
      __m128i x = _mm_xor_si128(codes.r[i], query);
      x = _mm_sub_epi8(x, _mm_and_si128(_mm_srli_epi16(x, 1), two));
      x = _mm_add_epi8(_mm_and_si128(x, four), _mm_and_si128(_mm_srli_epi16(x, 2), four));
      x = _mm_and_si128(_mm_add_epi8(x, _mm_srli_epi16(x, 4)), eight);
      sums.counts[i] = _mm_add_epi8(sums.counts[i], x);
    }
    if (++sums.runs == kMostRuns) add_counts(sums);
  }
};

#else

constexpr std::size_t kQueriesAtOnce = 2;
constexpr std::size_t kBlocksAtOnce = 1;
constexpr std::size_t kBlocksForOne = 1;

struct Sums {
  std::int32_t r[kItems];
};
struct Bytes {
  std::uint8_t r[4 * kItems];
};
typedef const std::uint8_t* Word;

inline void clear(Sums& sums) { std::memset(&sums, 0, sizeof sums); }
inline Bytes bytes_at(const std::uint8_t* p) {
  Bytes bytes;
  std::memcpy(bytes.r, p, sizeof bytes.r);
  return bytes;
}
inline Word repeated(const std::uint8_t* p) { return p; }
inline void store(std::int32_t* out, const Sums& sums) { std::memcpy(out, sums.r, sizeof sums.r); }
inline Bytes low_halves(Bytes bytes) {
  for (std::uint8_t& r : bytes.r) r &= 15;
  return bytes;
}
inline Bytes high_halves(Bytes bytes) {
  for (std::uint8_t& r : bytes.r) r = static_cast<std::uint8_t>(r >> 4);
  return bytes;
}

struct Products {
  static void add(Sums& sums, const Bytes& codes, Word query) {
    for (std::size_t i = 0; i < kItems; ++i) {
      for (std::size_t b = 0; b < 4; ++b) sums.r[i] += codes.r[4 * i + b] * static_cast<std::int8_t>(query[b]);
    }
  }
};
struct Differences {
  static void add(Sums& sums, const Bytes& codes, Word query) {
    for (std::size_t i = 0; i < kItems; ++i) {
      for (std::size_t b = 0; b < 4; ++b) {
        const int difference = codes.r[4 * i + b] - query[b];
        sums.r[i] += difference < 0 ? -difference : difference;
      }
    }
  }
};
struct DifferingBits {
  static void add(Sums& sums, const Bytes& codes, Word query) {
    std::uint32_t wanted;
    std::memcpy(&wanted, query, sizeof wanted);
    for (std::size_t i = 0; i < kItems; ++i) {
      std::uint32_t word;
      std::memcpy(&word, codes.r + 4 * i, sizeof word);
      sums.r[i] += __builtin_popcount(word ^ wanted);
    }
  }
};

#endif

// How codes lie in a group: a byte each, or half of one.
struct WholeBytes {
  static constexpr std::size_t kParts = 1;
  static Bytes part(const Bytes& codes, std::size_t) { return codes; }
};
struct HalfBytes {
  static constexpr std::size_t kParts = 2;
  static Bytes part(const Bytes& codes, std::size_t part) { return part == 0 ? low_halves(codes) : high_halves(codes); }
};

template <class Op, class Packing, std::size_t kQueries, std::size_t kBlocks>
inline void sum_tile(const std::uint8_t* const* queries, const std::uint8_t* blocks, std::size_t groups,
                     std::int32_t* out, std::size_t out_stride) {
  Sums sums[kQueries][kBlocks];
#pragma GCC unroll 8
  for (std::size_t q = 0; q < kQueries; ++q) {
#pragma GCC unroll 8
    for (std::size_t b = 0; b < kBlocks; ++b) clear(sums[q][b]);
  }
  for (std::size_t g = 0; g < groups; ++g) {
    Bytes codes[kBlocks];
#pragma GCC unroll 8
    for (std::size_t b = 0; b < kBlocks; ++b) codes[b] = bytes_at(blocks + (b * groups + g) * kGroupBytes);
#pragma GCC unroll 2
    for (std::size_t p = 0; p < Packing::kParts; ++p) {
      Bytes parts[kBlocks];
#pragma GCC unroll 8
      for (std::size_t b = 0; b < kBlocks; ++b) parts[b] = Packing::part(codes[b], p);
#pragma GCC unroll 8
      for (std::size_t q = 0; q < kQueries; ++q) {
        const Word query = repeated(queries[q] + 4 * (Packing::kParts * g + p));
#pragma GCC unroll 8
        for (std::size_t b = 0; b < kBlocks; ++b) Op::add(sums[q][b], parts[b], query);
      }
    }
  }
#pragma GCC unroll 8
  for (std::size_t q = 0; q < kQueries; ++q) {
#pragma GCC unroll 8
    for (std::size_t b = 0; b < kBlocks; ++b) store(out + q * out_stride + b * kItems, sums[q][b]);
  }
}

// The blocks that are left over by wide tiles go to tiles of half the width.
template <class Op, class Packing, std::size_t kQueries, std::size_t kBlocks>
inline void sum_queries(const std::uint8_t* const* queries, const std::uint8_t* blocks, std::size_t n_blocks,
                        std::size_t groups, std::int32_t* out, std::size_t stride) {
  std::size_t b = 0;
  for (; b + kBlocks <= n_blocks; b += kBlocks) {
    sum_tile<Op, Packing, kQueries, kBlocks>(queries, blocks + b * groups * kGroupBytes, groups, out + b * kItems,
                                             stride);
  }
  if constexpr (kBlocks > 1) {
    if (b < n_blocks) {
      sum_queries<Op, Packing, kQueries, kBlocks / 2>(queries, blocks + b * groups * kGroupBytes, n_blocks - b, groups,
                                                      out + b * kItems, stride);
    }
  }
}

template <class Op, class Packing>
void sum_codes(const std::uint8_t* const* queries, std::size_t n_queries, const std::uint8_t* blocks,
               std::size_t n_blocks, std::size_t groups, std::int32_t* out) {
  const std::size_t stride = n_blocks * kItems;
  std::size_t q = 0;
  for (; q + kQueriesAtOnce <= n_queries; q += kQueriesAtOnce) {
    sum_queries<Op, Packing, kQueriesAtOnce, kBlocksAtOnce>(queries + q, blocks, n_blocks, groups, out + q * stride,
                                                            stride);
  }
  if constexpr (kQueriesAtOnce >= 4) {
    constexpr std::size_t kHalf = kQueriesAtOnce / 2;
    for (; q + kHalf <= n_queries; q += kHalf) {
      sum_queries<Op, Packing, kHalf, 2 * kBlocksAtOnce>(queries + q, blocks, n_blocks, groups, out + q * stride,
                                                         stride);
    }
  }
  for (; q < n_queries; ++q) {
    sum_queries<Op, Packing, 1, kBlocksForOne>(queries + q, blocks, n_blocks, groups, out + q * stride, stride);
  }
}

}  // namespace
}  // namespace dask_annoy
