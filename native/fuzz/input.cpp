#include "fuzz/input.hpp"

namespace dask_annoy::fuzz {

namespace {

constexpr std::size_t kHeader = 3;
constexpr std::uint8_t kMetrics = 5;

}  // namespace

std::optional<Input> decoded(const std::uint8_t* bytes, std::size_t size) {
  if (size < kHeader) return std::nullopt;
  Input input;
  input.metric = static_cast<Metric>(bytes[0] % kMetrics);
  input.width = std::size_t{bytes[1]} + 1;
  input.choice = bytes[2];
  input.file.assign(bytes + kHeader, bytes + size);
  return input;
}

std::vector<std::uint8_t> encoded(const Input& input) {
  std::vector<std::uint8_t> bytes = {static_cast<std::uint8_t>(input.metric),
                                     static_cast<std::uint8_t>(input.width - 1), input.choice};
  bytes.insert(bytes.end(), input.file.begin(), input.file.end());
  return bytes;
}

}  // namespace dask_annoy::fuzz
