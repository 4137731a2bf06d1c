// Distance kernels: one table of functions per instruction set, chosen at run time.
//
// All tables give the same bits. Every kernel adds element i of a vector into virtual lane i % 32 and folds the
// 32 lanes in one fixed order, multiplication and addition stay separate (the build sets -ffp-contract=off), so
// that trees and returned distances do not depend on the machine (docs/architecture.md, "Reproducible").
#pragma once

#include <string>
#include <vector>

#include "kernels/table.hpp"

namespace dask_annoy {

// The table in use: the best that this machine can run, or the one that DASK_ANNOY_KERNELS names.
// Throws std::invalid_argument when the variable names a table that is unknown or cannot run here.
const Kernels& kernels();

// Names of the tables that this machine can run, best first.
std::vector<std::string> available_kernels();

// The table of that name. Throws std::invalid_argument as kernels() does.
const Kernels& kernels_named(const std::string& name);

// Makes the table of that name the one in use, for tests and measurements; an empty name restores the default.
void use_kernels(const std::string& name);

}  // namespace dask_annoy
