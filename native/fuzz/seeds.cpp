#include "fuzz/seeds.hpp"

#include "tests/samples.hpp"

namespace dask_annoy::fuzz {

namespace {

Vectors vectors_of(const Layout& layout, std::size_t n, bool equal) {
  Vectors vectors = random_vectors(layout, n, n);
  if (!equal) return vectors;
  for (std::size_t at = vectors.stride(); at < vectors.bytes.size(); ++at) {
    vectors.bytes[at] = vectors.bytes[at - vectors.stride()];
  }
  return vectors;
}

}  // namespace

std::vector<Input> seeds() {
  std::vector<Input> all;
  for (const Metric metric : kMetrics) {
    for (const std::size_t width : {1, 3, 9, 70}) {
      const Layout layout = Layout::of(metric, width);
      for (const std::size_t n : {0, 1, 2, 5, 14, 60}) {
        for (const bool equal : {false, true}) {
          for (const std::int32_t step : {1, 2}) {
            for (const int n_trees : {1, 3}) {
              if (n > 5 && step == 2 && equal) continue;
              const Vectors vectors = vectors_of(layout, n, equal);
              BuildOptions options;
              options.settings.n_trees = n_trees;
              options.settings.n_threads = 1;
              for (std::size_t i = 0; i < n; ++i) options.ids.push_back(static_cast<std::int64_t>(i) * step);
              const auto choice = static_cast<std::uint8_t>(all.size());
              all.push_back({metric, width, choice, bytes_of(built(vectors, options))});
              if (metric == Metric::dot)
                all.push_back({metric, width, choice, development_dot_file(vectors, n_trees, n, step)});
            }
          }
        }
      }
    }
  }
  return all;
}

}  // namespace dask_annoy::fuzz
