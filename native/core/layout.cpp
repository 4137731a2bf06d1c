#include "core/layout.hpp"

#include <limits>

namespace dask_annoy {

namespace {

void set_sizes(Layout& layout) {
  layout.node_size = layout.vector_offset + (is_binary(layout.metric) ? 8 * layout.words : 4 * layout.width);
  layout.list_capacity = static_cast<std::int32_t>((layout.node_size - layout.children_offset) / 4);
}

}  // namespace

Layout Layout::of(Metric metric, std::size_t width) {
  constexpr std::size_t kLargest = std::numeric_limits<std::int32_t>::max() / 16;
  if (width > kLargest) {
    throw std::invalid_argument("vectors of " + std::to_string(width) + " dimensions are too wide; at most " +
                                std::to_string(kLargest) + " are possible");
  }
  Layout layout{};
  layout.metric = metric;
  layout.width = width;
  layout.words = (width + 63) / 64;
  switch (metric) {
    case Metric::angular:
      layout.children_offset = 4;
      layout.scalar_offset = 4;  // shared with the children: an item has a norm, a split has children
      layout.vector_offset = 12;
      break;
    case Metric::euclidean:
    case Metric::manhattan:
      layout.scalar_offset = 4;
      layout.children_offset = 8;
      layout.vector_offset = 16;
      break;
    case Metric::dot:
      layout.children_offset = 4;
      layout.scalar_offset = 12;
      layout.vector_offset = 16;
      break;
    case Metric::hamming:
      layout.children_offset = 4;
      layout.scalar_offset = 12;  // padding; stays zero
      layout.vector_offset = 16;
      break;
  }
  layout.extra_in_margin = metric == Metric::dot;
  set_sizes(layout);
  return layout;
}

Layout Layout::of_development_dot(std::size_t width) {
  Layout layout = of(Metric::dot, width);
  layout.vector_offset = 24;
  layout.extra_in_margin = false;
  set_sizes(layout);
  return layout;
}

}  // namespace dask_annoy
