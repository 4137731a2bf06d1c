// Kernels for AVX-512 with VNNI and VPOPCNTDQ; compiled with those flags and called only where the CPU has them.
#define DASK_ANNOY_NAME "avx512vnni"
#define DASK_ANNOY_TABLE kernels_avx512vnni
#define DASK_ANNOY_VECTOR_FLOATS 16
#define DASK_ANNOY_CODES_VNNI
#include "kernels/kernels_impl.hpp"
