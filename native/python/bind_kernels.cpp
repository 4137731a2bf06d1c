// Which distance kernels are in use, how many threads -1 means, and who may stop a call.
#include <pybind11/stl.h>

#include "core/parallel.hpp"
#include "kernels/kernels.hpp"
#include "python/arrays.hpp"

namespace dask_annoy {

void bind_kernels(py::module_& m) {
  m.def("available_kernels", &available_kernels,
        "Names of the distance kernels that this machine can run, best first.\n\n"
        "All of them give the same bits; the environment variable DASK_ANNOY_KERNELS forces one.");
  m.def("active_kernels", [] { return std::string(kernels().name); }, "Name of the distance kernels in use.");
  m.def("use_kernels", &use_kernels, py::arg("name"),
        "Use the kernels of that name from now on; an empty name restores the default.\n\n"
        "Raises\n------\nValueError\n    If the name is unknown, or this CPU cannot run them.");
  m.def("thread_count", &thread_count, py::arg("n_jobs") = -1,
        "Threads that ``n_jobs`` stands for: -1 is the processors this process may run on, but no more than the\n"
        "environment variable OMP_NUM_THREADS grants (Dask sets it to 1 for its workers).");
  m.def("set_stop_check", &set_stop_check, py::arg("check"),
        "Have long calls on the calling thread ask ``check()`` from time to time; once it is true they raise "
        "KeyboardInterrupt. None removes it.");
}

}  // namespace dask_annoy
