#include "samples.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "core/random.hpp"
#include "core/scoring.hpp"

namespace dask_annoy {

Vectors random_vectors(const Layout& layout, std::size_t count, std::uint64_t seed) {
  Vectors vectors{layout, std::vector<char>(count * layout.vector_bytes())};
  Random random(seed);
  for (std::size_t i = 0; i < count; ++i) {
    if (is_binary(layout.metric)) {
      auto* words = reinterpret_cast<std::uint64_t*>(vectors.bytes.data() + i * vectors.stride());
      for (std::size_t d = 0; d < layout.width; ++d) words[d / 64] |= (random.next() >> 63) << (d % 64);
    } else {
      for (std::size_t d = 0; d < layout.width; ++d) {
        std::size_t sum = 0;
        for (int term = 0; term < 4; ++term) sum += random.below(4096);
        vectors.floats(i)[d] = (static_cast<float>(sum) - 8190.0f) / 1024.0f;
      }
    }
  }
  return vectors;
}

Forest built(const Vectors& vectors, const BuildOptions& options) {
  ForestBuilder builder(vectors.layout, options.storage ? options.storage : memory_storage());
  builder.add(vectors.bytes.data(), vectors.stride(), vectors.count(), 0,
              options.ids.empty() ? nullptr : options.ids.data());
  Cancellation never;
  return builder.build(options.settings, never);
}

Forest built_with_holes(const Vectors& vectors, int n_trees) {
  BuildOptions options;
  options.settings.n_trees = n_trees;
  for (std::size_t i = 0; i < vectors.count(); ++i) options.ids.push_back(static_cast<std::int64_t>(3 * i + 1));
  return built(vectors, options);
}

std::vector<char> bytes_of(const Forest& forest) {
  return {forest.nodes.get(), forest.nodes.get() + forest.n_nodes * forest.layout.node_size};
}

Forest parsed(const std::vector<char>& bytes, const Layout& layout, std::size_t n_threads) {
  std::shared_ptr<char[]> copy(new char[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), copy.get());
  Cancellation never;
  return parse_forest(std::shared_ptr<const char>(copy, copy.get()), bytes.size(), layout, "test", n_threads, never);
}

namespace {

// From a description of the format: it shares the layout's offsets with the code under test, and nothing else.
class DevelopmentDot {
 public:
  DevelopmentDot(const Vectors& vectors, std::uint64_t seed, std::int32_t step)
      : vectors_(vectors), layout_(Layout::of_development_dot(vectors.layout.width)), random_(seed) {
    for (std::size_t i = 0; i < vectors.count(); ++i) ids_.push_back(static_cast<std::int32_t>(i) * step);
    n_items_ = ids_.empty() ? 0 : ids_.back() + 1;
    float largest = 0.0f;
    for (std::size_t i = 0; i < vectors.count(); ++i) largest = std::max(largest, squared_norm(i));
    for (std::int32_t id = 0; id < n_items_; ++id) {
      char* const node = append();
      put(node, 16, largest);
      put(node, 20, std::int32_t{1});
      if (id % step != 0) {
        put(node, 12, std::sqrt(largest));
        continue;
      }
      const auto i = static_cast<std::size_t>(id / step);
      put(node, 0, std::int32_t{1});
      put(node, 12, std::sqrt(std::max(0.0f, largest - squared_norm(i))));
      std::memcpy(node + 24, vectors.row(i), vectors.stride());
    }
  }

  std::vector<char> with_trees(int n_trees) {
    std::vector<std::size_t> roots;
    for (int t = 0; t < n_trees; ++t) roots.push_back(static_cast<std::size_t>(grow(ids_, true)));
    for (const std::size_t root : roots) {
      char* const copy = append();
      std::memcpy(copy, nodes_.data() + root * layout_.node_size, layout_.node_size);
    }
    return nodes_;
  }

 private:
  float squared_norm(std::size_t i) const {
    const auto* v = reinterpret_cast<const float*>(vectors_.row(i));
    float sum = 0.0f;
    for (std::size_t d = 0; d < layout_.width; ++d) sum += v[d] * v[d];
    return sum;
  }

  char* append() {
    nodes_.resize(nodes_.size() + layout_.node_size, 0);
    return nodes_.data() + nodes_.size() - layout_.node_size;
  }

