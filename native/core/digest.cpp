#include "core/digest.hpp"

#include <cstring>

#include "core/random.hpp"

namespace dask_annoy {

namespace {

constexpr std::uint64_t kMultiplier = 0x9fb21c651e98df25u;

std::uint64_t hash_bytes(const char* bytes, std::size_t n, std::uint64_t seed) {
  std::uint64_t state = mix(seed ^ n);
  std::uint64_t word = 0;
  for (; n >= sizeof word; bytes += sizeof word, n -= sizeof word) {
    std::memcpy(&word, bytes, sizeof word);
    state = (state ^ word) * kMultiplier;
    state ^= state >> 29;
  }
  if (n > 0) {
    word = 0;
    std::memcpy(&word, bytes, n);
    state = (state ^ word) * kMultiplier;
    state ^= state >> 29;
  }
  return mix(state);
}

}  // namespace

std::pair<std::uint64_t, std::uint64_t> digest_rows(const char* rows, std::size_t stride, std::size_t row_bytes,
                                                    std::size_t count, std::uint64_t first) {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  for (std::size_t r = 0; r < count; ++r) {
    const std::uint64_t place = mix(first + r);
    const std::uint64_t row_low = hash_bytes(rows + r * stride, row_bytes, place);
    const std::uint64_t row_high = hash_bytes(rows + r * stride, row_bytes, ~place);
    low += row_low;
    high += row_high + (low < row_low ? 1 : 0);
  }
  return {high, low};
}

}  // namespace dask_annoy
