// The metrics and what differs between them. This is the one registry: see CONTRIBUTING, "Adding a metric".
// Installed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace dask_annoy {

enum class Metric : std::uint8_t { angular, euclidean, manhattan, hamming, dot };

// Their names, in that order.
inline constexpr std::array kMetricNames = {"angular", "euclidean", "manhattan", "hamming", "dot"};

constexpr bool is_metric(Metric metric) { return static_cast<std::size_t>(metric) < kMetricNames.size(); }

constexpr std::array<Metric, kMetricNames.size()> all_metrics() {
  std::array<Metric, kMetricNames.size()> metrics{};
  for (std::size_t i = 0; i < metrics.size(); ++i) metrics[i] = static_cast<Metric>(i);
  return metrics;
}

// Throws std::invalid_argument for a name that Annoy does not know.
Metric metric_from_name(const std::string& name);
const char* metric_name(Metric metric);

// Dot returns a similarity; everything else a distance.
constexpr bool larger_is_better(Metric metric) { return metric == Metric::dot; }

// Vectors of bits in 64-bit words instead of floats.
constexpr bool is_binary(Metric metric) { return metric == Metric::hamming; }

// An item's node holds the square of its norm.
constexpr bool stores_norm(Metric metric) { return metric == Metric::angular; }

// Distances are compared in the form in which they are returned, but with dot's sign turned: what looks equal to users
// is equal, so that ties are theirs, too, and answers of parts merge into the answer of the whole.
inline float returned_distance(Metric metric, float compared) {
  return larger_is_better(metric) ? -compared : compared;
}

// What stands for "no neighbour" in a padded row of distances.
float missing_distance(Metric metric);

}  // namespace dask_annoy
