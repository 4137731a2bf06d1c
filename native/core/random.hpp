// Random numbers that depend on a place in the forest and not on who computes it.
//
// Each tree node draws from a generator seeded by (seed, tree, path from the root), so any order of work, on any
// number of threads, builds the same trees. SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dask_annoy {

inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

inline std::uint64_t combine(std::uint64_t seed, std::uint64_t value) { return mix(seed ^ mix(value)); }

// The seed of a tree node's child on that side.
inline std::uint64_t seed_of_child(std::uint64_t seed, int side) {
  return combine(seed, static_cast<std::uint64_t>(side) + 1);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    return mix(state_);
  }

  // Uniform in 0 … bound−1 (Lemire's multiplication; the bias for bounds below 2^32 is under 2^-32).
  std::size_t below(std::size_t bound) {
    return static_cast<std::size_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }

 private:
  std::uint64_t state_;
};

}  // namespace dask_annoy
