#include "core/item_set.hpp"

namespace dask_annoy {

std::vector<std::int32_t> ItemSet::at_ranks(const std::vector<std::size_t>& ranks) const {
  std::vector<std::int32_t> numbers;
  numbers.reserve(ranks.size());
  if (!has_holes()) {
    for (const std::size_t rank : ranks) numbers.push_back(static_cast<std::int32_t>(rank));
    return numbers;
  }
  std::size_t before = 0;  // items in earlier words
  std::size_t next = 0;
  for (std::size_t w = 0; w < words_.size() && next < ranks.size(); ++w) {
    std::uint64_t word = words_[w];
    const auto here = static_cast<std::size_t>(__builtin_popcountll(word));
    std::size_t rank = before;
    while (next < ranks.size() && ranks[next] < before + here) {
      for (; rank < ranks[next]; ++rank) word &= word - 1;
      numbers.push_back(static_cast<std::int32_t>(64 * w + static_cast<std::size_t>(__builtin_ctzll(word))));
      ++next;
    }
    before += here;
  }
  return numbers;
}

}  // namespace dask_annoy
