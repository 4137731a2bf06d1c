// Vectors from Python: sequences and numpy arrays, checked, in the form in which the core stores them.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <vector>

#include "core/layout.hpp"
#include "core/parallel.hpp"
#include "python/bindings.hpp"

namespace dask_annoy {

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
std::vector<char> vector_from(const py::handle& vector, const Layout& layout);

// A two-dimensional array of vectors; with `packed` (hamming) rows of bytes in the order of numpy.packbits.
Rows rows_from(const py::handle& array, const Layout& layout, bool packed);

// Item numbers from anything that converts to one dimension of integers.
py::array_t<std::int64_t, py::array::c_style> item_numbers_from(const py::handle& ids);

// What interruptible() asks on the calling thread besides signals, which reach the main thread only; or None.
void set_stop_check(const py::object& check);

// Stops the work when Python has a signal to handle. Make it while the GIL is held, use it after its release.
Cancellation interruptible();

}  // namespace dask_annoy
