// AnnoyIndex: its searches.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <string>

#include "python/arrays.hpp"
#include "python/held_index.hpp"
#include "python/item_numbers.hpp"
#include "python/restriction.hpp"

namespace dask_annoy {

namespace {

std::size_t answer_size(std::int64_t n) {
  if (n < 0) throw py::value_error("n must not be negative, got " + std::to_string(n));
  return static_cast<std::size_t>(n);
}

py::object answer(Metric metric, const std::vector<Neighbor>& neighbors, bool include_distances) {
  py::list ids(neighbors.size());
  for (std::size_t i = 0; i < neighbors.size(); ++i) ids[i] = neighbors[i].id;
  if (!include_distances) return ids;
  py::list distances(neighbors.size());
  for (std::size_t i = 0; i < neighbors.size(); ++i) distances[i] = returned_distance(metric, neighbors[i].distance);
  return py::make_tuple(ids, distances);
}

py::object get_nns_by_vector(const Index& self, const py::object& vector, std::int64_t n, std::int64_t search_k,
                             bool include_distances, const py::object& include, const py::object& exclude,
                             const std::string& method) {
  const SearchOptions options(search_k, method_from_name(method));
  const PyRestriction restriction(include, exclude);
  const std::vector<char> query = vector_from(vector, self.layout());
  const std::size_t size = answer_size(n);
  std::vector<Neighbor> found;
  {
    const py::gil_scoped_release unlocked;
    found = self.nearest(query.data(), size, options, restriction.get());
  }
  return answer(self.layout().metric, found, include_distances);
}

py::object get_nns_by_item(const Index& self, ItemNumber i, std::int64_t n, std::int64_t search_k,
                           bool include_distances, const py::object& include, const py::object& exclude,
                           const std::string& method) {
  const SearchOptions options(search_k, method_from_name(method));
  const PyRestriction restriction(include, exclude);
  const std::size_t size = answer_size(n);
  std::vector<Neighbor> found;
  {
    const py::gil_scoped_release unlocked;
    found = self.nearest_to_item(i.value, size, options, restriction.get());
  }
  return answer(self.layout().metric, found, include_distances);
}

std::size_t limit_of(std::int64_t limit) {
  if (limit < -1) throw py::value_error("limit must be a number of items, or -1 for all; got " + std::to_string(limit));
  return limit == -1 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(limit);
}

py::object get_nns_within_by_vector(const Index& self, const py::object& vector, double radius, std::int64_t limit,
                                    std::int64_t search_k, bool include_distances, const py::object& include,
                                    const py::object& exclude) {
  const PyRestriction restriction(include, exclude);
  const std::vector<char> query = vector_from(vector, self.layout());
  const std::size_t most = limit_of(limit);
  Cancellation cancellation = interruptible();
  std::vector<Neighbor> found;
  {
    const py::gil_scoped_release unlocked;
    found = self.within(query.data(), radius, most, search_k, cancellation, restriction.get());
  }
  return answer(self.layout().metric, found, include_distances);
}

py::object get_nns_within_by_item(const Index& self, ItemNumber i, double radius, std::int64_t limit,
                                  std::int64_t search_k, bool include_distances, const py::object& include,
                                  const py::object& exclude) {
  const PyRestriction restriction(include, exclude);
  const std::size_t most = limit_of(limit);
  Cancellation cancellation = interruptible();
  std::vector<Neighbor> found;
  {
    const py::gil_scoped_release unlocked;
    found = self.within_of_item(i.value, radius, most, search_k, cancellation, restriction.get());
  }
  return answer(self.layout().metric, found, include_distances);
}

// Runs `search(ids, distances)` without the GIL into arrays of shape (m, n).
template <class Search>
py::object batch(std::size_t m, std::size_t n, bool include_distances, const Search& search) {
  py::array_t<std::int64_t> ids({m, n});
  py::array_t<float> distances({m, n});
  std::int64_t* id_data = ids.mutable_data();
  float* distance_data = distances.mutable_data();
  {
    const py::gil_scoped_release unlocked;
    search(id_data, distance_data);
  }
  if (!include_distances) return ids;
  return py::make_tuple(ids, distances);
}

py::object get_nns_by_vectors(const Index& self, const py::object& X, std::int64_t n, std::int64_t search_k,
                              bool include_distances, int n_jobs, bool packed, const py::object& include,
                              const py::object& exclude, const std::string& method) {
  const SearchOptions options(search_k, method_from_name(method));
  const PyRestriction restriction(include, exclude);
  const std::size_t size = answer_size(n);
  const Rows rows = rows_from(X, self.layout(), packed);
  Cancellation cancellation = interruptible();
  return batch(rows.count, size, include_distances, [&](std::int64_t* ids, float* distances) {
    self.nearest_batch(rows.data, rows.stride, rows.count, size, options, n_jobs, cancellation, ids, distances,
                       restriction.get());
  });
}

py::object get_nns_by_items(const Index& self, const py::object& items, std::int64_t n, std::int64_t search_k,
                            bool include_distances, int n_jobs, const py::object& include, const py::object& exclude,
                            const std::string& method) {
  const SearchOptions options(search_k, method_from_name(method));
  const PyRestriction restriction(include, exclude);
  const std::size_t size = answer_size(n);
  const auto numbers = item_numbers_from(items);
  Cancellation cancellation = interruptible();
  const auto count = static_cast<std::size_t>(numbers.size());
  return batch(count, size, include_distances, [&](std::int64_t* ids, float* distances) {
    self.nearest_to_items(numbers.data(), count, size, options, n_jobs, cancellation, ids, distances,
                          restriction.get());
  });
}

py::dict planned(const Index& self, std::int64_t n_queries, std::int64_t n, std::int64_t search_k, int n_jobs,
                 const py::object& include, const py::object& exclude, const std::string& method) {
  const SearchOptions options(search_k, method_from_name(method));
  const PyRestriction restriction(include, exclude);
  const std::size_t size = answer_size(n);
  if (n_queries < 0) throw py::value_error("n_queries must not be negative, got " + std::to_string(n_queries));
  SearchPlan plan;
  {
    const py::gil_scoped_release unlocked;
    plan = self.plan_search(static_cast<std::size_t>(n_queries), size, options, n_jobs, restriction.get());
  }
  py::dict seconds;
  for (const SearchMethod each :
       {SearchMethod::exact, SearchMethod::trees, SearchMethod::leaves, SearchMethod::cells}) {
    if (const double cost = plan.costs.of(each); std::isfinite(cost)) seconds[method_name(each)] = cost;
  }
  py::dict explained;
  explained["method"] = method_name(plan.method);
  explained["reason"] = plan.reason;
  explained["seconds"] = seconds;
  return explained;
}

py::array_t<std::int64_t> budgets_to_find(const Index& self, const py::object& X, const py::object& targets, int n_jobs,
                                          bool packed) {
  const Rows rows = rows_from(X, self.layout(), packed);
  const PlainArray<std::int64_t> wanted = integers_from(targets, "targets");
  if (wanted.ndim() != 2 || static_cast<std::size_t>(wanted.shape(0)) != rows.count) {
    throw py::value_error("targets must have the shape (" + std::to_string(rows.count) + ", k)");
  }
  const auto k = static_cast<std::size_t>(wanted.shape(1));
  py::array_t<std::int64_t> budgets({rows.count, k});
  std::int64_t* out = budgets.mutable_data();
  Cancellation cancellation = interruptible();
  const py::gil_scoped_release unlocked;
  self.budgets_to_find(rows.data, rows.stride, rows.count, wanted.data(), k, n_jobs, cancellation, out);
  return budgets;
}

}  // namespace

void bind_queries(py::class_<HeldIndex>& index) {
  index
      .def("get_nns_by_item", &get_nns_by_item, py::arg("i"), integer("n"), integer("search_k") = -1,
           py::arg("include_distances") = false, py::kw_only(), py::arg("include") = py::none(),
           py::arg("exclude") = py::none(), py::arg("method") = "auto", R"doc(
The ``n`` items nearest to item ``i``, itself included.

Parameters
----------
search_k : int
    Candidates to look at, repeats counted; -1 means ``n`` times the number of trees.
include : array of bool of shape (n_items,), or item numbers, optional
    The only items that may be answered.
exclude : array of bool of shape (n_items,), or item numbers, optional
    Items that must not be answered.
method : {"auto", "exact", "trees", "leaves", "cells"}
    How to search: score every item; walk the trees; walk them for all queries of a batch and score what they meet leaf
    by leaf, which gives the same answers; score the nearest cells. "auto" takes what is estimated to cost least.
    Without cells it keeps to the answers that Annoy would give with this ``search_k``; with cells it searches by them,
    or scores every item where that costs no more.

Notes
-----
``include`` and ``exclude`` hold before scoring, and ``search_k`` counts only items that pass them. If few pass (at
most ``max(search_k, 1000)``, or so small a share that a walk would pass by more than it scores) all of them are
scored, and the answer is exact.

Returns
-------
list of int, or (list of int, list of float) with ``include_distances``

Raises
------
IndexError
    If ``i``, or a number in ``include`` or ``exclude``, is no item's.
ValueError
    If a mask has another length than there are items, or ``method`` is none of these.
RuntimeError
    If ``method`` is "cells" and there are none.
)doc")
      .def("get_nns_by_vector", &get_nns_by_vector, py::arg("vector"), integer("n"), integer("search_k") = -1,
           py::arg("include_distances") = false, py::kw_only(), py::arg("include") = py::none(),
           py::arg("exclude") = py::none(), py::arg("method") = "auto",
           "The ``n`` items nearest to a vector; see :meth:`get_nns_by_item`.")
      .def("get_nns_by_vectors", &get_nns_by_vectors, py::arg("X"), integer("n"), integer("search_k") = -1,
           py::arg("include_distances") = false, integer("n_jobs") = -1, py::kw_only(), py::arg("packed") = false,
           py::arg("include") = py::none(), py::arg("exclude") = py::none(), py::arg("method") = "auto", R"doc(
The ``n`` items nearest to each row of ``X``, on ``n_jobs`` threads.

Returns
-------
ids : int64 array of shape (m, n), padded with -1
distances : float32 array of shape (m, n), padded with infinity (-infinity for dot)
    With ``include_distances``.
)doc")
      .def("get_nns_by_items", &get_nns_by_items, py::arg("ids"), integer("n"), integer("search_k") = -1,
           py::arg("include_distances") = false, integer("n_jobs") = -1, py::kw_only(), py::arg("include") = py::none(),
           py::arg("exclude") = py::none(), py::arg("method") = "auto",
           "The ``n`` items nearest to each of the items; see :meth:`get_nns_by_vectors`.")
      .def("get_nns_within_by_vector", &get_nns_within_by_vector, py::arg("vector"), py::arg("radius"),
           integer("limit") = -1, integer("search_k") = -1, py::arg("include_distances") = false, py::kw_only(),
           py::arg("include") = py::none(), py::arg("exclude") = py::none(), R"doc(
The items within a distance of a vector, nearest first.

Parameters
----------
radius : float
    Largest distance; for dot the smallest product.
limit : int
    Most items to answer with; -1 means all.
search_k : int
    -1 scores every item: the answer is exact. A positive number bounds the items looked at, as in
    :meth:`get_nns_by_item`, and items may be missed.
include, exclude : array, optional
    As in :meth:`get_nns_by_item`.

Returns
-------
list of int, or (list of int, list of float) with ``include_distances``

Raises
------
ValueError
    If the radius is NaN, or the limit below -1.
)doc")
      .def("get_nns_within_by_item", &get_nns_within_by_item, py::arg("i"), py::arg("radius"), integer("limit") = -1,
           integer("search_k") = -1, py::arg("include_distances") = false, py::kw_only(),
           py::arg("include") = py::none(), py::arg("exclude") = py::none(),
           "The items within a distance of item ``i``, itself included; see :meth:`get_nns_within_by_vector`.")
      .def("_plan_search", &planned, integer("n_queries"), integer("n"), integer("search_k") = -1,
           integer("n_jobs") = -1, py::kw_only(), py::arg("include") = py::none(), py::arg("exclude") = py::none(),
           py::arg("method") = "auto", R"doc(
How a search of so many queries goes about it: a dictionary of its method, why, and the seconds that each takes, about.

Raises
------
RuntimeError
    If the index is not built, or the method cannot be had.
)doc")
      .def(
          "_set_as_annoy", [](Index& self, bool as_annoy) { self.set_as_annoy(as_annoy); }, py::arg("as_annoy"),
          py::pos_only(), py::call_guard<py::gil_scoped_release>(),
          "Whether searches without cells keep to Annoy's answers, or may give better ones that cost no more.")
      .def("budgets_to_find", &budgets_to_find, py::arg("X"), py::arg("targets"), integer("n_jobs") = -1, py::kw_only(),
           py::arg("packed") = false, R"doc(
The least ``search_k`` with which a search for each row of ``X`` finds its targets.

Parameters
----------
X : array of shape (m, f)
targets : int64 array of shape (m, k)
    Item numbers.

Returns
-------
int64 array of shape (m, k)
    -1 for a target that no search finds. The share of values up to a budget is the recall of that budget.
)doc");
}

}  // namespace dask_annoy
