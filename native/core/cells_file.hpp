// The file of cells, which lies beside the forest's: docs/format-cells.md has it byte by byte.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "core/cells.hpp"

namespace dask_annoy {

// Where the cells of a forest in that file are.
inline std::string cells_path(const std::string& path) { return path + ".cells"; }

std::size_t cells_file_bytes(const Forest& forest, const Cells& cells);

// Hands the file to `put`, piece by piece.
void write_cells(const Forest& forest, const Cells& cells, const std::function<void(const char*, std::size_t)>& put);

// Checks every byte and whether they are this forest's cells, and uses the codes where they are. `where` names the
// bytes in errors. Throws CorruptFile.
std::shared_ptr<const Cells> parse_cells(std::shared_ptr<const char> bytes, std::size_t size, const Forest& forest,
                                         const std::string& where);

// Maps the file. Throws FileError too.
std::shared_ptr<const Cells> open_cells(const std::string& path, const Forest& forest, bool prefault);

// Whether there is a file that says it holds this forest's cells: its head is read, and no more.
bool has_cells_of(const std::string& path, const Forest& forest);

}  // namespace dask_annoy