  template <class T>
  static void put(char* node, std::size_t offset, T value) {
    std::memcpy(node + offset, &value, sizeof value);
  }

  std::int32_t last() const { return static_cast<std::int32_t>(nodes_.size() / layout_.node_size) - 1; }

  std::int32_t grow(const std::vector<std::int32_t>& ids, bool is_root) {
    if (ids.size() == 1 && !is_root) return ids[0];
    const std::size_t capacity = layout_.width + 5;
    const auto n = static_cast<std::size_t>(n_items_);
    if (ids.size() <= capacity && (!is_root || n <= capacity || ids.size() == 1)) {
      char* const node = append();
      put(node, 0, is_root ? n_items_ : static_cast<std::int32_t>(ids.size()));
      for (std::size_t i = 0; i < ids.size(); ++i) put(node, 4 + 4 * i, ids[i]);
      return last();
    }
    std::vector<float> normal(layout_.width + 1);
    std::vector<std::int32_t> sides[2];
    for (int attempt = 0; attempt < 4 && (sides[0].empty() || sides[1].empty()); ++attempt) {
      for (auto& x : normal) x = static_cast<float>(random_.below(2001)) / 1000.0f - 1.0f;
      for (auto& side : sides) side.clear();
      for (const std::int32_t id : ids) sides[margin(normal, id) > 0.0f ? 1 : 0].push_back(id);
    }
    if (sides[0].empty() || sides[1].empty()) {
      std::fill(normal.begin(), normal.end(), 0.0f);
      for (auto& side : sides) side.clear();
      for (std::size_t i = 0; i < ids.size(); ++i) sides[i % 2].push_back(ids[i]);
    }
    const std::int32_t children[2] = {grow(sides[0], false), grow(sides[1], false)};
    char* const node = append();
    put(node, 0, is_root ? n_items_ : static_cast<std::int32_t>(ids.size()));
    put(node, 4, children[0]);
    put(node, 8, children[1]);
    put(node, 12, normal[layout_.width]);
    put(node, 16, random_.next());  // what the stack held
    std::memcpy(node + 24, normal.data(), 4 * layout_.width);
    return last();
  }

  float margin(const std::vector<float>& normal, std::int32_t id) const {
    const char* const node = nodes_.data() + static_cast<std::size_t>(id) * layout_.node_size;
    const auto* v = reinterpret_cast<const float*>(node + 24);
    float extra;
    std::memcpy(&extra, node + 12, sizeof extra);
    float sum = normal[layout_.width] * extra;
    for (std::size_t d = 0; d < layout_.width; ++d) sum += normal[d] * v[d];
    return sum;
  }

  const Vectors& vectors_;
  const Layout layout_;
  Random random_;
  std::int32_t n_items_;
  std::vector<std::int32_t> ids_;
  std::vector<char> nodes_;
};

}  // namespace

std::vector<char> development_dot_file(const Vectors& vectors, int n_trees, std::uint64_t seed, std::int32_t step) {
  return DevelopmentDot(vectors, seed, step).with_trees(n_trees);
}

std::vector<Neighbor> brute_force(const Forest& forest, const void* vector, std::size_t n) {
  const Query query = Query::of(forest.layout, vector);
  std::vector<Neighbor> all;
  for (std::int32_t id = 0; id < forest.n_items; ++id) {
    if (forest.node(id).n_descendants() != 1) continue;
    float distance = 0.0f;
    score_nodes(forest.layout, query, RowSet{forest.at(id), forest.layout.node_size, nullptr, 1}, &distance);
    all.push_back({distance, id});
  }
  std::sort(all.begin(), all.end());
  all.resize(std::min(n, all.size()));
  return all;
}

std::vector<std::int64_t> ids_of(const std::vector<Neighbor>& neighbors) {
  std::vector<std::int64_t> ids;
  for (const Neighbor& neighbor : neighbors) ids.push_back(neighbor.id);
  return ids;
}

TemporaryFolder::TemporaryFolder() {
  path_ = (std::filesystem::temp_directory_path() / "dask-annoy-test-XXXXXX").string();
  if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("cannot create a temporary folder");
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TemporaryFolder::names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_))
    names.push_back(entry.path().filename().string());
  return names;
}

bool TemporaryFolder::has(const std::string& name) const { return std::filesystem::exists(file(name)); }

std::vector<char> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_file(const std::string& path, const std::vector<char>& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace dask_annoy
