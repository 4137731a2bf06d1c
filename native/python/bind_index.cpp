// AnnoyIndex: from its making to its file.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>

#include "python/arrays.hpp"
#include "python/held_index.hpp"
#include "python/item_numbers.hpp"

namespace dask_annoy {

namespace {

std::unique_ptr<HeldIndex> make(std::int64_t f, const py::object& metric) {
  if (f < 1) throw py::value_error("f must be a positive number of dimensions, got " + std::to_string(f));
  std::string name = "angular";
  if (metric.is_none()) {
    if (PyErr_WarnEx(PyExc_FutureWarning,
                     "The default argument for metric will be removed in future version of Annoy. Please pass "
                     "metric='angular' explicitly.",
                     1) != 0) {
      throw py::error_already_set();
    }
  } else {
    if (!py::isinstance<py::str>(metric)) throw py::type_error("metric must be a string");
    name = metric.cast<std::string>();
  }
  return std::make_unique<HeldIndex>(std::make_shared<Index>(metric_from_name(name), static_cast<std::size_t>(f)));
}

void add_item(Index& self, ItemNumber i, const py::object& vector) {
  const std::vector<char> bytes = vector_from(vector, self.layout());
  const py::gil_scoped_release unlocked;
  self.add(bytes.data(), bytes.size(), 1, &i.value);
}

py::object add_items(Index& self, const py::object& X, const py::object& ids, bool packed) {
  const Rows rows = rows_from(X, self.layout(), packed);
  if (ids.is_none()) {
    std::int64_t first;
    {
      const py::gil_scoped_release unlocked;
      first = self.add_after_last(rows.data, rows.stride, rows.count);
    }
    py::array_t<std::int64_t> numbers(static_cast<py::ssize_t>(rows.count));
    for (std::size_t i = 0; i < rows.count; ++i) numbers.mutable_data()[i] = first + static_cast<std::int64_t>(i);
    return numbers;
  }
  const auto numbers = item_numbers_from(ids);
  if (static_cast<std::size_t>(numbers.size()) != rows.count) {
    throw py::value_error(std::to_string(numbers.size()) + " ids were given for " + std::to_string(rows.count) +
                          " vectors");
  }
  {
    const py::gil_scoped_release unlocked;
    self.add(rows.data, rows.stride, rows.count, numbers.data());
  }
  return numbers;
}

bool build(Index& self, int n_trees, int n_jobs, std::optional<std::size_t> memory_limit) {
  Cancellation cancellation = interruptible();
  const py::gil_scoped_release unlocked;
  self.build(n_trees, n_jobs, cancellation, memory_limit.value_or(kUnlimited));
  return true;
}

CellSettings cell_settings(const py::object& n_cells, const py::object& codes, const py::object& batch_size) {
  CellSettings settings;
  const auto is_auto = [](const py::object& value) {
    return py::isinstance<py::str>(value) && value.cast<std::string>() == "auto";
  };
  const auto count = [](const py::object& value) {
    return py::isinstance<py::int_>(value) ? value.cast<std::int64_t>() : 0;
  };
  if (!is_auto(n_cells)) {
    if (count(n_cells) < 1) throw py::value_error("n_cells must be a positive number, or 'auto'");
    settings.n_cells = static_cast<std::size_t>(count(n_cells));
  }
  if (codes.is_none()) {
    settings.code_bits = 0;
  } else if (!is_auto(codes)) {
    if (count(codes) != 8 && count(codes) != 4) {
      throw py::value_error("codes must be 8 or 4 (bits a dimension), None for no codes, or 'auto'");
    }
    settings.code_bits = static_cast<int>(count(codes));
  }
  if (!batch_size.is_none()) {
    if (count(batch_size) < 1) throw py::value_error("batch_size must be a positive number, or None for large batches");
    settings.batch_size = static_cast<std::size_t>(count(batch_size));
  }
  return settings;
}

bool give_cells(Index& self, const py::object& n_cells, const py::object& codes, int n_jobs,
                const py::object& batch_size, std::optional<std::size_t> memory_limit) {
  const CellSettings settings = cell_settings(n_cells, codes, batch_size);
  Cancellation cancellation = interruptible();
  const py::gil_scoped_release unlocked;
  self.build_cells(settings, n_jobs, cancellation, memory_limit.value_or(kUnlimited));
  return true;
}

py::array_t<std::int32_t> order_by_cells(Index& self, std::size_t working_bytes, const py::object& n_cells,
                                         const py::object& codes, const py::str& scratch_beside, int n_jobs) {
  CellSettings settings = cell_settings(n_cells, codes, py::none());
  settings.resident_bytes = working_bytes;
  settings.scratch_beside = scratch_beside;
  Cancellation cancellation = interruptible();
  std::vector<std::int32_t> order;
  {
    const py::gil_scoped_release unlocked;
    order = self.order_by_cells(settings, n_jobs, cancellation, working_bytes);
  }
  return py::array_t<std::int32_t>(static_cast<py::ssize_t>(order.size()), order.data());
}

void build_within(Index& self, int n_trees, std::size_t working_bytes, int n_jobs) {
  Cancellation cancellation = interruptible();
  const py::gil_scoped_release unlocked;
  self.build_within(n_trees, n_jobs, cancellation, working_bytes);
}

bool unbuild(Index& self) {
  const py::gil_scoped_release unlocked;
  self.unbuild();
  return true;
}

bool save(Index& self, const py::str& fn, bool prefault) {
  const std::string path = path_from(fn);
  Cancellation cancellation = interruptible();
  const py::gil_scoped_release unlocked;
  self.save(path, prefault, cancellation);
  return true;
}

bool load(Index& self, const py::str& fn, bool prefault, bool cells) {
  const std::string path = path_from(fn);
  Cancellation cancellation = interruptible();
  const py::gil_scoped_release unlocked;
  self.load(path, prefault, cancellation, cells);
  return true;
}

bool unload(Index& self) {
  const py::gil_scoped_release unlocked;
  self.unload();
  return true;
}

bool on_disk_build(Index& self, const py::str& fn) {
  const std::string path = path_from(fn);
  const py::gil_scoped_release unlocked;
  self.on_disk_build(path);
  return true;
}

void set_seed(Index& self, std::int64_t seed) {
  const py::gil_scoped_release unlocked;
  self.set_seed(static_cast<std::uint64_t>(seed));
}

py::list get_item_vector(const Index& self, ItemNumber i) {
  std::vector<char> bytes;
  {
    const py::gil_scoped_release unlocked;
    bytes = self.item_node(i.value);
  }
  const Layout& layout = self.layout();
  const NodeView node(bytes.data(), layout);
  py::list vector(layout.width);
  for (std::size_t d = 0; d < layout.width; ++d) {
    vector[d] = is_binary(layout.metric) ? static_cast<float>(node.bits()[d / 64] >> (d % 64) & 1) : node.vector()[d];
  }
  return vector;
}

float get_distance(const Index& self, ItemNumber i, ItemNumber j) {
  const py::gil_scoped_release unlocked;
  return returned_distance(self.layout().metric, self.distance(i.value, j.value));
}

}  // namespace

void bind_index(py::module_& m) {
  using unlocked = py::call_guard<py::gil_scoped_release>;

  py::class_<HeldIndex> index(m, "AnnoyIndex", R"doc(
An index of vectors for approximate nearest neighbours, with Annoy's methods and Annoy's files.

Parameters
----------
f : int
    Dimensions of a vector.
metric : {"angular", "euclidean", "manhattan", "hamming", "dot"}
    For hamming a component counts as 1 if it is larger than 0.5.

Notes
-----
Queries may run on several threads at once. :meth:`load`, :meth:`unload` and :meth:`close` do not wait for queries of a
loaded file, which end on what they began with; methods that change an index built here do wait. Files are those of
Annoy 1.17.3, in both directions; dot files of Annoy's development version are read, too.
)doc");
  index.def(py::init(&make), integer("f"), py::arg("metric") = py::none())
      .def_property_readonly(
          "f", [](const Index& self) { return self.layout().width; }, "Dimensions of a vector.")
      .def_property_readonly(
          "metric", [](const Index& self) { return std::string(metric_name(self.layout().metric)); },
          "Name of the metric.")
      .def("add_item", &add_item, py::arg("i"), py::arg("vector"), R"doc(
Put a vector under the number ``i``; a number given again replaces its vector.

Raises
------
IndexError
    If ``i`` is negative or the vector has another length than ``f``.
ValueError
    If a component is NaN or infinite.
RuntimeError
    If the index is built or loaded.
)doc")
      .def("add_items", &add_items, py::arg("X"), py::arg("ids") = py::none(), py::kw_only(), py::arg("packed") = false,
           R"doc(
Put many vectors.

Parameters
----------
X : array of shape (m, f)
    With ``packed=True`` (hamming) uint8 of shape (m, ceil(f / 8)) in the order of :func:`numpy.packbits`.
ids : array of m integers, optional
    Item numbers; those after the last item if not given.

Returns
-------
int64 array of shape (m,)
    The item numbers.
)doc")
      .def("build", &build, integer("n_trees"), integer("n_jobs") = -1, py::kw_only(),
           py::arg("memory_limit") = py::none(), R"doc(
Grow the forest.

Parameters
----------
n_trees : int
    -1 grows trees until they take as many nodes as the items.
n_jobs : int
    Threads; -1 means all. The result is the same for any number.
memory_limit : int, optional
    Bytes under which the resident memory of the process is kept, by way of a scratch file beside that of
    :meth:`on_disk_build` if need be (its room: a little more than twice that of the items, free again at the end). An
    index in memory takes the room of its items and trees whatever the limit. The result is the same for any limit.

Returns
-------
bool
    True.

Raises
------
ValueError
    If the build cannot keep to ``memory_limit``; the message names the least that will do.
RuntimeError
    If the index is built or loaded.
)doc")
      .def("build_cells", &give_cells, py::arg("n_cells") = "auto", py::arg("codes") = "auto", integer("n_jobs") = -1,
           py::kw_only(), py::arg("batch_size") = py::none(), py::arg("memory_limit") = py::none(), R"doc(
Give the built or loaded forest cells, by which searches for neighbours then go: many times as fast.

Cells are neighbourhoods of items, made from a tree's leaves by moving each item to the nearest mean. The forest stays
as it is. From then on ``search_k`` counts the items scored, whole cells at a time, and -1 scores ``n * n_trees`` or
20 times the square root of the number of items, if that is more. :meth:`save` writes them beside the forest, to the
file's name and ``.cells``. Queries of other threads go on meanwhile.

Parameters
----------
n_cells : int or "auto"
    About how many. By default what costs a query least, by the number of items, the metric, the codes and
    ``batch_size``.
codes : "auto", 8, 4 or None
    Keep that many bits a dimension of each item in the order of cells: they are scored first, and the best exactly.
    They take a quarter or an eighth of the vectors' room in memory and in the file. None scores vectors only; "auto"
    is 4 from 64 dimensions on, else 8. Codes for hamming are the vectors' bits, whichever is given.
n_jobs : int
    Threads; -1 means all. The result is the same for any number.
batch_size : int, optional
    About how many queries will be asked in a call. Few of them share no cells, and are served by somewhat larger
    ones. By default there are many.
memory_limit : int, optional
    Bytes under which the resident memory of the process is kept: of a forest in a file, pages are let go of, and codes
    are held by a scratch file beside it. The result is the same for any limit.

Returns
-------
bool
    True.

Raises
------
RuntimeError
    If the index is not built, or is changed meanwhile.
ValueError
    If the cells cannot keep to ``memory_limit``; the message names the least that will do.
)doc")
      .def("_order_by_cells", &order_by_cells, integer("working_bytes"), py::kw_only(), py::arg("n_cells") = "auto",
           py::arg("codes") = "auto", py::arg("scratch_beside") = "", integer("n_jobs") = -1, R"doc(
Number the items that were added anew, so that cells are runs of them, and give the next build those cells.

Returns the former numbers by the new ones (int32). Takes about so many bytes beside what holds the items, their
numbers, and, unless a path says in whose folder they may be held by a scratch file, the codes.
)doc")
      .def("_build_within", &build_within, integer("n_trees"), integer("working_bytes"), integer("n_jobs") = -1, R"doc(
Grow the forest, taking so many bytes beside what holds the items and, in memory, the trees.

For processes that do other things meanwhile, whose resident memory says little of this build.
)doc")
      .def("unbuild", &unbuild, "Remove the trees, to add items again.")
      .def("save", &save, py::arg("fn"), py::arg("prefault") = false,
           "Write the index to a file of Annoy 1.17.3, whole or not at all, and go on from that file. Cells go to the "
           "file ``fn + '.cells'``; one with cells of another forest is removed.")
      .def("load", &load, py::arg("fn"), py::arg("prefault") = false, py::kw_only(), py::arg("cells") = false, R"doc(
Check every node of a file, on all processors, and map it.

With ``cells`` the cells beside it are used, too, and made anew if that file is missing; without, the answers are
Annoy's.

For dot the file's nodes may be those of Annoy 1.17.3 or of its development version; their bytes tell.

Raises
------
OSError
    If the file cannot be read.
CorruptIndexError
    (an OSError and a ValueError) if the file is no sound forest of this metric and width: the message names the file,
    the node and what is wrong with it. What was loaded before stays.
)doc")
      .def("unload", &unload, "Forget items, trees and file; the empty index can be filled again.")
      .def("close", &HeldIndex::close, R"doc(
Let go of items, trees and file, for good.

Calls under way in other threads end as if nothing had happened; later ones raise RuntimeError. Closing again does
nothing. The end of a ``with`` statement closes, too.
)doc")
      .def_property_readonly("closed", &HeldIndex::is_closed, "Whether the index is closed.")
      .def("on_disk_build", &on_disk_build, py::arg("fn"),
           "Build in this file instead of in memory; call it before the first item.")
      .def("get_item_vector", &get_item_vector, py::arg("i"), py::pos_only(), "The vector of item ``i``, as a list.")
      .def("get_distance", &get_distance, py::arg("i"), py::arg("j"), py::pos_only(),
           "Distance of two items (for dot their product).")
      .def(
          "get_n_items", [](const Index& self) { return self.n_items(); }, unlocked(), "Highest item number + 1.")
      .def(
          "get_n_trees", [](const Index& self) { return self.n_trees(); }, unlocked(), "Number of trees.")
      .def(
          "get_n_cells", [](const Index& self) { return self.status().n_cells; }, unlocked(),
          "Number of cells; 0 without any.")
      .def(
          "verbose",
          [](const Index& self, bool) {
            const py::gil_scoped_release unlocked;
            self.require_open();
            return true;
          },
          py::arg("v"), py::pos_only(), "Accepted for Annoy's sake; nothing is printed.")
      .def("set_seed", &set_seed, integer("seed"), py::pos_only(), "Seed of the next build.")
      .def("_adopt", &HeldIndex::adopt, py::arg("other").none(true), py::pos_only(), R"doc(
Become the other index, whose contents both then share; or none, of no width yet.

Calls under way end on the former one.
)doc");
  bind_queries(index);
  bind_contents(index);
}

}  // namespace dask_annoy
