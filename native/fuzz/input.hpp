// What the fuzzers feed to the loader: a forest file, and what it is opened as.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/metric.hpp"

namespace dask_annoy::fuzz {

struct Input {
  Metric metric = Metric::angular;
  std::size_t width = 1;
  std::uint8_t choice = 0;  // of queries, budgets and filters
  std::vector<char> file;
};

// libFuzzer's form of it: three bytes (metric, width less 1, choice), then the file. Nothing for fewer bytes.
std::optional<Input> decoded(const std::uint8_t* bytes, std::size_t size);
std::vector<std::uint8_t> encoded(const Input& input);

constexpr std::size_t kWidest = 256;

}  // namespace dask_annoy::fuzz
