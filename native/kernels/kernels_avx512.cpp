// Kernels for AVX-512 (F, BW, DQ, VL); compiled with those flags and called only where the CPU has them.
#define DASK_ANNOY_NAME "avx512"
#define DASK_ANNOY_TABLE kernels_avx512
#define DASK_ANNOY_VECTOR_FLOATS 16
#define DASK_ANNOY_CODES_AVX512
#include "kernels/kernels_impl.hpp"
