// Kernels for every machine of the architecture (x86-64: SSE2).
#define DASK_ANNOY_NAME "baseline"
#define DASK_ANNOY_TABLE kernels_baseline
#define DASK_ANNOY_VECTOR_FLOATS 4
#if defined(__SSE2__)
#define DASK_ANNOY_CODES_SSE2
#else
#define DASK_ANNOY_CODES_PORTABLE
#endif
#include "kernels/kernels_impl.hpp"
