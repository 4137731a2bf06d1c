// The index as Annoy's users know it: add, build, save or load, ask, close. Safe to use from several threads: queries
// run side by side, and whatever changes the index runs alone. Queries of a loaded file hold the file and nothing else,
// so a load or a close does not wait for them; what changes a forest that was built here does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/builder.hpp"
#include "core/cells.hpp"
#include "core/forest.hpp"
#include "core/index_mutex.hpp"
#include "core/item_filter.hpp"
#include "core/parallel.hpp"
#include "core/planner.hpp"
#include "core/topk.hpp"

namespace dask_annoy {

// What an index is at one moment.
struct IndexStatus {
  std::int32_t n_items = 0;
  std::size_t n_trees = 0;
  bool is_built = false;
  bool is_loaded = false;                  // read-only: from a file or from bytes
  std::size_t n_bytes = 0;                 // of items and trees
  std::size_t n_cells = 0;                 // 0 without cells
  std::size_t cells_bytes = 0;             // of their file
  std::uint64_t seed = 0;                  // of the next build
  std::string building_file;               // of an on-disk build
  std::shared_ptr<const MappedFile> file;  // that is mapped
};

// How to search for neighbours.
struct SearchOptions {
  SearchOptions(std::int64_t search_k_ = -1, SearchMethod method_ = SearchMethod::automatic)  // NOLINT: mostly a budget
      : search_k(search_k_), method(method_) {}

  std::int64_t search_k;
  SearchMethod method;
};

// What is said of a closed index.
inline constexpr const char* kClosed =
    "the index is closed; make a new one, or use unload() to empty one that is still needed";

class Index {
 public:
  static constexpr std::uint64_t kDefaultSeed = 1234567890987654321u;  // Annoy's

  Index(Metric metric, std::size_t width);

  const Layout& layout() const { return layout_; }
  std::int32_t n_items() const;
  std::size_t n_trees() const;
  bool is_built() const;
  IndexStatus status() const;

  void set_seed(std::uint64_t seed);

  // From now on items go to this file, which also becomes the saved index. Before any item.
  void on_disk_build(const std::string& path);

  // See ForestBuilder::add. StateError once the index is built or loaded.
  void add(const char* vectors, std::size_t stride, std::size_t count, const std::int64_t* ids);
  // Returns the first number given.
  std::int32_t add_after_last(const char* vectors, std::size_t stride, std::size_t count);

  // The process's resident memory is kept under `memory_limit` bytes, as far as the build is what takes it.
  // std::invalid_argument, naming the least that will do, when that cannot be.
  void build(int n_trees, int n_jobs, Cancellation& cancellation, std::size_t memory_limit = kUnlimited);

  // The same for a process that does other things meanwhile: the build takes `working_bytes` beside what holds the
  // items and, in memory, the trees. std::invalid_argument if that is too little.
  void build_within(int n_trees, int n_jobs, Cancellation& cancellation, std::size_t working_bytes);

  void unbuild();

  // Gives the forest cells, which searches use from then on: see cells.hpp. Queries go on meanwhile. StateError without
  // trees, or when the index is changed before the cells are done.
  // The process's resident memory is kept under `memory_limit` bytes, as far as the cells are what takes it.
  // std::invalid_argument, naming the least that will do, when that cannot be.
  void build_cells(CellSettings settings, int n_jobs, Cancellation& cancellation,
                   std::size_t memory_limit = kUnlimited);
  // Numbers items that were added without holes so that cells are runs of them, and gives the next build those cells.
  // Returns the former numbers by the new ones. One tree is grown for it and cut off again, within `working_bytes`
  // beside what holds the items. StateError once the index is built or loaded, or with holes.
  std::vector<std::int32_t> order_by_cells(CellSettings settings, int n_jobs, Cancellation& cancellation,
                                           std::size_t working_bytes);
  // Pages of mapped files stop counting as the process's memory, until they are looked at again. Queries go on
  // meanwhile.
  void release_pages() const;

  // From a file of cells, wherever it lies.
  void open_cells(const std::string& path, bool prefault);
  // Whether there is such a file that says it holds this forest's cells. StateError without trees.
  bool has_cells_at(const std::string& path) const;
  // From the bytes of one, which are kept.
  void load_cells(std::shared_ptr<const char> bytes, std::size_t size, const std::string& where);
  // Those bytes, copied to where make_room(size) says. StateError without cells.
  void copy_cells(const std::function<char*(std::size_t)>& make_room) const;

  // Writes a file that Annoy 1.17.3 reads, and goes on from that file, as Annoy does. The file appears whole or not at
  // all. What was loaded from dot nodes of Annoy's development version is turned into 1.17.3's: see dot_conversion.hpp.
  // Cells go to a file beside it; one that is there and holds other cells is removed.
  void save(const std::string& path, bool prefault, Cancellation& cancellation);
  // With `cells` also those beside it, which are made anew if that file is missing.
  void load(const std::string& path, bool prefault, Cancellation& cancellation, bool cells = false);
  // Forgets items, trees and file; the index is as new.
  void unload();

