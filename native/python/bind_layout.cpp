// The metrics, and the sizes of their nodes, for plans made before anything is built.
#include "core/layout.hpp"

#include <pybind11/stl.h>

#include "python/bindings.hpp"

namespace dask_annoy {

void bind_layout(py::module_& m) {
  m.def(
      "metric_names", [] { return std::vector<std::string>(kMetricNames.begin(), kMetricNames.end()); },
      "Names of the metrics.");
  m.def(
      "larger_is_better", [](const std::string& metric) { return larger_is_better(metric_from_name(metric)); },
      py::arg("metric"), "Whether the metric returns similarities and not distances.");
  m.def(
      "node_size",
      [](const std::string& metric, std::size_t width) {
        return Layout::of(metric_from_name(metric), width).node_size;
      },
      py::arg("metric"), py::arg("width"), "Bytes of one node of a forest file.");
  m.def(
      "list_capacity",
      [](const std::string& metric, std::size_t width) {
        return Layout::of(metric_from_name(metric), width).list_capacity;
      },
      py::arg("metric"), py::arg("width"), "Most item numbers that fit into a list node (a leaf).");
}

}  // namespace dask_annoy
