// Vectors from Python: sequences and numpy arrays, checked, in the form in which the core stores them.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <vector>

#include "core/layout.hpp"
#include "core/parallel.hpp"
#include "python/bindings.hpp"

namespace dask_annoy {

// Arrays as the core reads them: native byte order, C order, aligned; anything else is converted.
template <class T>
using PlainArray = py::array_t<T, py::array::c_style | py::array::forcecast | py::detail::npy_api::NPY_ARRAY_ALIGNED_>;

// Rows that the core can read: either the caller's own array, or a converted copy.
struct Rows {
  py::object keep_alive;
  std::vector<std::uint64_t> words;  // hamming
  const char* data = nullptr;
  std::size_t stride = 0;
  std::size_t count = 0;
};

// One vector of the index's width. IndexError for a wrong length (as in Annoy), TypeError for what is no sequence of
// numbers, ValueError for NaN and infinity.
std::vector<char> vector_from(const py::object& vector, const Layout& layout);

// A two-dimensional array of vectors; with `packed` (hamming) rows of bytes in the order of numpy.packbits.
Rows rows_from(const py::object& array, const Layout& layout, bool packed);

// The other way: `count` vectors as the core stores them to an array of shape (count, width), or of bytes when packed.
py::array array_from(const std::vector<char>& vectors, std::size_t count, const Layout& layout, bool packed);

// A file's name as the operating system takes it. ValueError for a name with a null character.
std::string path_from(const py::str& name);

// What interruptible() asks on the calling thread besides signals, which reach the main thread only; or None.
// TypeError for what cannot be called.
void set_stop_check(const py::object& check);

// Stops the work when Python has a signal to handle. Make it while the GIL is held, use it after its release.
Cancellation interruptible();

}  // namespace dask_annoy