  // For callers who never stop.
  void save(const std::string& path, bool prefault) {
    Cancellation never;
    save(path, prefault, never);
  }
  void load(const std::string& path, bool prefault) {
    Cancellation never;
    load(path, prefault, never);
  }

  // Lets go of everything, for good: whatever is asked of the index from now on is a StateError, but for this and
  // layout(). Queries under way end as if nothing had happened.
  void close();
  bool is_closed() const;
  void require_open() const;  // StateError once it is closed

  // The bytes of the file that save() would write, copied to where make_room(size) says. StateError without trees.
  void copy_file(const std::function<char*(std::size_t)>& make_room) const;
  // As load(), from bytes, which are kept. `where` names them in errors.
  void load_bytes(std::shared_ptr<const char> bytes, std::size_t size, Cancellation& cancellation,
                  const std::string& where = "bytes");

  // `search_k` is as in search(), or with cells as in search_cells(). An index without trees answers with nothing. A
  // restriction is checked against the items there are: see ItemFilter. StateError for a method that cannot be had.
  std::vector<Neighbor> nearest(const void* query, std::size_t n, const SearchOptions& options,
                                const Restriction& restriction = {}) const;
  std::vector<Neighbor> nearest_to_item(std::int64_t item, std::size_t n, const SearchOptions& options,
                                        const Restriction& restriction = {}) const;
  void nearest_batch(const char* queries, std::size_t stride, std::size_t count, std::size_t n,
                     const SearchOptions& options, int n_jobs, Cancellation& cancellation, std::int64_t* ids,
                     float* distances, const Restriction& restriction = {}) const;
  void nearest_to_items(const std::int64_t* items, std::size_t count, std::size_t n, const SearchOptions& options,
                        int n_jobs, Cancellation& cancellation, std::int64_t* ids, float* distances,
                        const Restriction& restriction = {}) const;

  // How the calls above would go about it; it is what they ask themselves. StateError without trees.
  SearchPlan plan_search(std::size_t n_queries, std::size_t n, const SearchOptions& options, int n_jobs,
                         const Restriction& restriction = {}) const;
  // Whether searches without cells keep to Annoy's answers, as they do at first, or may give better ones that cost no
  // more.
  void set_as_annoy(bool as_annoy);

  // The items not farther than `radius`, a returned distance (for dot: whose product is not smaller); see within.hpp.
  // std::invalid_argument for NaN.
  std::vector<Neighbor> within(const void* query, double radius, std::size_t limit, std::int64_t search_k,
                               Cancellation& cancellation, const Restriction& restriction = {}) const;
  std::vector<Neighbor> within_of_item(std::int64_t item, double radius, std::size_t limit, std::int64_t search_k,
                                       Cancellation& cancellation, const Restriction& restriction = {}) const;

  // See search.hpp. StateError without trees.
  void budgets_to_find(const char* queries, std::size_t stride, std::size_t count, const std::int64_t* targets,
                       std::size_t n_targets, int n_jobs, Cancellation& cancellation, std::int64_t* budgets) const;

  // The item's node in layout(); zeros for a hole. std::out_of_range for a number that is no item's.
  std::vector<char> item_node(std::int64_t item) const;
  // Their vectors one after the other (floats, or words of bits); zeros for holes.
  void item_vectors(const std::int64_t* items, std::size_t count, char* vectors) const;
  bool has_item(std::int64_t item) const;  // false for holes and for numbers that are no item's
  std::vector<std::int64_t> present_items() const;
  float distance(std::int64_t a, std::int64_t b) const;  // in compared form

 private:
  class View;

  View view() const;
  void require_open_unlocked() const;
  void require_growing(const char* what) const;
  void use_cells(const std::function<std::shared_ptr<const Cells>(const Forest&)>& read);
  void take_cells(const std::shared_ptr<const Forest>& forest, std::shared_ptr<const Cells> cells);
  void take(std::shared_ptr<const Forest> forest, std::shared_ptr<const Cells> cells);
  void let_go_of_forest();
  void build_unlocked(const BuildSettings& settings, Cancellation& cancellation);
  void reset();

  const Layout layout_;
  mutable IndexMutex mutex_;
  std::uint64_t seed_ = kDefaultSeed;
  std::optional<ForestBuilder> builder_;  // absent while a file is loaded
  std::shared_ptr<const Forest> forest_;  // present once built or loaded
  std::shared_ptr<const Cells> cells_;    // of forest_, if there are any
  std::shared_ptr<const Cells> ordered_;  // of the builder's items, which are numbered by them
  std::string disk_path_;                 // of an on-disk build
  bool as_annoy_ = true;
  bool closed_ = false;
};

}  // namespace dask_annoy
