// Opens a file and asks everything of it that a user can, watching that answers keep what they promise.
#pragma once

#include "fuzz/input.hpp"

namespace dask_annoy::fuzz {

// Whether the file was accepted. Aborts with a message when an answer breaks a promise: items that are not there,
// wrong order, NaN, a filter not kept, a converted file that differs. All else is for the sanitizers to see.
bool open_and_ask(const Input& input);

}  // namespace dask_annoy::fuzz
