// Writing a file whole or not at all.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "core/parallel.hpp"

namespace dask_annoy {

// Creates or replaces the file with what `fill` hands to its argument, piece by piece. Throws FileError, Interrupted,
// or what `fill` throws, and then leaves everything as it was.
void write_whole(const std::string& path, Cancellation& cancellation,
                 const std::function<void(const std::function<void(const char*, std::size_t)>&)>& fill);

}  // namespace dask_annoy
