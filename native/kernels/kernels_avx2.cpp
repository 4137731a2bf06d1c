// Kernels for AVX2, FMA and POPCNT; compiled with those flags and called only where the CPU has them.
#define DASK_ANNOY_NAME "avx2"
#define DASK_ANNOY_TABLE kernels_avx2
#define DASK_ANNOY_VECTOR_FLOATS 8
#define DASK_ANNOY_CODES_AVX2
#include "kernels/kernels_impl.hpp"
