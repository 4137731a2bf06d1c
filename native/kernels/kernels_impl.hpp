// The body of all kernels, included by one source per instruction set.
//
// Only <cstddef>, <cstdint>, <cstring>, the intrinsics and the table's type may be included here and everything has
// internal linkage: an inline function of the standard library that is compiled with wider instructions could be picked
// by the linker for code that runs on every machine.
//
// The including source defines DASK_ANNOY_VECTOR_FLOATS (floats in one register), DASK_ANNOY_TABLE and what
// code_kernels_impl.hpp asks for.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/code_kernels_impl.hpp"
#include "kernels/fixed_point_kernels_impl.hpp"
#include "kernels/table.hpp"

namespace dask_annoy {
namespace {

constexpr std::size_t kLanes = 32;
constexpr std::size_t kVector = DASK_ANNOY_VECTOR_FLOATS;
constexpr std::size_t kRegisters = kLanes / kVector;
constexpr std::size_t kAhead = 8;  // rows fetched ahead; measured flat between 4 and 12

// Rows scored side by side: as many as leave registers for the query. x86-64 has 16, with AVX-512 and on ARM 32.
constexpr std::size_t kTogether = kVector == 16 ? 4 : kVector == 8 ? 2 : 1;

template <std::size_t N>
struct Floats {
  typedef float type __attribute__((vector_size(N * sizeof(float))));
};

template <>
struct Floats<1> {
  typedef float type;
};

typedef Floats<kVector>::type Vector;
typedef std::int32_t Bits __attribute__((vector_size(kVector * sizeof(float))));

inline Vector load(const float* p) {
  Vector v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline Vector absolute(Vector v) {
  Bits bits;
  std::memcpy(&bits, &v, sizeof v);
  bits &= 0x7fffffff;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

inline float absolute(float x) { return __builtin_fabsf(x); }

struct Product {
  template <class T>
  static T term(T a, T b) {
    return a * b;
  }
};

struct SquaredDifference {
  template <class T>
  static T term(T a, T b) {
    const T d = a - b;
    return d * d;
  }
};

struct AbsoluteDifference {
  template <class T>
  static T term(T a, T b) {
    return absolute(a - b);
  }
};

// Lane i is folded with lane i + n/2 until one is left: the same order whatever the register width. Here within one
// register, by registers of half the size and not through memory.
template <std::size_t N>
inline float fold_register(typename Floats<N>::type v) {
  if constexpr (N == 1) {
    return v;
  } else {
    typename Floats<N / 2>::type low, high;
    std::memcpy(&low, &v, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
    return fold_register<N / 2>(low + high);
  }
}

inline float fold(const Vector (&sums)[kRegisters]) {
  Vector folded[kRegisters];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRegisters; ++r) folded[r] = sums[r];
#pragma GCC unroll 3
  for (std::size_t half = kRegisters / 2; half > 0; half /= 2) {
#pragma GCC unroll 4
    for (std::size_t r = 0; r < half; ++r) folded[r] += folded[r + half];
  }
  return fold_register<kVector>(folded[0]);
}

// The last elements, fewer than kLanes, go to the first lanes. Through a copy in memory: an array of registers that is
// indexed by a variable could not stay in registers anywhere.
template <class Op>
inline float fold_with_tail(const float* a, const float* b, std::size_t n, const Vector (&sums)[kRegisters]) {
  float lanes[kLanes];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRegisters; ++r) std::memcpy(lanes + r * kVector, &sums[r], sizeof(Vector));
  std::size_t lane = 0;
  for (; lane + kVector <= n; lane += kVector) {
    const Vector sum = load(lanes + lane) + Op::term(load(a + lane), load(b + lane));
    std::memcpy(lanes + lane, &sum, sizeof sum);
  }
  for (; lane < n; ++lane) lanes[lane] += Op::term(a[lane], b[lane]);
  Vector folded[kRegisters];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRegisters; ++r) folded[r] = load(lanes + r * kVector);
  return fold(folded);
}

// Reduces kRows rows against one query: their chains of additions are independent, so the processor runs them side by
// side. Each row's result is what it would be alone.
template <class Op, std::size_t kRows>
inline void reduce_together(const float* query, const float* const (&rows)[kRows], std::size_t width, float* out) {
  Vector sums[kRows][kRegisters] = {};
  std::size_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRegisters; ++r) {
      const Vector q = load(query + i + r * kVector);
#pragma GCC unroll 4
      for (std::size_t row = 0; row < kRows; ++row) sums[row][r] += Op::term(q, load(rows[row] + i + r * kVector));
    }
  }
#pragma GCC unroll 4
  for (std::size_t row = 0; row < kRows; ++row) {
    out[row] = i == width ? fold(sums[row]) : fold_with_tail<Op>(query + i, rows[row] + i, width - i, sums[row]);
  }
}

