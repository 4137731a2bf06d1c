// The five metrics and what differs between them. This is the one registry: see CONTRIBUTING, "Adding a metric".
#pragma once

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace dask_annoy {

enum class Metric : std::uint8_t { angular, euclidean, manhattan, hamming, dot };

// Throws std::invalid_argument for a name that Annoy does not know.
Metric metric_from_name(const std::string& name);
const char* metric_name(Metric metric);

// Dot returns a similarity; everything else a distance.
constexpr bool larger_is_better(Metric metric) { return metric == Metric::dot; }

// Vectors of bits in 64-bit words instead of floats.
constexpr bool is_binary(Metric metric) { return metric == Metric::hamming; }

// The form in which distances are compared (squared, negated) into the form that is returned.
inline float returned_distance(Metric metric, float compared) {
  switch (metric) {
    case Metric::angular:
    case Metric::euclidean:
      return std::sqrt(compared > 0.0f ? compared : 0.0f);
    case Metric::dot:
      return -compared;
    case Metric::manhattan:
    case Metric::hamming:
      return compared;
  }
  return compared;
}

// What stands for "no neighbour" in a padded row of distances.
float missing_distance(Metric metric);

}  // namespace dask_annoy
