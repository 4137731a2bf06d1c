#include "core/index.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <utility>

#include "core/cells_file.hpp"
#include "core/cells_search.hpp"
#include "core/dot_conversion.hpp"
#include "core/errors.hpp"
#include "core/index_view.hpp"
#include "core/scoring.hpp"
#include "core/search.hpp"
#include "core/whole_file.hpp"
#include "core/within.hpp"

namespace dask_annoy {

namespace {

bool same_file(const std::string& a, const std::string& b) {
  struct stat first{};
  struct stat second{};
  return stat(a.c_str(), &first) == 0 && stat(b.c_str(), &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

bool exists(const std::string& path) {
  struct stat found{};
  return stat(path.c_str(), &found) == 0;
}

void remove_stale(const std::string& path) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT) throw FileError("cannot remove the cells of another forest", path);
}

const ItemFilter* address_of(const std::optional<ItemFilter>& filter) { return filter ? &*filter : nullptr; }

// What was written of a mapped file does not stay the process's memory.
void write_nodes(const Forest& forest, const ByteSink& put) {
  constexpr std::size_t kPiece = std::size_t{4} << 20;
  for (std::size_t at = 0; at < forest.size(); at += kPiece) {
    const std::size_t n = std::min(kPiece, forest.size() - at);
    put(forest.nodes.get() + at, n);
    if (forest.mapping) forest.mapping->release(at, n);
  }
}

double compared_radius(Metric metric, double radius) {
  if (std::isnan(radius)) throw std::invalid_argument("radius must be a number, got NaN");
  return larger_is_better(metric) ? -radius : radius;
}

}  // namespace

Index::Index(Metric metric, std::size_t width) : layout_(Layout::of(metric, width)) {
  if (width == 0) throw std::invalid_argument("vectors must have at least one dimension");
  reset();
}

Index::View Index::view() const { return View(*this); }

void Index::let_go_of_forest() {
  forest_.reset();
  cells_.reset();
}

void Index::reset() {
  let_go_of_forest();
  disk_path_.clear();
  builder_.emplace(layout_, memory_storage());
  ordered_.reset();
}

std::int32_t Index::n_items() const { return view().n_items(); }

std::size_t Index::n_trees() const {
  const View now = view();
  return now.forest() ? now.forest()->roots.size() : 0;
}

bool Index::is_built() const { return view().forest() != nullptr; }

IndexStatus Index::status() const {
  const std::shared_lock lock(mutex_);
  require_open_unlocked();
  IndexStatus status;
  status.n_items = builder_ ? builder_->n_items() : forest_->n_items;
  status.n_trees = forest_ ? forest_->roots.size() : 0;
  status.is_built = forest_ != nullptr;
  status.is_loaded = !builder_;
  status.n_bytes = forest_ ? forest_->size() : static_cast<std::size_t>(status.n_items) * layout_.node_size;
  status.n_cells = cells_ ? cells_->n_cells() : 0;
  status.cells_bytes = cells_ ? cells_file_bytes(*forest_, *cells_) : 0;
  status.seed = seed_;
  status.building_file = disk_path_;
  if (forest_) status.file = forest_->file;
  return status;
}

void Index::set_seed(std::uint64_t seed) {
  const std::unique_lock lock(mutex_);
  require_open_unlocked();
  seed_ = seed;
}

void Index::require_open() const {
  const std::shared_lock lock(mutex_);
  require_open_unlocked();
}

void Index::require_open_unlocked() const {
  if (closed_) throw StateError(kClosed);
}

void Index::require_growing(const char* what) const {
  require_open_unlocked();
  if (!builder_) throw StateError(std::string("You can't ") + what + " a loaded index");
  if (forest_) throw StateError(std::string("You can't ") + what + " a built index; call unbuild() first");
}

void Index::on_disk_build(const std::string& path) {
  const std::unique_lock lock(mutex_);
  require_growing("build on disk with");
  if (builder_->n_items() > 0) throw StateError("on_disk_build() must come before the first item");
  remove_stale(cells_path(path));
  builder_.emplace(layout_, file_storage(path));
  disk_path_ = path;
}

void Index::add(const char* vectors, std::size_t stride, std::size_t count, const std::int64_t* ids) {
  const std::unique_lock lock(mutex_);
  require_growing("add an item to");
  ordered_.reset();
  builder_->add(vectors, stride, count, 0, ids);
}

std::int32_t Index::add_after_last(const char* vectors, std::size_t stride, std::size_t count) {
  const std::unique_lock lock(mutex_);
  require_growing("add an item to");
  const std::int32_t first = builder_->n_items();
  ordered_.reset();
  if (count > 0) builder_->add(vectors, stride, count, first, nullptr);
  return first;
}

void Index::build(int n_trees, int n_jobs, Cancellation& cancellation, std::size_t memory_limit) {
  const std::size_t n_threads = thread_count(n_jobs);
  const std::unique_lock lock(mutex_);
  BuildSettings settings{n_trees, seed_, n_threads};
  if (memory_limit != kUnlimited && builder_) {
    std::size_t taken = resident_bytes();
    if (disk_path_.empty()) {
      taken += tree_memory(layout_, static_cast<std::size_t>(builder_->n_items()), n_trees);
    }
    settings.working_bytes = memory_limit > taken ? memory_limit - taken : 0;
  }
  build_unlocked(settings, cancellation);
}

void Index::build_within(int n_trees, int n_jobs, Cancellation& cancellation, std::size_t working_bytes) {
  const std::size_t n_threads = thread_count(n_jobs);
  const std::unique_lock lock(mutex_);
  build_unlocked({n_trees, seed_, n_threads, working_bytes}, cancellation);
}

void Index::build_unlocked(const BuildSettings& settings, Cancellation& cancellation) {
  require_open_unlocked();
  if (!builder_) throw StateError("You can't build a loaded index");
  if (forest_) throw StateError("You can't build a built index");
  forest_ = std::make_shared<const Forest>(builder_->build(settings, cancellation));
  cells_ = ordered_;
}

void Index::unbuild() {
  const std::unique_lock lock(mutex_);
  require_open_unlocked();
  if (!builder_) throw StateError("You can't unbuild a loaded index");
  if (!forest_) return;
  let_go_of_forest();
  builder_->unbuild();
}

void Index::save(const std::string& path, bool prefault, Cancellation& cancellation) {
  const std::unique_lock lock(mutex_);
  require_open_unlocked();
  if (!forest_) throw FileError("You can't save an index that hasn't been built to", path, EINVAL);
  const bool in_place = !disk_path_.empty() && same_file(disk_path_, path);
  // First, so that at no time another forest's cells lie beside what was written.
  if (!has_cells_of(cells_path(path), *forest_)) remove_stale(cells_path(path));
  if (!in_place) {
    write_whole(path, cancellation, [&](const ByteSink& put) {
      if (forest_->layout == layout_) {
        write_nodes(*forest_, put);
      } else {
        DotConversion(*forest_).write(put);
      }
    });
  }
  auto saved = std::make_shared<const Forest>(open_forest(path, layout_, prefault, thread_count(-1), cancellation));
  const std::string beside = cells_path(path);
  std::shared_ptr<const Cells> cells;
  if (cells_) {
    write_whole(beside, cancellation, [&](const ByteSink& put) { write_cells(*saved, *cells_, put); });
    cells = dask_annoy::open_cells(beside, *saved, prefault);
  }
  take(std::move(saved), std::move(cells));
}

void Index::take(std::shared_ptr<const Forest> forest, std::shared_ptr<const Cells> cells) {
  forest_ = std::move(forest);
  cells_ = std::move(cells);
  builder_.reset();
  disk_path_.clear();
}

void Index::load(const std::string& path, bool prefault, Cancellation& cancellation, bool with_cells) {
  require_open();
  auto loaded = std::make_shared<const Forest>(open_forest(path, layout_, prefault, thread_count(-1), cancellation));
  std::shared_ptr<const Cells> cells;
  if (with_cells) {
    if (const std::string beside = cells_path(path); exists(beside)) {
      cells = dask_annoy::open_cells(beside, *loaded, prefault);
    } else {
      CellSettings settings;
      settings.n_threads = thread_count(-1);
      cells = std::make_shared<const Cells>(dask_annoy::build_cells(*loaded, settings, cancellation));
    }
  }
  const std::unique_lock lock(mutex_);
  require_open_unlocked();
  take(std::move(loaded), std::move(cells));
}

void Index::build_cells(CellSettings settings, int n_jobs, Cancellation& cancellation, std::size_t memory_limit) {
  settings.n_threads = thread_count(n_jobs);
  use_cells([&](const Forest& forest) {
    const CellSettings bounded =
        memory_limit == kUnlimited ? settings : within_memory(forest, settings, memory_limit, resident_bytes());
    return std::make_shared<const Cells>(dask_annoy::build_cells(forest, bounded, cancellation));
  });
}

std::vector<std::int32_t> Index::order_by_cells(CellSettings settings, int n_jobs, Cancellation& cancellation,
                                                std::size_t working_bytes) {
  settings.n_threads = thread_count(n_jobs);
  const std::unique_lock lock(mutex_);
  require_growing("number the items of");
  if (builder_->items().has_holes()) throw StateError("an index with holes keeps its item numbers");
  std::shared_ptr<Cells> cells;
  {
    const Forest forest = builder_->build({1, seed_, settings.n_threads, working_bytes}, cancellation);
    try {
      cells = std::make_shared<Cells>(dask_annoy::build_cells(forest, settings, cancellation));
    } catch (...) {
      builder_->unbuild();
      throw;
    }
  }
  builder_->unbuild();
  builder_->reorder(cells->items);
  const std::vector<std::int32_t> order = std::exchange(cells->items, {});
  ordered_ = std::move(cells);
  return order;
}

void Index::open_cells(const std::string& path, bool prefault) {
  use_cells([&](const Forest& forest) { return dask_annoy::open_cells(path, forest, prefault); });
}

bool Index::has_cells_at(const std::string& path) const {
  const View now = view();
  if (!now.forest()) throw StateError("an index without trees has no cells; call build() or load() first");
  return has_cells_of(path, *now.forest());
}

void Index::load_cells(std::shared_ptr<const char> bytes, std::size_t size, const std::string& where) {
  use_cells([&](const Forest& forest) { return parse_cells(std::move(bytes), size, forest, where); });
}

void Index::use_cells(const std::function<std::shared_ptr<const Cells>(const Forest&)>& read) {
  std::shared_ptr<const Forest> forest;
  std::shared_ptr<const Cells> cells;
  {
    const View now = view();  // a forest that was built here stays as it is meanwhile
    forest = now.shared_forest();
    if (!forest) throw StateError("an index without trees has no cells; call build() or load() first");
    cells = read(*forest);
  }
  take_cells(forest, std::move(cells));
}

void Index::release_pages() const {
  const View now = view();
  const std::shared_ptr<const Forest> forest = now.shared_forest();
  if (!forest) return;
  if (forest->mapping) forest->mapping->release(0, forest->mapping->size());
  if (now.cells() != nullptr && now.cells()->mapping) {
    now.cells()->mapping->release(0, now.cells()->mapping->size());
  }
}

void Index::take_cells(const std::shared_ptr<const Forest>& forest, std::shared_ptr<const Cells> cells) {
  const std::unique_lock lock(mutex_);
  require_open_unlocked();
  if (forest_ != forest) throw StateError("the index was changed while its cells were made; make them again");
  cells_ = std::move(cells);
}

void Index::copy_cells(const std::function<char*(std::size_t)>& make_room) const {
  const View now = view();
  if (now.cells() == nullptr) throw StateError("the index has no cells; call build_cells() first");
  char* room = make_room(cells_file_bytes(*now.forest(), *now.cells()));
  write_cells(*now.forest(), *now.cells(),
              [&](const char* bytes, std::size_t n) { room = std::copy_n(bytes, n, room); });
}

void Index::load_bytes(std::shared_ptr<const char> bytes, std::size_t size, Cancellation& cancellation,
                       const std::string& where) {
  require_open();
  auto loaded = std::make_shared<const Forest>(
      parse_forest(std::move(bytes), size, layout_, where, thread_count(-1), cancellation));
  const std::unique_lock lock(mutex_);
  require_open_unlocked();
  take(std::move(loaded), nullptr);
}

void Index::unload() {
  const std::unique_lock lock(mutex_);
  require_open_unlocked();
  reset();
  seed_ = kDefaultSeed;
}

void Index::close() {
  const std::unique_lock lock(mutex_);
  closed_ = true;
  let_go_of_forest();
  builder_.reset();
}

bool Index::is_closed() const {
  const std::shared_lock lock(mutex_);
  return closed_;
}

void Index::copy_file(const std::function<char*(std::size_t)>& make_room) const {
  const View now = view();
  const Forest* const forest = now.forest();
  if (!forest) throw StateError("an index without trees has no bytes; call build() first");
  if (forest->layout == layout_) {
    std::copy_n(forest->nodes.get(), forest->size(), make_room(forest->size()));
    return;
  }
  const DotConversion conversion(*forest);
  char* room = make_room(conversion.size());
  conversion.write([&](const char* bytes, std::size_t n) { room = std::copy_n(bytes, n, room); });
}

std::vector<Neighbor> Index::nearest(const void* query, std::size_t n, const SearchOptions& options,
                                     const Restriction& restriction) const {
  const View now = view();
  const std::optional<ItemFilter> filter = now.filter_of(restriction);
  if (!now.forest()) return {};
  return now.nearest(query, n, options, address_of(filter));
}

std::vector<Neighbor> Index::nearest_to_item(std::int64_t item, std::size_t n, const SearchOptions& options,
                                             const Restriction& restriction) const {
  const View now = view();
  const std::int32_t id = now.checked_item(item);
  const std::optional<ItemFilter> filter = now.filter_of(restriction);
  if (!now.forest()) return {};
  return now.nearest(now.vector_of(id), n, options, address_of(filter));
}

SearchPlan Index::plan_search(std::size_t n_queries, std::size_t n, const SearchOptions& options, int n_jobs,
                              const Restriction& restriction) const {
  const std::size_t n_threads = thread_count(n_jobs);
  const View now = view();
  const std::optional<ItemFilter> filter = now.filter_of(restriction);
  if (!now.forest()) throw StateError("an index without trees searches nothing; call build() or load() first");
  return now.plan(options, n_queries, n, n_threads, address_of(filter));
}

void Index::set_as_annoy(bool as_annoy) {
  const std::unique_lock lock(mutex_);
  require_open_unlocked();
  as_annoy_ = as_annoy;
}

std::vector<Neighbor> Index::within(const void* query, double radius, std::size_t limit, std::int64_t search_k,
                                    Cancellation& cancellation, const Restriction& restriction) const {
  const double compared = compared_radius(layout_.metric, radius);
  const View now = view();
  const std::optional<ItemFilter> filter = now.filter_of(restriction);
  if (!now.forest()) return {};
  return dask_annoy::within(*now.forest(), query, compared, limit, search_k, address_of(filter), cancellation);
}

std::vector<Neighbor> Index::within_of_item(std::int64_t item, double radius, std::size_t limit, std::int64_t search_k,
                                            Cancellation& cancellation, const Restriction& restriction) const {
  const double compared = compared_radius(layout_.metric, radius);
  const View now = view();
  const std::int32_t id = now.checked_item(item);
  const std::optional<ItemFilter> filter = now.filter_of(restriction);
  if (!now.forest()) return {};
  return dask_annoy::within(*now.forest(), now.vector_of(id), compared, limit, search_k, address_of(filter),
                            cancellation);
}

void Index::nearest_batch(const char* queries, std::size_t stride, std::size_t count, std::size_t n,
                          const SearchOptions& options, int n_jobs, Cancellation& cancellation, std::int64_t* ids,
                          float* distances, const Restriction& restriction) const {
  const std::size_t n_threads = thread_count(n_jobs);
  const View now = view();
  const std::optional<ItemFilter> filter = now.filter_of(restriction);
  if (!now.forest()) {
    for (std::size_t q = 0; q < count; ++q) write_answer(layout_.metric, {}, n, ids + q * n, distances + q * n);
    return;
  }
  now.nearest_batch(queries, stride, count, n, options, n_threads, cancellation, ids, distances, address_of(filter));
}

void Index::nearest_to_items(const std::int64_t* items, std::size_t count, std::size_t n, const SearchOptions& options,
                             int n_jobs, Cancellation& cancellation, std::int64_t* ids, float* distances,
                             const Restriction& restriction) const {
  const std::size_t n_threads = thread_count(n_jobs);
  const View now = view();
  const std::optional<ItemFilter> filter = now.filter_of(restriction);
  const std::size_t bytes = layout_.vector_bytes();
  std::vector<char> queries(count * bytes);
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t id = now.checked_item(items[i]);
    if (now.forest()) std::copy_n(now.vector_of(id), bytes, queries.data() + i * bytes);
  }
  if (!now.forest()) {
    for (std::size_t q = 0; q < count; ++q) write_answer(layout_.metric, {}, n, ids + q * n, distances + q * n);
    return;
  }
  now.nearest_batch(queries.data(), bytes, count, n, options, n_threads, cancellation, ids, distances,
                    address_of(filter));
}

