// AnnoyIndex: what it holds, as bytes, as arrays and as a Python collection.
#include <pybind11/numpy.h>

#include <algorithm>
#include <numeric>

#include "core/errors.hpp"
#include "python/arrays.hpp"
#include "python/held_index.hpp"
#include "python/item_numbers.hpp"

namespace dask_annoy {

namespace {

// Bytes that copy(make_room) writes, without the GIL. Nobody waits for the index's lock with the GIL in hand, so it may
// be taken within.
template <class Copy>
py::bytes bytes_of(const Copy& copy) {
  PyObject* bytes = nullptr;
  {
    const py::gil_scoped_release unlocked;
    copy([&](std::size_t size) {
      const py::gil_scoped_acquire gil;
      bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size));
      if (bytes == nullptr) throw py::error_already_set();
      return PyBytes_AS_STRING(bytes);
    });
  }
  return py::reinterpret_steal<py::bytes>(bytes);
}

py::bytes to_bytes(const Index& self) {
  return bytes_of([&](const auto& make_room) { self.copy_file(make_room); });
}

py::bytes cells_to_bytes(const Index& self) {
  return bytes_of([&](const auto& make_room) { self.copy_cells(make_room); });
}

// The bytes of any contiguous buffer, held until the end.
class Buffer {
 public:
  explicit Buffer(const py::object& data) {
    if (PyObject_GetBuffer(data.ptr(), &view_, PyBUF_SIMPLE) != 0) throw py::error_already_set();
  }
  ~Buffer() { PyBuffer_Release(&view_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  const char* data() const { return static_cast<const char*>(view_.buf); }
  std::size_t size() const { return static_cast<std::size_t>(view_.len); }

 private:
  Py_buffer view_;
};

void load_copy(Index& index, const py::object& data, const std::string& name) {
  const Buffer buffer(data);
  Cancellation cancellation = interruptible();
  const py::gil_scoped_release unlocked;
  const std::shared_ptr<char[]> copy(new char[buffer.size()]);
  std::copy_n(buffer.data(), buffer.size(), copy.get());
  index.load_bytes(std::shared_ptr<const char>(copy, copy.get()), buffer.size(), cancellation, name);
}

std::unique_ptr<HeldIndex> from_bytes(std::int64_t f, const std::string& metric, const py::object& data) {
  if (f < 1) throw py::value_error("f must be a positive number of dimensions, got " + std::to_string(f));
  auto index = std::make_shared<Index>(metric_from_name(metric), static_cast<std::size_t>(f));
  load_copy(*index, data, "bytes");
  return std::make_unique<HeldIndex>(std::move(index));
}

void load_cells(Index& index, const py::object& data, const std::string& name) {
  const Buffer buffer(data);
  const py::gil_scoped_release unlocked;
  const std::shared_ptr<char[]> copy(new char[buffer.size()]);
  std::copy_n(buffer.data(), buffer.size(), copy.get());
  index.load_cells(std::shared_ptr<const char>(copy, copy.get()), buffer.size(), name);
}

void release_pages(const Index& index) {
  const py::gil_scoped_release unlocked;
  index.release_pages();
}

void open_cells_at(Index& index, const py::str& fn, bool prefault) {
  const std::string path = path_from(fn);
  const py::gil_scoped_release unlocked;
  index.open_cells(path, prefault);
}

bool has_cells_at(const Index& self, const py::str& fn) {
  const std::string path = path_from(fn);
  const py::gil_scoped_release unlocked;
  return self.has_cells_at(path);
}

py::object path_to_python(const std::string& path) {
  return py::reinterpret_steal<py::object>(
      PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size())));
}

py::dict status(const Index& self) {
  IndexStatus now;
  {
    const py::gil_scoped_release unlocked;
    now = self.status();
  }
  py::dict status;
  status["n_items"] = now.n_items;
  status["n_trees"] = now.n_trees;
  status["is_built"] = now.is_built;
  status["is_loaded"] = now.is_loaded;
  status["n_bytes"] = now.n_bytes;
  status["n_cells"] = now.n_cells;
  status["cells_bytes"] = now.cells_bytes;
  status["seed"] = static_cast<std::int64_t>(now.seed);  // as set_seed takes it
  status["building_file"] = now.building_file.empty() ? py::none() : path_to_python(now.building_file);
  status["file"] = now.file == nullptr
                       ? py::none()
                       : py::object(py::make_tuple(path_to_python(now.file->path), now.file->device, now.file->inode,
                                                   now.file->size, now.file->mtime_ns));
  return status;
}

