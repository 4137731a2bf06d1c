// Distances from a query to items, in the form in which they are compared.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/layout.hpp"
#include "kernels/kernels.hpp"

namespace dask_annoy {

// A query as scoring wants it: floats, or words of bits, and the squared norm where the metric needs it.
struct Query {
  const float* values = nullptr;
  const std::uint64_t* bits = nullptr;
  float squared_norm = 0.0f;

  static Query of(const Layout& layout, const void* vector);
};

// Scores nodes that hold items: `nodes.base` points at a node and the stride is the node size.
void score_nodes(const Layout& layout, const Query& query, const RowSet& nodes, float* out);

// Scores bare vectors; `squared_norms` holds theirs (angular only, else null).
void score_rows(const Layout& layout, const Query& query, const RowSet& rows, const float* squared_norms, float* out);

// The last steps of scoring: from sums over vectors (products; squares for euclidean) to distances, in place.
// `squared_norms` holds the rows' (angular only).
void finish_sums(Metric metric, float query_squared_norm, const float* squared_norms, float* sums, std::size_t n);

// One item against another, both as nodes.
float score_pair(const Layout& layout, const char* node_a, const char* node_b);

}  // namespace dask_annoy
