// Kernels for NEON, which every 64-bit ARM has.
#define DASK_ANNOY_NAME "neon"
#define DASK_ANNOY_TABLE kernels_neon
#define DASK_ANNOY_VECTOR_FLOATS 4
#define DASK_ANNOY_CODES_PORTABLE
#include "kernels/kernels_impl.hpp"
