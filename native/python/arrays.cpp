#include "python/arrays.hpp"

#include <cmath>
#include <cstring>
#include <string>

#include "core/errors.hpp"
#include "core/finite.hpp"

namespace dask_annoy {

namespace {

std::string count_of(std::size_t n, const char* thing) { return std::to_string(n) + " " + thing + (n == 1 ? "" : "s"); }

[[noreturn]] void refuse_value(std::size_t row, std::size_t column, double value) {
  const std::string text = std::isnan(value) ? "NaN" : value > 0 ? "infinity" : "-infinity";
  throw py::value_error("row " + std::to_string(row) + ", column " + std::to_string(column) + " is " + text +
                        " (or too large for float32); vectors must be finite");
}

void pack(const float* values, std::size_t width, std::uint64_t* words) {
  for (std::size_t d = 0; d < width; ++d) {
    if (values[d] > 0.5f) words[d / 64] |= std::uint64_t{1} << (d % 64);
  }
}

std::uint8_t reversed(std::uint8_t byte) {
  byte = static_cast<std::uint8_t>((byte & 0xf0) >> 4 | (byte & 0x0f) << 4);
  byte = static_cast<std::uint8_t>((byte & 0xcc) >> 2 | (byte & 0x33) << 2);
  return static_cast<std::uint8_t>((byte & 0xaa) >> 1 | (byte & 0x55) << 1);
}

// Arrays of numbers are read as a whole; all else element by element, as Annoy reads: what an element is worth is for
// Python to say, and None, text and dates are no numbers.
bool is_plain_row(const py::object& vector) {
  if (!py::isinstance<py::array>(vector)) return false;
  const auto array = py::reinterpret_borrow<py::array>(vector);
  const char kind = array.dtype().kind();
  return array.ndim() == 1 && (kind == 'f' || kind == 'i' || kind == 'u' || kind == 'b');
}

std::vector<float> floats_from(const py::object& vector, std::size_t width) {
  const std::size_t length = py::len(vector);
  if (length != width) {
    throw py::index_error("Vector has wrong length (expected " + std::to_string(width) + ", got " +
                          std::to_string(length) + ")");
  }
  std::vector<float> values(width);
  if (is_plain_row(vector)) {
    const PlainArray<float> array(vector);
    std::memcpy(values.data(), array.data(), width * sizeof(float));
    return values;
  }
  for (std::size_t i = 0; i < width; ++i) {
    // What a list of Python's own numbers holds needs no code of the caller's.
    if (PyList_CheckExact(vector.ptr()) && i < static_cast<std::size_t>(PyList_GET_SIZE(vector.ptr()))) {
      PyObject* const item = PyList_GET_ITEM(vector.ptr(), static_cast<Py_ssize_t>(i));
      if (PyFloat_CheckExact(item)) {
        values[i] = static_cast<float>(PyFloat_AS_DOUBLE(item));
        continue;
      }
    }
    // By key and checked, even for a list: mappings are vectors, too, and an element's __float__ may shorten a list.
    const auto item = py::reinterpret_steal<py::object>(PyObject_GetItem(vector.ptr(), py::int_(i).ptr()));
    if (!item) throw py::error_already_set();
    const double value = PyFloat_AsDouble(item.ptr());
    if (value == -1.0 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    values[i] = static_cast<float>(value);
  }
  return values;
}

Rows packed_rows(const py::object& array, const Layout& layout) {
  const std::size_t row_bytes = (layout.width + 7) / 8;
  if (!py::isinstance<py::array_t<std::uint8_t>>(array)) {
    throw py::type_error("packed vectors must be an array of uint8 in the order of numpy.packbits");
  }
  const PlainArray<std::uint8_t> bytes(array);
  if (bytes.ndim() != 2 || static_cast<std::size_t>(bytes.shape(1)) != row_bytes) {
    throw py::value_error("packed vectors of " + count_of(layout.width, "bit") + " must have the shape (n, " +
                          std::to_string(row_bytes) + ")");
  }
  Rows rows;
  rows.count = static_cast<std::size_t>(bytes.shape(0));
  rows.words.assign(rows.count * layout.words, 0);
  rows.stride = layout.words * sizeof(std::uint64_t);
  const std::uint8_t spare = static_cast<std::uint8_t>(layout.width % 8 == 0 ? 0 : 0xff >> (layout.width % 8));
  for (std::size_t r = 0; r < rows.count; ++r) {
    const std::uint8_t* row = bytes.data() + r * row_bytes;
    if ((row[row_bytes - 1] & spare) != 0) {
      throw py::value_error("row " + std::to_string(r) + " has bits set beyond its " + std::to_string(layout.width));
    }
    for (std::size_t b = 0; b < row_bytes; ++b) {
      rows.words[r * layout.words + b / 8] |= static_cast<std::uint64_t>(reversed(row[b])) << (8 * (b % 8));
    }
  }
  rows.data = reinterpret_cast<const char*>(rows.words.data());
  return rows;
}

}  // namespace

std::vector<char> vector_from(const py::object& vector, const Layout& layout) {
  const std::vector<float> values = floats_from(vector, layout.width);
  const std::size_t bad = first_not_finite(values.data(), values.size());
  if (bad < values.size()) refuse_value(0, bad, values[bad]);
  std::vector<char> bytes(layout.vector_bytes());
  if (is_binary(layout.metric)) {
    pack(values.data(), layout.width, reinterpret_cast<std::uint64_t*>(bytes.data()));
  } else {
    std::memcpy(bytes.data(), values.data(), bytes.size());
  }
  return bytes;
}

Rows rows_from(const py::object& array, const Layout& layout, bool packed) {
  if (packed) {
    if (!is_binary(layout.metric)) throw py::value_error("packed vectors are for the hamming metric");
    return packed_rows(array, layout);
  }
  const PlainArray<float> floats(array);
  if (floats.ndim() != 2 || static_cast<std::size_t>(floats.shape(1)) != layout.width) {
    std::string shape;
    for (py::ssize_t d = 0; d < floats.ndim(); ++d) shape += (d > 0 ? ", " : "") + std::to_string(floats.shape(d));
    throw py::value_error("vectors must have the shape (n, " + std::to_string(layout.width) + "), got (" + shape + ")");
  }
  Rows rows;
  rows.count = static_cast<std::size_t>(floats.shape(0));
  const std::size_t n_values = rows.count * layout.width;
  const std::size_t bad = first_not_finite(floats.data(), n_values);
  if (bad < n_values) refuse_value(bad / layout.width, bad % layout.width, floats.data()[bad]);
  if (is_binary(layout.metric)) {
    rows.words.assign(rows.count * layout.words, 0);
    rows.stride = layout.words * sizeof(std::uint64_t);
    for (std::size_t r = 0; r < rows.count; ++r) {
      pack(floats.data() + r * layout.width, layout.width, rows.words.data() + r * layout.words);
    }
    rows.data = reinterpret_cast<const char*>(rows.words.data());
  } else {
    rows.stride = layout.width * sizeof(float);
    rows.data = reinterpret_cast<const char*>(floats.data());
    rows.keep_alive = floats;
  }
  return rows;
}

py::array array_from(const std::vector<char>& vectors, std::size_t count, const Layout& layout, bool packed) {
  const std::size_t bytes = layout.vector_bytes();
  const auto word = [&](std::size_t row, std::size_t w) {
    std::uint64_t value;
    std::memcpy(&value, vectors.data() + row * bytes + w * sizeof value, sizeof value);
    return value;
  };
  if (packed) {
    if (!is_binary(layout.metric)) throw py::value_error("packed vectors are for the hamming metric");
    const std::size_t row_bytes = (layout.width + 7) / 8;
    py::array_t<std::uint8_t> rows({count, row_bytes});
    std::uint8_t* out = rows.mutable_data();
    for (std::size_t i = 0; i < count * row_bytes; ++i) {
      const std::size_t b = i % row_bytes;
      out[i] = reversed(static_cast<std::uint8_t>(word(i / row_bytes, b / 8) >> (8 * (b % 8))));
    }
    return rows;
  }
  py::array_t<float> rows({count, layout.width});
  float* out = rows.mutable_data();
  if (!is_binary(layout.metric)) {
    if (count > 0) std::memcpy(out, vectors.data(), count * bytes);
    return rows;
  }
  for (std::size_t i = 0; i < count * layout.width; ++i) {
    const std::size_t d = i % layout.width;
    out[i] = static_cast<float>(word(i / layout.width, d / 64) >> (d % 64) & 1);
  }
  return rows;
}

std::string path_from(const py::str& name) {
  PyObject* converted = nullptr;
  if (PyUnicode_FSConverter(name.ptr(), &converted) == 0) throw py::error_already_set();
  return py::reinterpret_steal<py::bytes>(converted);
}

namespace {

// A stop asked for by another Python thread. Never destroyed: a thread may end after the interpreter has.
thread_local PyObject* stop_check = nullptr;

}  // namespace

void set_stop_check(const py::object& check) {
  if (!check.is_none() && PyCallable_Check(check.ptr()) == 0) throw py::type_error("check must be callable or None");
  PyObject* old = stop_check;
  stop_check = check.is_none() ? nullptr : Py_NewRef(check.ptr());
  Py_XDECREF(old);
}

Cancellation interruptible() {
  return Cancellation([] {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) return true;
    // Only the thread that made the Cancellation asks, so this is its check; held, as it may remove itself.
    const auto check = py::reinterpret_borrow<py::object>(stop_check);
    if (!check) return false;
    const auto answer = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(check.ptr()));
    return !answer || PyObject_IsTrue(answer.ptr()) != 0;
  });
}

}  // namespace dask_annoy
