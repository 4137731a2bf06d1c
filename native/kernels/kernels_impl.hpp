// The body of all kernels, included by one source per instruction set.
//
// Only <cstddef>, <cstdint>, <cstring> and the table's type may be included here and everything has internal linkage:
// an inline function of the standard library that is compiled with wider instructions could be picked by the linker for
// code that runs on every machine.
//
// The including source defines DASK_ANNOY_VECTOR_FLOATS (floats in one register) and DASK_ANNOY_TABLE.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/table.hpp"

namespace dask_annoy {
namespace {

constexpr std::size_t kLanes = 32;
constexpr std::size_t kVector = DASK_ANNOY_VECTOR_FLOATS;
constexpr std::size_t kRegisters = kLanes / kVector;
constexpr std::size_t kAhead = 6;  // rows fetched ahead; measured flat between 4 and 12

typedef float Vector __attribute__((vector_size(kVector * sizeof(float))));
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

// Folds lane i with lane i + n/2 until one is left: the same order whatever the register width.
inline float fold(float* lanes) {
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

inline float fold(const Vector (&sums)[kRegisters]) {
  Vector folded[kRegisters];
  for (std::size_t r = 0; r < kRegisters; ++r) folded[r] = sums[r];
  for (std::size_t half = kRegisters / 2; half > 0; half /= 2) {
    for (std::size_t r = 0; r < half; ++r) folded[r] += folded[r + half];
  }
  float lanes[kVector];
  std::memcpy(lanes, &folded[0], sizeof lanes);
  for (std::size_t half = kVector / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

template <class Op>
inline float reduce(const float* a, const float* b, std::size_t width) {
  Vector sums[kRegisters] = {};
  std::size_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    for (std::size_t r = 0; r < kRegisters; ++r) {
      sums[r] += Op::term(load(a + i + r * kVector), load(b + i + r * kVector));
    }
  }
  if (i == width) return fold(sums);
  float lanes[kLanes];
  std::memcpy(lanes, sums, sizeof lanes);
  for (std::size_t lane = 0; i < width; ++i, ++lane) lanes[lane] += Op::term(a[i], b[i]);
  return fold(lanes);
}

inline const char* row_at(const RowSet& rows, std::size_t r) {
  const std::size_t row = rows.ids ? static_cast<std::size_t>(rows.ids[r]) : r;
  return rows.base + row * rows.stride;
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
  for (std::size_t r = 0; r < rows.count; ++r) {
    if (rows.ids && r + kAhead < rows.count) fetch(row_at(rows, r + kAhead), bytes);
    out[r] = reduce<Op>(query, reinterpret_cast<const float*>(row_at(rows, r)), width);
  }
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
void move_centroid(float* centroid, float weight, const float* x, float scale, std::size_t width) {
  const float total = weight + 1.0f;
  for (std::size_t i = 0; i < width; ++i) centroid[i] = (centroid[i] * weight + x[i] * scale) / total;
}

}  // namespace

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
};

}  // namespace dask_annoy