void Index::budgets_to_find(const char* queries, std::size_t stride, std::size_t count, const std::int64_t* targets,
                            std::size_t n_targets, int n_jobs, Cancellation& cancellation,
                            std::int64_t* budgets) const {
  const std::size_t n_threads = thread_count(n_jobs);
  const View now = view();
  if (!now.forest()) throw StateError("an index without trees has no search budgets; call build() first");
  if (now.cells() != nullptr) {
    cell_budgets_to_find_batch(*now.forest(), *now.cells(), queries, stride, count, targets, n_targets, n_threads,
                               cancellation, budgets);
  } else {
    budgets_to_find_batch(*now.forest(), queries, stride, count, targets, n_targets, n_threads, cancellation, budgets);
  }
}

std::vector<char> Index::item_node(std::int64_t item) const { return view().item_node(item); }

void Index::item_vectors(const std::int64_t* items, std::size_t count, char* vectors) const {
  const View now = view();
  const std::size_t bytes = layout_.vector_bytes();
  std::vector<char> node(layout_.node_size);
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t id = now.checked_item(items[i]);
    if (!now.forest()) now.read_item(id, node.data());
    std::copy_n(now.forest() ? now.vector_of(id) : node.data() + layout_.vector_offset, bytes, vectors + i * bytes);
  }
}

bool Index::has_item(std::int64_t item) const {
  const View now = view();
  std::vector<char> node;
  return item >= 0 && item < now.n_items() && now.is_present(static_cast<std::int32_t>(item), node);
}

std::vector<std::int64_t> Index::present_items() const {
  const View now = view();
  std::vector<std::int64_t> items;
  std::vector<char> node;
  const std::int32_t n = now.n_items();
  for (std::int32_t id = 0; id < n; ++id) {
    if (now.is_present(id, node)) items.push_back(id);
  }
  return items;
}

float Index::distance(std::int64_t a, std::int64_t b) const {
  const View now = view();
  return score_pair(layout_, now.item_node(a).data(), now.item_node(b).data());
}

}  // namespace dask_annoy
