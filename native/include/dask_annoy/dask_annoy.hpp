// The whole C++ interface: #include <dask_annoy/dask_annoy.hpp> and link dask_annoy::core. See docs/cpp.md.
#pragma once

#include "core/forest_index.hpp"  // IWYU pragma: export
