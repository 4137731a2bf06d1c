// Which planes part items of dot best: Annoy's two ways, tried on a sample.
#pragma once

#include <cstdint>

#include "core/parallel.hpp"
#include "core/row_block.hpp"

namespace dask_annoy {

// Rows that are enough to tell.
std::size_t rows_to_choose_planes_on(const Layout& layout);

// Planes of dot either know an extra dimension that lifts every item to the largest norm (Bachrach et al., RecSys
// 2014), or go by the items' directions alone. The first find more where norms are alike, or components positive; the
// second where norms spread widely. True where small forests over the rows, asked for the rows' own neighbours, find at
// least as much with the first.
bool lifting_finds_more(const RowBlock& rows, std::uint64_t seed, Cancellation& cancellation);

}  // namespace dask_annoy
