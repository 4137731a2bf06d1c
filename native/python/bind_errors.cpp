// The core's exceptions as Python's.
#include "core/errors.hpp"

#include "python/bindings.hpp"

namespace dask_annoy {

namespace {

// File names are bytes that need not be UTF-8; os.fsdecode turns them into text in the same way.
py::str text_of(const std::exception& error) {
  return py::reinterpret_steal<py::str>(PyUnicode_DecodeFSDefault(error.what()));
}

}  // namespace

void bind_errors() {
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const CorruptFile& error) {
      py::set_error(py::module_::import("dask_annoy.errors").attr("CorruptIndexError"), text_of(error));
    } catch (const FileError& error) {
      // OSError(errno, text) makes itself FileNotFoundError and the like.
      py::set_error(PyExc_OSError, py::make_tuple(error.code, text_of(error)));
    } catch (const StateError& error) {
      py::set_error(PyExc_RuntimeError, error.what());
    } catch (const Interrupted&) {
      // The signal handler's own exception is set already; a stop without one is Ctrl-C all the same.
      if (PyErr_Occurred() == nullptr) PyErr_SetNone(PyExc_KeyboardInterrupt);
    }
  });
}

}  // namespace dask_annoy
