// Annoy's node, byte by byte: that of release 1.17.3, and for dot also that of its development version.
//
// A file is an array of nodes of one size. The first n_items nodes are the items, then come the nodes of the trees,
// children before parents, then a copy of every root. What a node is follows from its n_descendants alone:
// an item (1, index below n_items), a hole (0), a list of item numbers (at most list_capacity), or a split (more).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/metric.hpp"

namespace dask_annoy {

struct Layout {
  Metric metric;
  std::size_t width;            // dimensions as the user counts them
  std::size_t words;            // hamming: 64-bit words of a vector
  std::size_t node_size;        // bytes
  std::size_t children_offset;  // two int32; item numbers of a list start here, too
  std::size_t scalar_offset;    // angular: squared norm; euclidean, manhattan: plane offset; dot: extra dimension
  std::size_t vector_offset;
  std::int32_t list_capacity;  // most item numbers that fit into a list node
  bool extra_in_margin;        // dot: whether a split's extra dimension adds its square to a query's margin

  // That of 1.17.3, which is also the one we write. Throws std::invalid_argument when the width is too large for a
  // node.
  static Layout of(Metric metric, std::size_t width);

  // Nodes of dot in files of Annoy's development version, which are only read: eight bytes more before the vector, for
  // the square of the largest norm and a byte that says "built". Throws as of() does.
  static Layout of_development_dot(std::size_t width);

  bool is_development_dot() const { return metric == Metric::dot && !extra_in_margin; }

  std::size_t vector_bytes() const { return node_size - vector_offset; }

  friend bool operator==(const Layout& a, const Layout& b) {
    return a.metric == b.metric && a.width == b.width && a.node_size == b.node_size;
  }
  friend bool operator!=(const Layout& a, const Layout& b) { return !(a == b); }
};

// Reading a node in place.
class NodeView {
 public:
  NodeView(const char* node, const Layout& layout) : node_(node), layout_(&layout) {}

  std::int32_t n_descendants() const { return int_at(0); }
  std::int32_t child(int side) const { return int_at(layout_->children_offset + 4 * static_cast<std::size_t>(side)); }
  const std::int32_t* list() const { return reinterpret_cast<const std::int32_t*>(node_ + layout_->children_offset); }
  float scalar() const {
    float value;
    std::memcpy(&value, node_ + layout_->scalar_offset, sizeof value);
    return value;
  }
  const float* vector() const { return reinterpret_cast<const float*>(node_ + layout_->vector_offset); }
  const std::uint64_t* bits() const { return reinterpret_cast<const std::uint64_t*>(node_ + layout_->vector_offset); }
  const char* bytes() const { return node_; }

  // Items of the development version's dot only, which have it once their index is built.
  bool says_built() const { return node_[layout_->vector_offset - 4] == 1; }

 private:
  std::int32_t int_at(std::size_t offset) const {
    std::int32_t value;
    std::memcpy(&value, node_ + offset, sizeof value);
    return value;
  }

  const char* node_;
  const Layout* layout_;
};

// Writing a node; the caller hands zeroed bytes, so that padding never holds chance values.
class NodeWriter {
 public:
  NodeWriter(char* node, const Layout& layout) : node_(node), layout_(&layout) {}

  void set_n_descendants(std::int32_t n) { put(0, n); }
  void set_child(int side, std::int32_t id) { put(layout_->children_offset + 4 * static_cast<std::size_t>(side), id); }
  void set_scalar(float value) { put(layout_->scalar_offset, value); }
  std::int32_t* list() { return reinterpret_cast<std::int32_t*>(node_ + layout_->children_offset); }
  float* vector() { return reinterpret_cast<float*>(node_ + layout_->vector_offset); }
  std::uint64_t* bits() { return reinterpret_cast<std::uint64_t*>(node_ + layout_->vector_offset); }

 private:
  template <class T>
  void put(std::size_t offset, T value) {
    std::memcpy(node_ + offset, &value, sizeof value);
  }

  char* node_;
  const Layout* layout_;
};

// Annoy counts the bits of a word from the top in split nodes and from the bottom in items.
inline bool bit_of_split(const std::uint64_t* bits, std::uint64_t split_bit) {
  return (bits[split_bit / 64] >> (63 - split_bit % 64)) & 1;
}

inline std::uint64_t split_bit_of_dimension(std::size_t dimension) {
  return 64 * (dimension / 64) + 63 - dimension % 64;
}

}  // namespace dask_annoy
