#include "core/item_filter.hpp"

#include <stdexcept>
#include <string>

namespace dask_annoy {

namespace {

std::uint64_t bit_of(std::size_t item) { return std::uint64_t{1} << (item % 64); }

}  // namespace

ItemFilter::ItemFilter(const Restriction& restriction, std::int32_t n_items) {
  const auto n = static_cast<std::size_t>(n_items);
  const bool all = restriction.include.kind == Selection::Kind::none;
  words_.assign((n + 63) / 64, all ? ~std::uint64_t{0} : 0);
  if (all && n % 64 != 0) words_.back() = bit_of(n) - 1;
  set(restriction.include, n_items, "include", true);
  set(restriction.exclude, n_items, "exclude", false);
  recount();
}

void ItemFilter::set(const Selection& selection, std::int32_t n_items, const char* name, bool value) {
  const auto put = [&](std::size_t item) {
    if (value) {
      words_[item / 64] |= bit_of(item);
    } else {
      words_[item / 64] &= ~bit_of(item);
    }
  };
  if (selection.kind == Selection::Kind::mask) {
    if (selection.size != static_cast<std::size_t>(n_items)) {
      throw std::invalid_argument(std::string("the mask ") + name + " has " + std::to_string(selection.size) +
                                  " values, the index " + std::to_string(n_items) + " items");
    }
    for (std::size_t item = 0; item < selection.size; ++item) {
      if (selection.mask[item] != 0) put(item);
    }
  } else if (selection.kind == Selection::Kind::numbers) {
    for (std::size_t i = 0; i < selection.size; ++i) {
      const std::int64_t item = selection.numbers[i];
      if (item < 0 || item >= n_items) {
        throw std::out_of_range(std::string(name) + " names item " + std::to_string(item) +
                                ", which is not among the " + std::to_string(n_items) + " items");
      }
      put(static_cast<std::size_t>(item));
    }
  }
}

void ItemFilter::keep_present(const Forest& forest) {
  if (!forest.has_holes) return;
  each([&](std::int32_t item) {
    if (forest.node(item).n_descendants() == 1) return;
    words_[static_cast<std::size_t>(item) / 64] &= ~bit_of(static_cast<std::size_t>(item));
  });
  recount();
}

void ItemFilter::recount() {
  count_ = 0;
  for (const std::uint64_t word : words_) count_ += static_cast<std::size_t>(__builtin_popcountll(word));
}

}  // namespace dask_annoy
