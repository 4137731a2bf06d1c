// Item numbers from Python: one as an argument, or many as an array. What is beyond 64 bits is a whole number that no
// item has, so an IndexError that names it, and never wrapped round to the number of another item.
#pragma once

#include <cstdint>

#include "python/arrays.hpp"

namespace dask_annoy {

// An argument of a bound function.
struct ItemNumber {
  std::int64_t value;
};

// An array of any shape. TypeError unless it holds integers (an empty one may be of any type).
PlainArray<std::int64_t> integers_from(const py::object& numbers, const char* name);

// Item numbers in one dimension; ValueError for more.
PlainArray<std::int64_t> item_numbers_from(const py::object& ids);

[[noreturn]] void refuse_item_number(const py::handle& number);

}  // namespace dask_annoy

template <>
struct pybind11::detail::type_caster<dask_annoy::ItemNumber> {
  PYBIND11_TYPE_CASTER(dask_annoy::ItemNumber, const_name("typing.SupportsIndex"));

  bool load(handle source, bool /*convert*/) {
    if (!source || PyIndex_Check(source.ptr()) == 0) return false;
    const auto number = reinterpret_steal<object>(PyNumber_Index(source.ptr()));
    if (!number) {  // an array of several numbers, for one
      PyErr_Clear();
      return false;
    }
    int overflow = 0;
    value.value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (overflow != 0) dask_annoy::refuse_item_number(number);
    return true;
  }
};
