// Damage that knows what it damages.
#pragma once

#include "core/random.hpp"
#include "fuzz/input.hpp"

namespace dask_annoy::fuzz {

// Changes a file in one to five ways: bits, fields of nodes set to numbers at the edges of what they may be, children
// swapped between nodes, nodes copied, swapped, left out, doubled, ends cut and grown, numbers that are not finite, the
// end of another file in place of its own, another metric or width to open it as.
void mutate(Input& input, const Input& other, Random& random);

}  // namespace dask_annoy::fuzz
