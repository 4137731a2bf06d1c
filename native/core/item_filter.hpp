// Which items an answer may hold: a search restricted to some items, or kept from some.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/forest.hpp"

namespace dask_annoy {

// Items as a caller names them: by a mask (a byte for each item of the index), by numbers, or not at all.
struct Selection {
  enum class Kind : std::uint8_t { none, mask, numbers };

  Kind kind = Kind::none;
  const std::uint8_t* mask = nullptr;
  const std::int64_t* numbers = nullptr;
  std::size_t size = 0;
};

// What a caller asks for: only what is included (everything, if nothing is said), without what is excluded.
struct Restriction {
  Selection include;
  Selection exclude;

  bool any() const { return include.kind != Selection::Kind::none || exclude.kind != Selection::Kind::none; }
};

// One bit an item, set for those that pass, and their number.
class ItemFilter {
 public:
  // std::out_of_range for a number that is no item's, std::invalid_argument for a mask of another length than n_items.
  ItemFilter(const Restriction& restriction, std::int32_t n_items);

  // Holes do not pass from now on.
  void keep_present(const Forest& forest);

  bool passes(std::int32_t item) const { return (words_[static_cast<std::size_t>(item) / 64] >> (item % 64) & 1) != 0; }
  std::size_t count() const { return count_; }

  // Calls visit(item) for each that passes, in ascending order.
  template <class Visit>
  void each(Visit&& visit) const {
    for (std::size_t w = 0; w < words_.size(); ++w) {
      for (std::uint64_t left = words_[w]; left != 0; left &= left - 1) {
        visit(static_cast<std::int32_t>(64 * w) + __builtin_ctzll(left));
      }
    }
  }

 private:
  void set(const Selection& selection, std::int32_t n_items, const char* name, bool value);
  void recount();

  std::vector<std::uint64_t> words_;
  std::size_t count_ = 0;
};

// Hands the items that pass to visit(items), `most` at a time; `block` is where they are collected.
template <class Visit>
void each_block(const ItemFilter& filter, std::size_t most, std::vector<std::int32_t>& block, Visit&& visit) {
  block.clear();
  filter.each([&](std::int32_t item) {
    block.push_back(item);
    if (block.size() < most) return;
    visit(block);
    block.clear();
  });
  if (!block.empty()) visit(block);
  block.clear();
}

}  // namespace dask_annoy
