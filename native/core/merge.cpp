#include "core/merge.hpp"

#include <algorithm>
#include <vector>

namespace dask_annoy {

void merge_rows(const float* distances, const std::int64_t* keys, std::size_t n_rows, std::size_t n_columns,
                std::size_t k, bool larger_is_better, std::int32_t* picked) {
  const float sign = larger_is_better ? -1.0f : 1.0f;
  std::vector<std::int32_t> columns;
  for (std::size_t row = 0; row < n_rows; ++row) {
    const float* d = distances + row * n_columns;
    const std::int64_t* key = keys + row * n_columns;
    columns.clear();
    for (std::size_t c = 0; c < n_columns; ++c) {
      if (key[c] >= 0 && d[c] == d[c]) columns.push_back(static_cast<std::int32_t>(c));
    }
    const auto nearer = [&](std::int32_t a, std::int32_t b) {
      const float to_a = sign * d[a];
      const float to_b = sign * d[b];
      return to_a < to_b || (to_a == to_b && key[a] < key[b]);
    };
    const std::size_t found = std::min(k, columns.size());
    std::partial_sort(columns.begin(), columns.begin() + static_cast<std::ptrdiff_t>(found), columns.end(), nearer);
    for (std::size_t i = 0; i < k; ++i) picked[row * k + i] = i < found ? columns[i] : -1;
  }
}

}  // namespace dask_annoy
