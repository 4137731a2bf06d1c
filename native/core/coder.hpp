// Short codes of vectors, one byte a dimension, whose sums tell approximately how near a query is.
//
// An item is coded as unsigned bytes. A query becomes signed weights (products) or unsigned bytes on the same scale
// (manhattan), so that bias of the item + factor of the query * sum over the codes orders items as their distances do.
// For hamming the codes are the bits, and the sum is the distance. All but the last step is integer arithmetic: an
// order by codes is the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/layout.hpp"
#include "kernels/kernels.hpp"

namespace dask_annoy {

// Codes of items in the blocks that the kernels want, sixteen interleaved.
class CodeBlocks {
 public:
  explicit CodeBlocks(std::size_t groups = 0) : groups_(groups) {}

  void resize(std::size_t n_blocks);  // all zero then
  // Codes that others own, for reading: bytes() of them.
  void view(std::shared_ptr<const std::uint8_t> codes, std::size_t n_blocks);
  // One item's codes, 4 * groups bytes in the order of dimensions, to place `item` (of all blocks).
  void put(std::size_t item, const std::uint8_t* codes);

  std::size_t groups() const { return groups_; }
  std::size_t bytes_of_block() const { return groups_ * 4 * kItemsOfBlock; }
  std::size_t n_blocks() const { return n_blocks_; }
  std::size_t bytes() const { return n_blocks_ * bytes_of_block(); }
  const std::uint8_t* at(std::size_t block) const { return codes_.get() + block * bytes_of_block(); }

 private:
  std::size_t groups_;
  std::size_t n_blocks_ = 0;
  std::shared_ptr<const std::uint8_t> codes_;
  std::uint8_t* own_ = nullptr;  // the same, unless they are others'
};

// What makes a unit vector of it where directions are compared, and 0 if it has none; 1 for other metrics.
float unit_scale(const Layout& layout, const float* vector);

class Coder {
 public:
  // Learns the range of each dimension from `count` vectors (floats of the layout's width), which are unit vectors for
  // angular. Nothing is learnt for hamming.
  static Coder learn(const Layout& layout, const float* vectors, std::size_t count);
  // From ranges() of another.
  Coder(const Layout& layout, std::vector<float> low, std::vector<float> step);

  static std::size_t bytes_of(const Layout& layout);  // of a code
  std::size_t groups() const { return groups_; }
  std::size_t bytes() const { return 4 * groups_; }
  const std::vector<float>& low() const { return low_; }
  const std::vector<float>& step() const { return step_; }

  // `vector` is a float vector (for angular of any length) or words of bits. Returns the bias.
  float code_item(const void* vector, std::uint8_t* codes) const;
  // Returns the factor.
  float code_query(const void* vector, std::uint8_t* codes) const;

  // Sums of queries against blocks: the kernel of the metric.
  SumCodes sums() const;

 private:
  Layout layout_;
  std::size_t groups_;
  std::vector<float> low_;   // by dimension
  std::vector<float> step_;  // likewise; 0 where all vectors agree
};

}  // namespace dask_annoy
