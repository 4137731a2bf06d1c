// Digests of rows.
#include <pybind11/numpy.h>

#include "core/digest.hpp"
#include "python/bindings.hpp"

namespace dask_annoy {

namespace {

py::int_ digest(const py::array& rows, std::uint64_t first) {
  if (rows.ndim() != 2) throw py::value_error("rows must have two dimensions");
  const auto row_bytes = static_cast<std::size_t>(rows.shape(1) * rows.itemsize());
  if (rows.shape(1) > 0 && rows.shape(0) > 0 && (rows.flags() & py::array::c_style) == 0) {
    throw py::value_error("rows must be C-contiguous");
  }
  const auto* data = static_cast<const char*>(rows.data());
  const auto count = static_cast<std::size_t>(rows.shape(0));
  std::pair<std::uint64_t, std::uint64_t> sum;
  {
    const py::gil_scoped_release unlocked;
    sum = digest_rows(data, row_bytes, row_bytes, count, first);
  }
  return py::int_(sum.first).attr("__lshift__")(64).attr("__or__")(py::int_(sum.second)).cast<py::int_>();
}

}  // namespace

void bind_digest(py::module_& m) {
  m.def("digest_rows", &digest, py::arg("rows"), py::arg("first") = 0, R"doc(
A 128-bit digest of rows that does not depend on how they were cut into blocks.

The digest of the whole is the sum, modulo 2**128, of the digests of its blocks. It tells changed data from
unchanged; it does not withstand someone who forges collisions.

Parameters
----------
rows : C-contiguous array of shape (m, columns)
first : int
    Number of the first row.
)doc");
}

}  // namespace dask_annoy
