#include "samples.hpp"

#include <algorithm>
#include <cstdlib>
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

std::vector<char> bytes_of(const Forest& forest) {
  return {forest.nodes.get(), forest.nodes.get() + forest.n_nodes * forest.layout.node_size};
}

Forest parsed(const std::vector<char>& bytes, const Layout& layout) {
  std::shared_ptr<char[]> copy(new char[bytes.size()]);
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return parse_forest(std::shared_ptr<const char>(copy, copy.get()), bytes.size(), layout, "test");
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
