// Vectors, forests and folders to test with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/builder.hpp"
#include "core/forest.hpp"
#include "core/topk.hpp"

namespace dask_annoy {

constexpr auto kMetrics = all_metrics();

struct Vectors {
  Layout layout;
  std::vector<char> bytes;

  std::size_t stride() const { return layout.vector_bytes(); }
  std::size_t count() const { return bytes.size() / stride(); }
  const char* row(std::size_t i) const { return bytes.data() + i * stride(); }
  float* floats(std::size_t i) { return reinterpret_cast<float*>(bytes.data() + i * stride()); }
};

// The same on every machine: sums of whole numbers, or words of bits.
Vectors random_vectors(const Layout& layout, std::size_t count, std::uint64_t seed);

struct BuildOptions {
  BuildSettings settings = {5, 7, 2};
  std::vector<std::int64_t> ids = {};              // 0, 1, 2 … if empty
  std::shared_ptr<NodeStorage> storage = nullptr;  // in memory if absent
};

Forest built(const Vectors& vectors, const BuildOptions& options = {});

// Item i gets the number 3 i + 1.
Forest built_with_holes(const Vectors& vectors, int n_trees = BuildOptions{}.settings.n_trees);

std::vector<char> bytes_of(const Forest& forest);

// Parses a copy of exactly these bytes, so that a sanitizer sees a step beyond them.
Forest parsed(const std::vector<char>& bytes, const Layout& layout, std::size_t n_threads = 2);

// A file as Annoy's development version writes it for dot, with chance values where it leaves them. Vector i gets the
// number i · step.
std::vector<char> development_dot_file(const Vectors& vectors, int n_trees, std::uint64_t seed, std::int32_t step = 1);

// All present items, scored one by one.
std::vector<Neighbor> brute_force(const Forest& forest, const void* query, std::size_t n);

std::vector<std::int64_t> ids_of(const std::vector<Neighbor>& neighbors);

// Removed with all it holds.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::vector<std::string> names() const;
  bool has(const std::string& name) const;

 private:
  std::string path_;
};

std::vector<char> read_file(const std::string& path);
void write_file(const std::string& path, const std::vector<char>& bytes);

}  // namespace dask_annoy
