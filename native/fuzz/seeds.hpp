// Sound files to start from.
#pragma once

#include <vector>

#include "fuzz/input.hpp"

namespace dask_annoy::fuzz {

// Small forests of all metrics and of both layouts of dot: without items, with one, few and many, with holes, with
// items that are all equal, with one tree and with several. The same on every machine.
std::vector<Input> seeds();

}  // namespace dask_annoy::fuzz
