// The arguments `include` and `exclude` of a search.
#pragma once

#include "core/item_filter.hpp"
#include "python/arrays.hpp"

namespace dask_annoy {

// Holds the arrays while the core reads them.
class PyRestriction {
 public:
  // TypeError for what is neither a mask nor item numbers.
  PyRestriction(const py::object& include, const py::object& exclude);

  const Restriction& get() const { return restriction_; }

 private:
  py::object include_;
  py::object exclude_;
  Restriction restriction_;
};

}  // namespace dask_annoy
