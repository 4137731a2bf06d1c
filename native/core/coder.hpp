// Short codes of vectors, a byte or half a byte a dimension, whose sums tell approximately how near a query is.
//
// An item is coded as unsigned numbers. A query becomes signed weights (products) or numbers on the same scale
// (manhattan), a byte each, so that bias of the item + factor of the query * sum over the codes orders items as their
// distances do. For hamming the codes are the bits, and the sum is the distance. All but the last step is integer
// arithmetic: an order by codes is the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/layout.hpp"
#include "kernels/kernels.hpp"

namespace dask_annoy {

// Codes of items in the blocks that the kernels want, sixteen interleaved.
class CodeBlocks {
 public:
  explicit CodeBlocks(std::size_t groups = 0) : groups_(groups) {}

  void resize(std::size_t n_blocks);  // all zero then
  // The same in a file without a name in the folder of `path`, so that release() lets go of what was written.
  void resize_in_file(std::size_t n_blocks, const std::string& path);
  // Codes in a file stop counting as the process's memory; whoever looks at them gets them again.
  void release() const;
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
  bool is_in_file_ = false;
};

// What makes a unit vector of it where directions are compared, and 0 if it has none; 1 for other metrics.
float unit_scale(const Layout& layout, const float* vector);

class Coder {
 public:
  // Learns the range of each dimension from `count` vectors (floats of the layout's width), which are unit vectors for
  // angular. Nothing is learnt for hamming, whose codes are the vectors. `bits` of a code are 8 or 4.
  static Coder learn(const Layout& layout, const float* vectors, std::size_t count, int bits = 8);
  // From low() and step() of another.
  Coder(const Layout& layout, std::vector<float> low, std::vector<float> step, int bits = 8);

  static std::size_t bytes_of(const Layout& layout, int bits = 8);  // of an item's code
  std::size_t groups() const { return groups_; }
  std::size_t bytes() const { return 4 * groups_; }  // of an item's code
  std::size_t query_bytes() const { return is_packed() ? 2 * bytes() : bytes(); }
  int bits() const { return bits_; }
  const std::vector<float>& low() const { return low_; }
  const std::vector<float>& step() const { return step_; }

  // `vector` is a float vector (for angular of any length) or words of bits; `codes` has room for query_bytes(), of
  // which bytes() are the code. Returns the bias.
  float code_item(const void* vector, std::uint8_t* codes) const;
  // Fills query_bytes(); returns the factor.
  float code_query(const void* vector, std::uint8_t* codes) const;

  // Sums of queries against blocks: the kernel of the metric.
  SumCodes sums() const;

 private:
  bool is_packed() const { return bits_ == 4 && !is_binary(layout_.metric); }
  float highest() const { return bits_ == 4 ? 15.0f : 255.0f; }

  Layout layout_;
  int bits_;
  std::size_t groups_;
  std::vector<float> low_;   // by dimension
  std::vector<float> step_;  // likewise; 0 where all vectors agree
  // What the kernels take, likewise: steps that may be divided by, and the scale of a query's weights.
  std::vector<float> divisors_;
  std::vector<float> weights_from_;
  std::vector<float> weight_steps_;
};

}  // namespace dask_annoy
