// The five metrics and what differs between them. This is the one registry: see CONTRIBUTING, "Adding a metric".
#pragma once

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

// Distances are compared in the form in which they are returned, but with dot's sign turned: what looks equal to users
// is equal, so that ties are theirs, too, and answers of parts merge into the answer of the whole.
inline float returned_distance(Metric metric, float compared) {
  return larger_is_better(metric) ? -compared : compared;
}

// What stands for "no neighbour" in a padded row of distances.
float missing_distance(Metric metric);

}  // namespace dask_annoy
