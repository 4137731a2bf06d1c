// libFuzzer's entry: bytes are a metric, a width, a choice of queries, and a forest file. See CONTRIBUTING for the
// commands.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "fuzz/exercise.hpp"
#include "fuzz/mutation.hpp"
#include "fuzz/seeds.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* bytes, std::size_t size, std::size_t most);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto input = dask_annoy::fuzz::decoded(bytes, size);
  if (!input) return 0;
  dask_annoy::fuzz::open_and_ask(*input);
  return 0;
}

// Every other time libFuzzer's own changes, which learn from what the code compares; else those that know nodes.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* bytes, std::size_t size, std::size_t most, unsigned seed) {
  static const std::vector<dask_annoy::fuzz::Input> sound = dask_annoy::fuzz::seeds();
  auto input = dask_annoy::fuzz::decoded(bytes, size);
  if (!input || seed % 2 == 0) return LLVMFuzzerMutate(bytes, size, most);
  dask_annoy::Random random(seed);
  dask_annoy::fuzz::mutate(*input, sound[random.below(sound.size())], random);
  const std::vector<std::uint8_t> changed = dask_annoy::fuzz::encoded(*input);
  const std::size_t kept = std::min(changed.size(), most);
  std::copy_n(changed.begin(), kept, bytes);
  return kept;
}
