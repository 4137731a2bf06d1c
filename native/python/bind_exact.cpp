// Exact search over a stream of rows.
#include "core/exact.hpp"

#include <memory>
#include <mutex>

#include "python/arrays.hpp"

namespace dask_annoy {

namespace {

// The search and the lock that makes it safe to hand to several Python threads.
struct PyExactSearch {
  PyExactSearch(const Layout& layout_, const Rows& queries, std::size_t k)
      : layout(layout_), search(layout_, queries.data, queries.stride, queries.count, k) {}

  const Layout layout;
  ExactSearch search;
  mutable std::mutex mutex;
};

std::unique_ptr<PyExactSearch> make(const py::object& queries, const std::string& metric, std::size_t width,
                                    std::size_t k, bool packed) {
  if (width == 0) throw py::value_error("width must be a positive number of dimensions");
  const Layout layout = Layout::of(metric_from_name(metric), width);
  return std::make_unique<PyExactSearch>(layout, rows_from(queries, layout, packed), k);
}

void add(PyExactSearch& self, const py::object& block, std::int64_t first, bool packed, int n_jobs) {
  const Rows rows = rows_from(block, self.layout, packed);
  const std::size_t n_threads = thread_count(n_jobs);
  Cancellation cancellation = interruptible();
  const py::gil_scoped_release unlocked;
  const std::lock_guard<std::mutex> lock(self.mutex);
  self.search.add(rows.data, rows.stride, rows.count, first, n_threads, cancellation);
}

py::tuple answers(const PyExactSearch& self) {
  const auto m = static_cast<py::ssize_t>(self.search.n_queries());
  const auto k = static_cast<py::ssize_t>(self.search.k());
  py::array_t<std::int64_t> ids({m, k});
  py::array_t<float> distances({m, k});
  std::int64_t* id_data = ids.mutable_data();
  float* distance_data = distances.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    const std::lock_guard<std::mutex> lock(self.mutex);
    self.search.answers(id_data, distance_data);
  }
  return py::make_tuple(ids, distances);
}

}  // namespace

void bind_exact(py::module_& m) {
  py::class_<PyExactSearch>(m, "ExactSearch", py::is_final(), R"doc(
Exact k nearest neighbours over a stream of row blocks.

Parameters
----------
queries : array of shape (m, width)
    Copied. With ``packed=True`` uint8 of shape (m, ceil(width / 8)) in the order of :func:`numpy.packbits`.
metric : str
width : int
    Dimensions of a vector.
k : int
    Neighbours kept for each query.
)doc")
      .def(py::init(&make), py::arg("queries"), py::arg("metric"), py::arg("width"), py::arg("k"), py::kw_only(),
           py::arg("packed") = false)
      .def("add", &add, py::arg("rows"), py::arg("first"), py::kw_only(), py::arg("packed") = false,
           py::arg("n_jobs") = -1, "Look at a block of rows; row r of it gets the number ``first + r``.")
      .def("answers", &answers,
           "The best so far: (ids, distances), int64 and float32 of shape (m, k), nearest first, padded with -1 and "
           "infinity (-infinity for dot).");
}

}  // namespace dask_annoy
