#include "fuzz/input.hpp"

namespace dask_annoy::fuzz {

namespace {

constexpr std::size_t kHeader = 3;

}  // namespace

std::optional<Input> decoded(const std::uint8_t* bytes, std::size_t size) {
  if (size < kHeader) return std::nullopt;
  Input input;
  input.metric = static_cast<Metric>(bytes[0] % kMetricNames.size());
  input.width = std::size_t{bytes[1]} + 1;
  input.choice = bytes[2];
  input.file.assign(bytes + kHeader, bytes + size);
  return input;
}

std::vector<std::uint8_t> encoded(const Input& input) {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(kHeader + input.file.size());
  bytes.push_back(static_cast<std::uint8_t>(input.metric));
  bytes.push_back(static_cast<std::uint8_t>(input.width - 1));
  bytes.push_back(input.choice);
  bytes.insert(bytes.end(), input.file.begin(), input.file.end());
  return bytes;
}

}  // namespace dask_annoy::fuzz
