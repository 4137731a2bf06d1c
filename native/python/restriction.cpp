#include "python/restriction.hpp"

#include <string>

#include "python/item_numbers.hpp"

namespace dask_annoy {

namespace {

// Puts the array that the selection points into under `keep`.
Selection selection_from(const py::object& items, const char* name, py::object& keep) {
  Selection selection;
  if (items.is_none()) return selection;
  const py::array any(items);
  if (any.ndim() != 1) {
    throw py::type_error(std::string(name) + " must be a mask or item numbers, in one dimension");
  }
  selection.size = static_cast<std::size_t>(any.size());
  const char kind = any.dtype().kind();
  if (kind == 'b') {
    const PlainArray<bool> mask(any);
    selection.kind = Selection::Kind::mask;
    selection.mask = reinterpret_cast<const std::uint8_t*>(mask.data());
    keep = mask;
  } else if (kind == 'i' || kind == 'u' || selection.size == 0) {
    const PlainArray<std::int64_t> numbers = integers_from(any, name);
    selection.kind = Selection::Kind::numbers;
    selection.numbers = numbers.data();
    keep = numbers;
  } else {
    throw py::type_error(std::string(name) + " must be a mask of bool or item numbers, got an array of " +
                         py::str(any.dtype()).cast<std::string>());
  }
  return selection;
}

}  // namespace

PyRestriction::PyRestriction(const py::object& include, const py::object& exclude) {
  restriction_.include = selection_from(include, "include", include_);
  restriction_.exclude = selection_from(exclude, "exclude", exclude_);
}

}  // namespace dask_annoy
