// Merging answers of shards.
#include <pybind11/numpy.h>

#include "core/merge.hpp"
#include "python/bindings.hpp"

namespace dask_annoy {

namespace {

py::array_t<std::int32_t> merge(const py::array_t<float, py::array::c_style>& distances,
                                const py::array_t<std::int64_t, py::array::c_style>& keys, std::size_t k,
                                bool larger_is_better) {
  if (distances.ndim() != 2 || keys.ndim() != 2 || distances.shape(0) != keys.shape(0) ||
      distances.shape(1) != keys.shape(1)) {
    throw py::value_error("distances and keys must be of one shape (rows, columns)");
  }
  const auto rows = static_cast<std::size_t>(distances.shape(0));
  const auto columns = static_cast<std::size_t>(distances.shape(1));
  py::array_t<std::int32_t> picked({rows, k});
  const float* distance = distances.data();
  const std::int64_t* key = keys.data();
  std::int32_t* out = picked.mutable_data();
  // The arrays are held by the caller's frame.
  const py::gil_scoped_release unlocked;
  merge_rows(distance, key, rows, columns, k, larger_is_better, out);
  return picked;
}

}  // namespace

void bind_merge(py::module_& m) {
  m.def("merge_rows", &merge, py::arg("distances"), py::arg("keys"), py::arg("k"), py::arg("larger_is_better") = false,
        R"doc(
Pick the best ``k`` columns of each row.

Parameters
----------
distances : float32 array of shape (rows, columns)
    Hits of several sources side by side.
keys : int64 array of the same shape
    Order among equal distances; negative keys are no hits.
k : int
larger_is_better : bool

Returns
-------
int32 array of shape (rows, k)
    Columns picked, nearest first, padded with -1.
)doc");
}

}  // namespace dask_annoy
