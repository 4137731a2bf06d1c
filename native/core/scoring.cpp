#include "core/scoring.hpp"

#include <cmath>
#include <limits>

namespace dask_annoy {

namespace {

// 2 − 2 cos, which is the squared distance of the unit vectors; 2 where one has no direction.
inline float angular(float product, float norm_a, float norm_b) {
  const float norms = norm_a * norm_b;
  return norms > 0.0f ? 2.0f - 2.0f * product / std::sqrt(norms) : 2.0f;
}

// From sums of products or of squares to what is compared. Never NaN: that would have no place in an order.
void finish(Metric metric, float* out, std::size_t n) {
  for (std::size_t r = 0; r < n; ++r) {
    float distance = metric == Metric::dot ? -out[r] : out[r];
    if (!(distance == distance)) distance = std::numeric_limits<float>::infinity();
    if (metric == Metric::angular || metric == Metric::euclidean) {
      distance = std::sqrt(distance > 0.0f ? distance : 0.0f);  // rounding may take angular below zero
    }
    out[r] = distance;
  }
}

// All metrics but for the last steps.
void score_vectors(const Layout& layout, const Query& query, const RowSet& rows, float* out) {
  const Kernels& k = kernels();
  switch (layout.metric) {
    case Metric::angular:
    case Metric::dot:
      k.dot_rows(query.values, rows, layout.width, out);
      return;
    case Metric::euclidean:
      k.squared_l2_rows(query.values, rows, layout.width, out);
      return;
    case Metric::manhattan:
      k.l1_rows(query.values, rows, layout.width, out);
      return;
    case Metric::hamming:
      k.hamming_rows(query.bits, rows, layout.words, out);
      return;
  }
}

}  // namespace

Query Query::of(const Layout& layout, const void* vector) {
  Query query;
  if (is_binary(layout.metric)) {
    query.bits = static_cast<const std::uint64_t*>(vector);
  } else {
    query.values = static_cast<const float*>(vector);
  }
  if (stores_norm(layout.metric)) {
    query.squared_norm = kernels().dot(query.values, query.values, layout.width);
  }
  return query;
}

void score_nodes(const Layout& layout, const Query& query, const RowSet& nodes, float* out) {
  RowSet vectors = nodes;
  vectors.base += layout.vector_offset;
  score_vectors(layout, query, vectors, out);
  if (stores_norm(layout.metric)) {
    for (std::size_t r = 0; r < nodes.count; ++r) {
      const std::size_t row = nodes.ids ? static_cast<std::size_t>(nodes.ids[r]) : r;
      const NodeView node(nodes.base + row * nodes.stride, layout);
      float norm = node.scalar();
      // Some writers leave the norm out: Annoy takes 0 for "compute it".
      if (norm == 0.0f) norm = kernels().dot(node.vector(), node.vector(), layout.width);
      out[r] = angular(out[r], query.squared_norm, norm);
    }
  }
  finish(layout.metric, out, nodes.count);
}

void score_rows(const Layout& layout, const Query& query, const RowSet& rows, const float* squared_norms, float* out) {
  score_vectors(layout, query, rows, out);
  finish_sums(layout.metric, query.squared_norm, squared_norms, out, rows.count);
}

void finish_sums(Metric metric, float query_squared_norm, const float* squared_norms, float* sums, std::size_t n) {
  if (stores_norm(metric)) {
    for (std::size_t r = 0; r < n; ++r) sums[r] = angular(sums[r], query_squared_norm, squared_norms[r]);
  }
  finish(metric, sums, n);
}

float score_pair(const Layout& layout, const char* node_a, const char* node_b) {
  const Query query = Query::of(layout, node_a + layout.vector_offset);
  float distance = 0.0f;
  score_nodes(layout, query, RowSet{node_b, layout.node_size, nullptr, 1}, &distance);
  return distance;
}

}  // namespace dask_annoy
