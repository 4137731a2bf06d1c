// All items within a distance.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/forest.hpp"
#include "core/item_filter.hpp"
#include "core/parallel.hpp"
#include "core/topk.hpp"

namespace dask_annoy {

// The items that are not farther than `radius` (in compared form), nearest first, at most `limit` of them. With a
// negative search_k all items are scored and the answer is exact; otherwise those that search() would score are.
std::vector<Neighbor> within(const Forest& forest, const void* query, double radius, std::size_t limit,
                             std::int64_t search_k, const ItemFilter* filter, Cancellation& cancellation);

}  // namespace dask_annoy
