// Kernels for NEON, which every 64-bit ARM has.
#define DASK_ANNOY_NAME "neon"
#define DASK_ANNOY_TABLE kernels_neon
#define DASK_ANNOY_VECTOR_FLOATS 4
#include "kernels/kernels_impl.hpp"
