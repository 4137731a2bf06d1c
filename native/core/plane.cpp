#include "core/plane.hpp"

#include <algorithm>

namespace dask_annoy {

void Plane::write(NodeWriter node, const Layout& layout) const {
  if (rule.random) return;
  if (is_binary(layout.metric)) {
    node.bits()[0] = rule.bit;
    return;
  }
  std::copy(normal.begin(), normal.end(), node.vector());
  // The extra dimension of dot is left out: a query has none, and Annoy 1.17.3 would add its square to the margin.
  if (layout.metric == Metric::euclidean || layout.metric == Metric::manhattan) node.set_scalar(rule.offset);
}

}  // namespace dask_annoy
