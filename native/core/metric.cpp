#include "core/metric.hpp"

#include <array>
#include <limits>

namespace dask_annoy {

namespace {

constexpr std::array<std::pair<Metric, const char*>, 5> kNames = {{
    {Metric::angular, "angular"},
    {Metric::euclidean, "euclidean"},
    {Metric::manhattan, "manhattan"},
    {Metric::hamming, "hamming"},
    {Metric::dot, "dot"},
}};

}  // namespace

Metric metric_from_name(const std::string& name) {
  for (const auto& [metric, known] : kNames) {
    if (name == known) return metric;
  }
  throw std::invalid_argument("No such metric: '" + name +
                              "'; known are angular, euclidean, manhattan, hamming and dot");
}

const char* metric_name(Metric metric) {
  for (const auto& [known, name] : kNames) {
    if (known == metric) return name;
  }
  throw std::invalid_argument("No such metric");
}

float missing_distance(Metric metric) {
  const float infinity = std::numeric_limits<float>::infinity();
  return larger_is_better(metric) ? -infinity : infinity;
}

}  // namespace dask_annoy
