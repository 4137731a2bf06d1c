// Distance kernels: one table of functions per instruction set, chosen at run time.
//
// All tables give the same bits. Every kernel adds element i of a vector into virtual lane i % 32 and folds the
// 32 lanes in one fixed order, multiplication and addition stay separate (the build sets -ffp-contract=off), so
// that trees and returned distances do not depend on the machine (docs/architecture.md, "Reproducible").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dask_annoy {

// Rows that lie `stride` bytes apart; `ids` names the rows wanted, or is null for rows 0, 1, 2 …
struct RowSet {
  const char* base;
  std::size_t stride;
  const std::int32_t* ids;
  std::size_t count;
};

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

  // centroid = (centroid * weight + x * scale) / (weight + 1): one step of two-means.
  void (*move_centroid)(float* centroid, float weight, const float* x, float scale, std::size_t width);
};

// The table in use: the best that this machine can run, or the one that DASK_ANNOY_KERNELS names.
// Throws std::invalid_argument when the variable names a table that is unknown or cannot run here.
const Kernels& kernels();

// Names of the tables that this machine can run, best first.
std::vector<std::string> available_kernels();

// The table of that name. Throws std::invalid_argument as kernels() does.
const Kernels& kernels_named(const std::string& name);

// Makes the table of that name the one in use, for tests and measurements; an empty name restores the default.
void use_kernels(const std::string& name);

}  // namespace dask_annoy
