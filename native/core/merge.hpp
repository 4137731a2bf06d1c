// Merging the best of several shards.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dask_annoy {

// From `n_columns` hits a row (several sorted answers side by side) picks the best k: nearer first, ties by key (slot
// and item number), keys of −1 are no hits. Writes the picked columns, padded with −1.
void merge_rows(const float* distances, const std::int64_t* keys, std::size_t n_rows, std::size_t n_columns,
                std::size_t k, bool larger_is_better, std::int32_t* picked);

}  // namespace dask_annoy
