// Kernels over tiles of queries × rows, included by one source per instruction set after the operations of
// kernels_impl.hpp, whose rules hold.
//
// Each pair has the 32 virtual lanes and the order of folding that it has alone, so its bits are the same. A tile goes
// through its vectors once for each register of lanes, with the sums of all its pairs in that register: as many chains
// of additions side by side as the processor has room for, however many registers the lanes take. The passes read from
// the first-level cache. Vectors are padded with zeros to a multiple of 32 elements: a lane that began at 0 is never
// -0, so adding the 0 that the padding gives changes no bit.
#pragma once

namespace dask_annoy {
namespace {

constexpr std::size_t kTileQueries = 4;
constexpr std::size_t kTileRows = kVector == 16 ? 4 : 2;  // 16 sums, and 8 where there are 16 registers

static_assert(kRowsOfTile % kTileRows == 0, "tiles are filled up to whole tiles of the kernels");

template <int... I>
struct Indices {};

template <int N, int... I>
struct IndicesUpTo : IndicesUpTo<N - 1, N - 1, I...> {};

template <int... I>
struct IndicesUpTo<0, I...> {
  typedef Indices<I...> type;
};

// Registers that hold runs of kRun lanes, one run a pair: every run folded to its half, those of `a` before those of
// `b`.
template <int kRun, int... I>
inline Vector fold_runs(Vector a, Vector b, Indices<I...>) {
  constexpr int kHalf = kRun / 2;
  return __builtin_shufflevector(a, b, (I / kHalf * kRun + I % kHalf)...) +
         __builtin_shufflevector(a, b, (I / kHalf * kRun + I % kHalf + kHalf)...);
}

// Folds each register of sums[0 … kCount − 1] to one number, and leaves them in their order in the first
// kCount / kVector registers (in the first of one, if they are fewer than its lanes).
template <std::size_t kCount, int kRun = static_cast<int>(kVector)>
inline void fold_each(Vector* sums) {
  if constexpr (kRun > 1) {
    constexpr std::size_t kFolded = kCount > 1 ? kCount / 2 : 1;
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kFolded; ++i) {
      const Vector other = kCount > 1 ? sums[2 * i + 1] : sums[2 * i];
      sums[i] = fold_runs<kRun>(sums[2 * i], other, typename IndicesUpTo<static_cast<int>(kVector)>::type());
    }
    fold_each<kFolded, kRun / 2>(sums);
  }
}

// `width` is a multiple of kLanes, and row r lies at rows + r * width.
template <class Op, std::size_t kQueries>
inline void score_pairs(const float* const* queries, const float* rows, std::size_t width, float* out,
                        std::size_t out_stride) {
  constexpr std::size_t kPairs = kQueries * kTileRows;
  Vector lanes[kRegisters][kPairs];
#pragma GCC unroll 1
  for (std::size_t r = 0; r < kRegisters; ++r) {
    Vector sums[kPairs] = {};
    for (std::size_t i = r * kVector; i < width; i += kLanes) {
      Vector row[kTileRows];
#pragma GCC unroll 4
      for (std::size_t j = 0; j < kTileRows; ++j) row[j] = load(rows + j * width + i);
#pragma GCC unroll 4
      for (std::size_t q = 0; q < kQueries; ++q) {
        const Vector query = load(queries[q] + i);
#pragma GCC unroll 4
        for (std::size_t j = 0; j < kTileRows; ++j) sums[q * kTileRows + j] += Op::term(query, row[j]);
      }
    }
#pragma GCC unroll 16
    for (std::size_t p = 0; p < kPairs; ++p) lanes[r][p] = sums[p];
  }
  Vector folded[kPairs];
#pragma GCC unroll 16
  for (std::size_t p = 0; p < kPairs; ++p) {
    Vector of_pair[kRegisters];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRegisters; ++r) of_pair[r] = lanes[r][p];
#pragma GCC unroll 3
    for (std::size_t half = kRegisters / 2; half > 0; half /= 2) {
#pragma GCC unroll 4
      for (std::size_t r = 0; r < half; ++r) of_pair[r] += of_pair[r + half];
    }
    folded[p] = of_pair[0];
  }
  fold_each<kPairs>(folded);
  float results[kPairs > kVector ? kPairs : kVector];
#pragma GCC unroll 4
  for (std::size_t i = 0; i * kVector < kPairs; ++i) std::memcpy(results + i * kVector, &folded[i], sizeof(Vector));
#pragma GCC unroll 4
  for (std::size_t q = 0; q < kQueries; ++q) {
    std::memcpy(out + q * out_stride, results + q * kTileRows, kTileRows * sizeof(float));
  }
}

template <class Op, std::size_t kQueries>
inline void score_against(const float* const* queries, const float* rows, std::size_t n_rows, std::size_t width,
                          float* out, std::size_t out_stride) {
  for (std::size_t r = 0; r < n_rows; r += kTileRows) {
    score_pairs<Op, kQueries>(queries, rows + r * width, width, out + r, out_stride);
  }
}

template <class Op>
void score_tile(const float* const* queries, std::size_t n_queries, const float* rows, std::size_t n_rows,
                std::size_t width, float* out, std::size_t out_stride) {
  std::size_t q = 0;
  for (; q + kTileQueries <= n_queries; q += kTileQueries) {
    score_against<Op, kTileQueries>(queries + q, rows, n_rows, width, out + q * out_stride, out_stride);
  }
  if (q + 2 <= n_queries) {
    score_against<Op, 2>(queries + q, rows, n_rows, width, out + q * out_stride, out_stride);
    q += 2;
  }
  if (q < n_queries) score_against<Op, 1>(queries + q, rows, n_rows, width, out + q * out_stride, out_stride);
}

}  // namespace
}  // namespace dask_annoy