template <class Op>
inline float reduce(const float* a, const float* b, std::size_t width) {
  float result;
  reduce_together<Op, 1>(a, {b}, width, &result);
  return result;
}

inline const char* row_at(const RowSet& rows, std::size_t r) {
  const std::size_t row = rows.ids ? static_cast<std::size_t>(rows.ids[r]) : r;
  return rows.base + row * rows.stride;
}

inline const float* floats_at(const RowSet& rows, std::size_t r) {
  return reinterpret_cast<const float*>(row_at(rows, r));
}

inline void fetch(const char* row, std::size_t bytes) {
  for (std::size_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at);
}

template <class Op>
void reduce_rows(const float* query, const RowSet& rows, std::size_t width, float* out) {
  const std::size_t bytes = width * sizeof(float);
  if (rows.ids) {
    for (std::size_t r = 0; r < rows.count && r < kAhead; ++r) fetch(row_at(rows, r), bytes);
  }
  std::size_t r = 0;
  for (; r + kTogether <= rows.count; r += kTogether) {
    const float* together[kTogether];
    for (std::size_t i = 0; i < kTogether; ++i) {
      if (rows.ids && r + i + kAhead < rows.count) fetch(row_at(rows, r + i + kAhead), bytes);
      together[i] = floats_at(rows, r + i);
    }
    reduce_together<Op, kTogether>(query, together, width, out + r);
  }
  for (; r < rows.count; ++r) out[r] = reduce<Op>(query, floats_at(rows, r), width);
}

float dot(const float* a, const float* b, std::size_t width) { return reduce<Product>(a, b, width); }

float squared_l2(const float* a, const float* b, std::size_t width) { return reduce<SquaredDifference>(a, b, width); }

float l1(const float* a, const float* b, std::size_t width) { return reduce<AbsoluteDifference>(a, b, width); }

std::uint32_t hamming(const std::uint64_t* a, const std::uint64_t* b, std::size_t words) {
  std::uint64_t count = 0;
  for (std::size_t w = 0; w < words; ++w) count += static_cast<std::uint64_t>(__builtin_popcountll(a[w] ^ b[w]));
  return static_cast<std::uint32_t>(count);
}

void hamming_rows(const std::uint64_t* query, const RowSet& rows, std::size_t words, float* out) {
  for (std::size_t r = 0; r < rows.count; ++r) {
    if (rows.ids && r + kAhead < rows.count) fetch(row_at(rows, r + kAhead), words * sizeof(std::uint64_t));
    const auto* row = reinterpret_cast<const std::uint64_t*>(row_at(rows, r));
    out[r] = static_cast<float>(hamming(query, row, words));
  }
}

// Each element on its own, so any register width gives the same bits.
void move_centroid(float* centroid, float keep, const float* x, float take, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) centroid[i] = centroid[i] * keep + x[i] * take;
}

}  // namespace
}  // namespace dask_annoy

#include "kernels/coding_kernels_impl.hpp"
#include "kernels/find_kernels_impl.hpp"
#include "kernels/sort_kernels_impl.hpp"
#include "kernels/tile_kernels_impl.hpp"

namespace dask_annoy {

extern const Kernels DASK_ANNOY_TABLE;
const Kernels DASK_ANNOY_TABLE = {
    DASK_ANNOY_NAME,
    dot,
    squared_l2,
    l1,
    hamming,
    reduce_rows<Product>,
    reduce_rows<SquaredDifference>,
    reduce_rows<AbsoluteDifference>,
    hamming_rows,
    move_centroid,
    fixed_point_products,
    tell_sides,
    widen,
    sum_codes<Products, WholeBytes>,
    sum_codes<Differences, WholeBytes>,
    sum_codes<DifferingBits, WholeBytes>,
    sum_codes<Products, HalfBytes>,
    sum_codes<Differences, HalfBytes>,
    find_below,
    count_below,
    find_least,
    sort_few,
    largest_weight,
    round_weights,
    nearest_codes,
    coded_squares,
    add_scaled,
    count_ones,
    score_tile<Product>,
    score_tile<SquaredDifference>,
    score_tile<AbsoluteDifference>,
    find_not_above,
};

}  // namespace dask_annoy
