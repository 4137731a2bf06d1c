// Sorting a few numbers without a branch that depends on them: a number's place is how many others are less. Included
// by one source per instruction set after the registers of kernels_impl.hpp, whose rules hold.
#pragma once

namespace dask_annoy {
namespace {

#if defined(__AVX2__) || defined(__ARM_NEON)

constexpr std::size_t kWords = kVector / 2;  // in one register
constexpr std::size_t kPlacesAtOnce = 4 * kWords;
typedef std::int64_t Words __attribute__((vector_size(kWords * sizeof(std::int64_t))));

void sort_few(const std::uint64_t* numbers, std::size_t n, std::uint64_t* sorted) {
  constexpr std::uint64_t kSign = std::uint64_t{1} << 63;  // registers compare signed numbers
  std::int64_t compared[kSortedAtMost + kPlacesAtOnce];
  for (std::size_t i = 0; i < n; ++i) compared[i] = static_cast<std::int64_t>(numbers[i] ^ kSign);
  for (std::size_t i = n; i < n + kPlacesAtOnce; ++i) compared[i] = 0;  // their places are not looked at
  for (std::size_t begin = 0; begin < n; begin += kPlacesAtOnce) {
    Words own[4], places[4] = {};
    std::memcpy(own, compared + begin, sizeof own);
    for (std::size_t other = 0; other < n; ++other) {
#pragma GCC unroll 4
      for (std::size_t r = 0; r < 4; ++r) places[r] -= own[r] > compared[other];
    }
    std::int64_t place[kPlacesAtOnce];
    std::memcpy(place, places, sizeof place);
    const std::size_t end = n - begin < kPlacesAtOnce ? n - begin : kPlacesAtOnce;
    for (std::size_t i = 0; i < end; ++i) sorted[place[i]] = numbers[begin + i];
  }
}

#else

void sort_few(const std::uint64_t* numbers, std::size_t n, std::uint64_t* sorted) {
  std::uint32_t places[kSortedAtMost] = {};
  for (std::size_t i = 1; i < n; ++i) {
    std::uint32_t place = 0;
    for (std::size_t other = 0; other < i; ++other) {
      const std::uint32_t less = numbers[other] < numbers[i] ? 1 : 0;
      place += less;
      places[other] += 1 - less;
    }
    places[i] = place;
  }
  for (std::size_t i = 0; i < n; ++i) sorted[places[i]] = numbers[i];
}

#endif

}  // namespace
}  // namespace dask_annoy
