// Believing nothing of a forest's bytes that was not checked.
#pragma once

#include <string>

#include "core/forest.hpp"

namespace dask_annoy {

constexpr std::size_t kCheckedAtOnce = std::size_t{4} << 20;  // bytes a thread takes at a time

// Fills in the roots and the number of items of a forest whose layout, bytes and number of nodes (at least one) are
// set, and checks every node; see parse_forest.
void check_forest(Forest& forest, const std::string& where, std::size_t n_threads, Cancellation& cancellation,
                  const ByteHints& hints, std::size_t block_bytes = kCheckedAtOnce);

// Whether a root is all there is of its tree: a list, or a split of nothing but items.
bool is_whole_tree(const Forest& forest, std::int32_t root);

}  // namespace dask_annoy
