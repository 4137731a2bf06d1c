#include "python/item_numbers.hpp"

#include <string>

namespace dask_annoy {

void refuse_item_number(const py::handle& number) {
  throw py::index_error("Item index " + py::str(number).cast<std::string>() +
                        " is no item's: item numbers are below 2^31 - 1");
}

PlainArray<std::int64_t> integers_from(const py::object& numbers, const char* name) {
  const py::array any(numbers);
  const char kind = any.dtype().kind();
  if (any.size() > 0 && kind != 'i' && kind != 'u') {
    throw py::type_error(std::string(name) + " must be integers, got an array of " +
                         py::str(any.dtype()).cast<std::string>());
  }
  PlainArray<std::int64_t> plain(any);
  if (kind == 'u' && any.itemsize() == sizeof(std::int64_t)) {
    // Of 64 bits without a sign: what wrapped round in the conversion is negative now.
    const std::int64_t* values = plain.data();
    for (py::ssize_t i = 0; i < plain.size(); ++i) {
      if (values[i] < 0) refuse_item_number(py::int_(static_cast<std::uint64_t>(values[i])));
    }
  }
  return plain;
}

PlainArray<std::int64_t> item_numbers_from(const py::object& ids) {
  PlainArray<std::int64_t> numbers = integers_from(ids, "item numbers");
  if (numbers.ndim() != 1) throw py::value_error("item numbers must have one dimension");
  return numbers;
}

}  // namespace dask_annoy
