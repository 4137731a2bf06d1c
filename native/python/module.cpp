// The native module: a table of contents.
#include "python/bindings.hpp"

PYBIND11_MODULE(_native, m) {
  m.doc() = "The C++ core of dask-annoy: forests in Annoy's format, exact search, merging.";
  dask_annoy::bind_errors();
  dask_annoy::bind_kernels(m);
  dask_annoy::bind_layout(m);
  dask_annoy::bind_index(m);
  dask_annoy::bind_exact(m);
  dask_annoy::bind_merge(m);
  dask_annoy::bind_digest(m);
}
