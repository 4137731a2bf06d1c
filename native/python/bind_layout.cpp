// The metrics, the sizes of their nodes, and what builds take, for plans made before anything is built.
#include "core/layout.hpp"

#include "core/build_memory.hpp"
#include "core/cells.hpp"
#include "core/parallel.hpp"
#include "core/planner.hpp"

#include <pybind11/stl.h>

#include <optional>
#include <tuple>

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
  m.def(
      "estimate_build",
      [](std::size_t n_items, std::size_t width, const std::string& metric, int n_trees, int n_jobs, bool on_disk,
         std::optional<std::size_t> memory_limit, std::optional<std::size_t> resident) {
        if (width == 0) throw std::invalid_argument("vectors must have at least one dimension, not 0");
        const BuildEstimate estimate =
            estimate_build(Layout::of(metric_from_name(metric), width), n_items, n_trees, thread_count(n_jobs), on_disk,
                           memory_limit.value_or(kUnlimited), resident ? *resident : resident_bytes());
        return std::make_tuple(estimate.file_bytes, estimate.memory_bytes, estimate.least_limit,
                               estimate.scratch_bytes);
      },
      py::arg("n_items"), py::arg("width"), py::arg("metric"), py::arg("n_trees"), py::kw_only(),
      py::arg("n_jobs") = -1, py::arg("on_disk") = false, py::arg("memory_limit") = py::none(),
      py::arg("resident") = py::none(),
      "Bytes of the file, of memory, of the least memory_limit, and of the scratch file. See "
      "dask_annoy.estimate_build.");
  m.def(
      "estimate_cells",
      [](std::size_t n_items, std::size_t width, const std::string& metric) {
        return expected_cells_bytes(Layout::of(metric_from_name(metric), width), n_items);
      },
      py::arg("n_items"), py::arg("width"), py::arg("metric"), "Bytes of the file of cells over so many items, about.");
  m.def(
      "cells_pay",
      [](std::size_t n_items, std::size_t width, const std::string& metric) {
        return cells_pay(Layout::of(metric_from_name(metric), width), n_items);
      },
      py::arg("n_items"), py::arg("width"), py::arg("metric"),
      "Whether a search within the default budget would go by cells: not where scoring every item costs no more.");
}

}  // namespace dask_annoy
