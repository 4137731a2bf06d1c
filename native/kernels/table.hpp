// The functions of one instruction set. Included by the kernels themselves: nothing here may be an inline function of
// the standard library (kernels_impl.hpp says why).
#pragma once

#include <cstddef>
#include <cstdint>

namespace dask_annoy {

// Rows that lie `stride` bytes apart; `ids` names the rows wanted, or is null for rows 0, 1, 2 …
struct RowSet {
  const char* base;
  std::size_t stride;
  const std::int32_t* ids;
  std::size_t count;
};

// Items whose codes lie interleaved: see code_kernels_impl.hpp.
constexpr std::size_t kItemsOfBlock = 16;

// What the rows of fixed_point_products are filled up to, with zeros: a register of any instruction set.
constexpr std::size_t kIntegersOfStep = 32;

// Sums over codes: n_queries rows of 4 * groups bytes (8 * groups for nibbles) against blocks of 4 * groups *
// kItemsOfBlock bytes, into out[q * n_blocks * kItemsOfBlock + item].
using SumCodes = void (*)(const std::uint8_t* const* queries, std::size_t n_queries, const std::uint8_t* blocks,
                          std::size_t n_blocks, std::size_t groups, std::int32_t* out);

// What sort_few sorts at most.
constexpr std::size_t kSortedAtMost = 128;

// Rows that lie side by side are scored in whole tiles of so many.
constexpr std::size_t kRowsOfTile = 16;

// out[q * out_stride + r] = f(query q, row r), with the bits that the pair has alone. All vectors are padded with zeros
// to `width`, a multiple of 32; row r lies at rows + r * width; n_rows is a multiple of kRowsOfTile.
using ScoreTile = void (*)(const float* const* queries, std::size_t n_queries, const float* rows, std::size_t n_rows,
                           std::size_t width, float* out, std::size_t out_stride);

struct Kernels {
  const char* name;

  float (*dot)(const float* a, const float* b, std::size_t width);
  float (*squared_l2)(const float* a, const float* b, std::size_t width);
  float (*l1)(const float* a, const float* b, std::size_t width);
  std::uint32_t (*hamming)(const std::uint64_t* a, const std::uint64_t* b, std::size_t words);

  // out[r] = f(query, row r). Rows are fetched ahead, as their order is random to the hardware.
  void (*dot_rows)(const float* query, const RowSet& rows, std::size_t width, float* out);
  void (*squared_l2_rows)(const float* query, const RowSet& rows, std::size_t width, float* out);
  void (*l1_rows)(const float* query, const RowSet& rows, std::size_t width, float* out);
  void (*hamming_rows)(const std::uint64_t* query, const RowSet& rows, std::size_t words, float* out);

  // centroid = centroid * keep + x * take: one step of two-means.
  void (*move_centroid)(float* centroid, float keep, const float* x, float take, std::size_t width);

  // Products of the query's `n` integers with each row's; `n` is a multiple of kIntegersOfStep. See
  // fixed_point_kernels_impl.hpp for what keeps the sums within 32 bits.
  void (*fixed_point_products)(const std::int16_t* query, const RowSet& rows, std::size_t n, std::int32_t* out);

  // sides[i] = products[i] > above. Notes the places i where the product is from `below` to `above`, ascending, and
  // returns their number; `untold` has room for n + 1.
  std::size_t (*tell_sides)(const std::int32_t* products, std::size_t n, std::int32_t below, std::int32_t above,
                            std::uint8_t* sides, std::int32_t* untold);

  // out[i] = values[i].
  void (*widen)(const std::int16_t* values, std::size_t n, float* out);

  SumCodes code_products;     // of the item's unsigned bytes with the query's signed ones, which are within -63 … 63
  SumCodes code_differences;  // absolute, of unsigned bytes
  SumCodes differing_bits;
  SumCodes nibble_products;     // as code_products, of codes of half a byte with weights within -127 … 127
  SumCodes nibble_differences;  // queries have values of half a byte, too, in a byte each

  // The places i of bias + factor * sum below the limit, ascending; returns their number. `n` is a multiple of
  // kItemsOfBlock, and `found` has room for n + 1.
  std::size_t (*find_below)(const std::int32_t* sums, const float* biases, std::size_t n, float factor, float limit,
                            std::uint32_t* found);

  // How many of bias + factor * sum are below the limit, and the first place of the least; `n` as above.
  std::size_t (*count_below)(const std::int32_t* sums, const float* biases, std::size_t n, float factor, float limit);
  std::size_t (*find_least)(const std::int32_t* sums, const float* biases, std::size_t n, float factor);

  // The numbers, all different and at most kSortedAtMost, in ascending order.
  void (*sort_few)(const std::uint64_t* numbers, std::size_t n, std::uint64_t* sorted);

  // The largest |weight| of a vector's values, where weight = (value * scale - from) * step; NaN if there is one.
  float (*largest_weight)(const float* vector, float scale, const float* from, const float* steps, std::size_t n);

  // The weights / factor, cut to -most … most (which is below 128), rounded to the nearest, halves to even.
  void (*round_weights)(const float* vector, float scale, const float* from, const float* steps, float factor,
                        float most, std::size_t n, std::int8_t* rounded);

  // (value * scale - low) / step, cut to 0 … highest (which is below 256), rounded to the nearest; 0 for NaN.
  void (*nearest_codes)(const float* vector, float scale, const float* low, const float* steps, float highest,
                        std::size_t n, std::uint8_t* codes);

  // The sum of ((code - middle) * step)^2, in the order of lanes that kernels.hpp promises.
  float (*coded_squares)(const std::uint8_t* codes, const float* steps, float middle, std::size_t n);

  // sums[i] += vector[i] * scale, the product rounded to a float.
  void (*add_scaled)(const float* vector, float scale, std::size_t n, double* sums);

  // counts[i] += bit i, of 64 * words bits.
  void (*count_ones)(const std::uint64_t* bits, std::size_t words, std::int32_t* counts);

  ScoreTile dot_tile;
  ScoreTile squared_l2_tile;
  ScoreTile l1_tile;

  // The places i where value * scale is not above the limit (NaN is not), ascending; returns their number. `n` is a
  // multiple of kRowsOfTile, and `found` has room for n + 1.
  std::size_t (*find_not_above)(const float* values, const float* scales, std::size_t n, float limit,
                                std::uint32_t* found);
};

}  // namespace dask_annoy
