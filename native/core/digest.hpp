// A digest of rows that does not depend on how they were cut into blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace dask_annoy {

// The sum, modulo 2^128, of a 128-bit hash of each row's bytes and number. Digests of blocks add up to the digest of
// the whole. It tells changed data from unchanged; it does not withstand someone who forges collisions.
std::pair<std::uint64_t, std::uint64_t> digest_rows(const char* rows, std::size_t stride, std::size_t row_bytes,
                                                    std::size_t count, std::uint64_t first);

}  // namespace dask_annoy