py::array get_item_vectors(const Index& self, const py::object& ids, bool packed) {
  std::vector<std::int64_t> numbers;
  if (ids.is_none()) {
    const py::gil_scoped_release unlocked;
    numbers.resize(static_cast<std::size_t>(self.n_items()));
    std::iota(numbers.begin(), numbers.end(), 0);
  } else {
    const auto given = item_numbers_from(ids);
    numbers.assign(given.data(), given.data() + given.size());
  }
  std::vector<char> vectors;
  {
    const py::gil_scoped_release unlocked;
    vectors.resize(numbers.size() * self.layout().vector_bytes());
    self.item_vectors(numbers.data(), numbers.size(), vectors.data());
  }
  return array_from(vectors, numbers.size(), self.layout(), packed);
}

bool contains(const Index& self, const py::object& i) {
  if (PyIndex_Check(i.ptr()) == 0) return false;
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(i.ptr()));
  if (!number) throw py::error_already_set();
  int overflow = 0;
  const long long item = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow != 0) return false;
  const py::gil_scoped_release unlocked;
  return self.has_item(item);
}

py::iterator iterate(const Index& self) {
  std::vector<std::int64_t> items;
  {
    const py::gil_scoped_release unlocked;
    items = self.present_items();
  }
  py::list numbers(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) numbers[i] = items[i];
  return py::iter(numbers);
}

std::string represent(const Index& self) {
  const py::gil_scoped_release unlocked;
  const std::string kind =
      "AnnoyIndex(f=" + std::to_string(self.layout().width) + ", metric='" + metric_name(self.layout().metric) + "', ";
  try {
    return kind + "n_items=" + std::to_string(self.n_items()) + ", n_trees=" + std::to_string(self.n_trees()) + ")";
  } catch (const StateError&) {
    return kind + "closed)";  // asked first, it could be closed before the answer
  }
}

}  // namespace

void bind_contents(py::class_<HeldIndex>& index) {
  index
      .def("to_bytes", &to_bytes, R"doc(
The bytes of the file that :meth:`save` would write.

Raises
------
RuntimeError
    If the index is not built.
)doc")
      .def_static("from_bytes", &from_bytes, integer("f"), py::arg("metric"), py::arg("data"), R"doc(
An index from a file's bytes, which are copied and checked; read-only, as after :meth:`load`.

Parameters
----------
f : int
metric : str
data : bytes-like

Raises
------
CorruptIndexError
    If the bytes are no sound forest of this metric and width.
)doc")
      .def("load_bytes", &load_copy, py::arg("data"), py::kw_only(), py::arg("name") = "bytes", R"doc(
As :meth:`load`, from a file's bytes, which are copied and checked.

Parameters
----------
data : bytes-like
name : str
    What errors call the bytes.

Raises
------
CorruptIndexError
    If the bytes are no sound forest of this metric and width; the index stays as it was.
)doc")
      .def("_cells_to_bytes", &cells_to_bytes, "The bytes of the file of cells that save() would write.")
      .def("_open_cells", &open_cells_at, py::arg("fn"), py::arg("prefault") = false,
           "Use the cells of a file, wherever it lies: it is checked and mapped.")
      .def("_has_cells_at", &has_cells_at, py::arg("fn"),
           "Whether there is a file that says it holds cells of this index's forest.")
      .def("_release_pages", &release_pages,
           "Pages of mapped files stop counting as the process's memory, until they are looked at again.")
      .def("_load_cells", &load_cells, py::arg("data"), py::kw_only(), py::arg("name") = "bytes",
           "Use the cells that a file of cells holds: its bytes are copied and checked.")
      .def("_status", &status, "What the index is at this moment: see IndexStatus.")
      .def("get_item_vectors", &get_item_vectors, py::arg("ids") = py::none(), py::kw_only(), py::arg("packed") = false,
           R"doc(
The vectors of many items.

Parameters
----------
ids : array of m integers, optional
    Item numbers; all of them if not given. A hole's vector is zero.
packed : bool
    For hamming: bits in bytes.

Returns
-------
float32 array of shape (m, f)
    With ``packed=True`` uint8 of shape (m, ceil(f / 8)) in the order of :func:`numpy.packbits`.

Raises
------
IndexError
    If a number is no item's.
)doc")
      .def(
          "__len__", [](const Index& self) { return self.n_items(); }, py::call_guard<py::gil_scoped_release>())
      .def("__contains__", &contains, py::arg("i"), py::pos_only())
      .def("__iter__", &iterate)
      .def("__repr__", &represent)
      .def("__enter__",
           [](const py::object& self) {
             self.cast<const HeldIndex&>().require_open();
             return self;
           })
      .def("__exit__", [](HeldIndex& self, const py::args&) { self.close(); });
}

}  // namespace dask_annoy
