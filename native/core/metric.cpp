#include "core/metric.hpp"

#include <limits>

namespace dask_annoy {

namespace {

std::string known_names() {
  std::string names;
  for (std::size_t i = 0; i < kMetricNames.size(); ++i) {
    if (i > 0) names += i + 1 < kMetricNames.size() ? ", " : " and ";
    names += kMetricNames[i];
  }
  return names;
}

}  // namespace

Metric metric_from_name(const std::string& name) {
  for (std::size_t i = 0; i < kMetricNames.size(); ++i) {
    if (name == kMetricNames[i]) return static_cast<Metric>(i);
  }
  throw std::invalid_argument("No such metric: '" + name + "'; known are " + known_names());
}

const char* metric_name(Metric metric) {
  if (!is_metric(metric)) throw std::invalid_argument("No such metric");
  return kMetricNames[static_cast<std::size_t>(metric)];
}

float missing_distance(Metric metric) {
  const float infinity = std::numeric_limits<float>::infinity();
  return larger_is_better(metric) ? -infinity : infinity;
}

}  // namespace dask_annoy
