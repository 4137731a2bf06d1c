// Which of the numbers 0 … n−1 have an item.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dask_annoy {

class ItemSet {
 public:
  std::int32_t size() const { return size_; }  // highest number + 1
  std::size_t count() const { return count_; }
  bool has_holes() const { return count_ != static_cast<std::size_t>(size_); }

  bool contains(std::int32_t number) const {
    const auto n = static_cast<std::size_t>(number);
    return number < size_ && (words_[n / 64] >> (n % 64) & 1) != 0;
  }

  void add(std::int32_t number) {
    if (number >= size_) {
      size_ = number + 1;
      words_.resize((static_cast<std::size_t>(size_) + 63) / 64);
    }
    const auto n = static_cast<std::size_t>(number);
    std::uint64_t& word = words_[n / 64];
    const std::uint64_t bit = std::uint64_t{1} << (n % 64);
    if ((word & bit) == 0) ++count_;
    word |= bit;
  }

  // The numbers at those ranks (ascending) among the numbers that have an item.
  std::vector<std::int32_t> at_ranks(const std::vector<std::size_t>& ranks) const;

 private:
  std::int32_t size_ = 0;
  std::size_t count_ = 0;
  std::vector<std::uint64_t> words_;
};

}  // namespace dask_annoy
