// One function a concept; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace dask_annoy {

namespace py = pybind11;

class HeldIndex;

// An argument that takes whole numbers only: pybind11 would cut off what follows the point of numpy's floats, of
// Decimal and of Fraction.
inline py::arg integer(const char* name) { return py::arg(name).noconvert(); }

void bind_errors();
void bind_kernels(py::module_& m);
void bind_layout(py::module_& m);
void bind_index(py::module_& m);
// Called by bind_index.
void bind_queries(py::class_<HeldIndex>& index);
void bind_contents(py::class_<HeldIndex>& index);
void bind_exact(py::module_& m);
void bind_merge(py::module_& m);
void bind_digest(py::module_& m);

}  // namespace dask_annoy
