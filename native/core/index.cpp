#include "core/index.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <mutex>
#include <stdexcept>

#include "core/errors.hpp"
#include "core/scoring.hpp"
#include "core/search.hpp"
#include "core/within.hpp"

namespace dask_annoy {

namespace {

// Writes to a name of its own beside the target and renames: a reader never sees half a file, and who has the old
// one mapped keeps it.
void write_whole(const std::string& path, const char* bytes, std::size_t size) {
  // Not mkstemp: its files are private, and who looks up the umask to widen them changes it for other threads.
  static std::atomic<unsigned> counter{0};
  std::string temporary;
  int fd = -1;
  do {
    temporary = path + "." + std::to_string(getpid()) + "-" + std::to_string(counter++) + ".part";
    fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EEXIST);
  if (fd < 0) throw FileError("cannot create a file beside", path);
  const auto give_up = [&](const char* what) {
    const int code = errno;
    close(fd);
    unlink(temporary.c_str());
    throw FileError(what, path, code);
  };
  for (std::size_t at = 0; at < size;) {
    const ssize_t done = write(fd, bytes + at, std::min<std::size_t>(size - at, std::size_t{1} << 30));
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) give_up("cannot write");
    at += static_cast<std::size_t>(done);
  }
  if (fsync(fd) != 0) give_up("cannot write");
  if (close(fd) != 0) {
    const int code = errno;
    unlink(temporary.c_str());
    throw FileError("cannot write", path, code);
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) {
    const int code = errno;
    unlink(temporary.c_str());
    throw FileError("cannot replace", path, code);
  }
}

bool same_file(const std::string& a, const std::string& b) {
  struct stat first{};
  struct stat second{};
  return stat(a.c_str(), &first) == 0 && stat(b.c_str(), &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

const ItemFilter* address_of(const std::optional<ItemFilter>& filter) { return filter ? &*filter : nullptr; }

double compared_radius(Metric metric, double radius) {
  if (std::isnan(radius)) throw std::invalid_argument("radius must be a number, got NaN");
  return larger_is_better(metric) ? -radius : radius;
}

}  // namespace

Index::Index(Metric metric, std::size_t width) : layout_(Layout::of(metric, width)) {
  if (width == 0) throw std::invalid_argument("vectors must have at least one dimension");
  reset();
}

void Index::reset() {
  forest_.reset();
  disk_path_.clear();
  builder_.emplace(layout_, memory_storage());
}

std::int32_t Index::n_items_unlocked() const { return builder_ ? builder_->n_items() : forest_->n_items; }

std::int32_t Index::n_items() const {
  const std::shared_lock lock(mutex_);
  return n_items_unlocked();
}

std::size_t Index::n_trees() const {
  const std::shared_lock lock(mutex_);
  return forest_ ? forest_->roots.size() : 0;
}

bool Index::is_built() const {
  const std::shared_lock lock(mutex_);
  return forest_ != nullptr;
}

IndexStatus Index::status() const {
  const std::shared_lock lock(mutex_);
  IndexStatus status;
  status.n_items = n_items_unlocked();
  status.n_trees = forest_ ? forest_->roots.size() : 0;
  status.is_built = forest_ != nullptr;
  status.is_loaded = !builder_;
  status.n_bytes = (forest_ ? forest_->n_nodes : static_cast<std::size_t>(status.n_items)) * layout_.node_size;
  status.seed = seed_;
  status.building_file = disk_path_;
  if (forest_) status.file = forest_->file;
  return status;
}

void Index::set_seed(std::uint64_t seed) {
  const std::unique_lock lock(mutex_);
  seed_ = seed;
}

void Index::require_growing(const char* what) const {
  if (!builder_) throw StateError(std::string("You can't ") + what + " a loaded index");
  if (forest_) throw StateError(std::string("You can't ") + what + " a built index; call unbuild() first");
}

void Index::on_disk_build(const std::string& path) {
  const std::unique_lock lock(mutex_);
  require_growing("build on disk with");
  if (builder_->n_items() > 0) throw StateError("on_disk_build() must come before the first item");
  builder_.emplace(layout_, file_storage(path));
  disk_path_ = path;
}

void Index::add(const char* vectors, std::size_t stride, std::size_t count, const std::int64_t* ids) {
  const std::unique_lock lock(mutex_);
  require_growing("add an item to");
  builder_->add(vectors, stride, count, 0, ids);
}

std::int32_t Index::add_after_last(const char* vectors, std::size_t stride, std::size_t count) {
  const std::unique_lock lock(mutex_);
  require_growing("add an item to");
  const std::int32_t first = builder_->n_items();
  if (count > 0) builder_->add(vectors, stride, count, first, nullptr);
  return first;
}

void Index::build(int n_trees, int n_jobs, Cancellation& cancellation) {
  const std::size_t n_threads = thread_count(n_jobs);
  const std::unique_lock lock(mutex_);
  if (!builder_) throw StateError("You can't build a loaded index");
  if (forest_) throw StateError("You can't build a built index");
  forest_ = std::make_shared<const Forest>(builder_->build(n_trees, seed_, n_threads, cancellation));
}

void Index::unbuild() {
  const std::unique_lock lock(mutex_);
  if (!builder_) throw StateError("You can't unbuild a loaded index");
  if (!forest_) return;
  forest_.reset();
  builder_->unbuild();
}

void Index::save(const std::string& path, bool prefault) {
  const std::unique_lock lock(mutex_);
  if (!forest_) throw FileError("You can't save an index that hasn't been built to", path, EINVAL);
  const bool in_place = !disk_path_.empty() && same_file(disk_path_, path);
  if (!in_place) write_whole(path, forest_->nodes.get(), forest_->n_nodes * layout_.node_size);
  auto saved = std::make_shared<const Forest>(open_forest(path, layout_, prefault));
  forest_ = std::move(saved);
  builder_.reset();
  disk_path_.clear();
}

void Index::load(const std::string& path, bool prefault) {
  auto loaded = std::make_shared<const Forest>(open_forest(path, layout_, prefault));
  const std::unique_lock lock(mutex_);
  forest_ = std::move(loaded);
  builder_.reset();
  disk_path_.clear();
}

void Index::unload() {
  const std::unique_lock lock(mutex_);
  reset();
  seed_ = kDefaultSeed;
}

void Index::copy_file(const std::function<char*(std::size_t)>& make_room) const {
  const std::shared_lock lock(mutex_);
  if (!forest_) throw StateError("an index without trees has no bytes; call build() first");
  const std::size_t size = forest_->n_nodes * layout_.node_size;
  std::copy_n(forest_->nodes.get(), size, make_room(size));
}

void Index::load_bytes(std::shared_ptr<const char> bytes, std::size_t size, const std::string& where) {
  auto loaded = std::make_shared<const Forest>(parse_forest(std::move(bytes), size, layout_, where));
  const std::unique_lock lock(mutex_);
  forest_ = std::move(loaded);
  builder_.reset();
  disk_path_.clear();
}

std::int32_t Index::checked_item(std::int64_t item) const {
  const std::int32_t n = n_items_unlocked();
  if (item < 0 || item >= n) {
    throw std::out_of_range("Item index " + std::to_string(item) + " is not among the " + std::to_string(n) + " items");
  }
  return static_cast<std::int32_t>(item);
}

std::optional<ItemFilter> Index::filter_of(const Restriction& restriction) const {
  if (!restriction.any()) return std::nullopt;
  ItemFilter filter(restriction, n_items_unlocked());
  if (forest_) filter.keep_present(*forest_);
  return filter;
}

std::vector<Neighbor> Index::nearest(const void* query, std::size_t n, std::int64_t search_k,
                                     const Restriction& restriction) const {
  const std::shared_lock lock(mutex_);
  const std::optional<ItemFilter> filter = filter_of(restriction);
  if (!forest_) return {};
  return search(*forest_, query, n, search_k, address_of(filter));
}

std::vector<Neighbor> Index::nearest_to_item(std::int64_t item, std::size_t n, std::int64_t search_k,
                                             const Restriction& restriction) const {
  const std::shared_lock lock(mutex_);
  const std::int32_t id = checked_item(item);
  const std::optional<ItemFilter> filter = filter_of(restriction);
  if (!forest_) return {};
  return search(*forest_, forest_->at(id) + layout_.vector_offset, n, search_k, address_of(filter));
}

std::vector<Neighbor> Index::within(const void* query, double radius, std::size_t limit, std::int64_t search_k,
                                    Cancellation& cancellation, const Restriction& restriction) const {
  const double compared = compared_radius(layout_.metric, radius);
  const std::shared_lock lock(mutex_);
  const std::optional<ItemFilter> filter = filter_of(restriction);
  if (!forest_) return {};
  return dask_annoy::within(*forest_, query, compared, limit, search_k, address_of(filter), cancellation);
}

std::vector<Neighbor> Index::within_of_item(std::int64_t item, double radius, std::size_t limit, std::int64_t search_k,
                                            Cancellation& cancellation, const Restriction& restriction) const {
  const double compared = compared_radius(layout_.metric, radius);
  const std::shared_lock lock(mutex_);
  const std::int32_t id = checked_item(item);
  const std::optional<ItemFilter> filter = filter_of(restriction);
  if (!forest_) return {};
  return dask_annoy::within(*forest_, forest_->at(id) + layout_.vector_offset, compared, limit, search_k,
                            address_of(filter), cancellation);
}

void Index::nearest_batch(const char* queries, std::size_t stride, std::size_t count, std::size_t n,
                          std::int64_t search_k, int n_jobs, Cancellation& cancellation, std::int64_t* ids,
                          float* distances, const Restriction& restriction) const {
  const std::size_t n_threads = thread_count(n_jobs);
  const std::shared_lock lock(mutex_);
  const std::optional<ItemFilter> filter = filter_of(restriction);
  if (!forest_) {
    for (std::size_t q = 0; q < count; ++q) write_answer(layout_.metric, {}, n, ids + q * n, distances + q * n);
    return;
  }
  search_batch(*forest_, queries, stride, count, n, search_k, n_threads, cancellation, ids, distances,
               address_of(filter));
}

void Index::nearest_to_items(const std::int64_t* items, std::size_t count, std::size_t n, std::int64_t search_k,
                             int n_jobs, Cancellation& cancellation, std::int64_t* ids, float* distances,
                             const Restriction& restriction) const {
  const std::size_t n_threads = thread_count(n_jobs);
  const std::shared_lock lock(mutex_);
  const std::optional<ItemFilter> filter = filter_of(restriction);
  const std::size_t bytes = layout_.vector_bytes();
  std::vector<char> queries(count * bytes);
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t id = checked_item(items[i]);
    if (!forest_) continue;
    std::copy_n(forest_->at(id) + layout_.vector_offset, bytes, queries.data() + i * bytes);
  }
  if (!forest_) {
    for (std::size_t q = 0; q < count; ++q) write_answer(layout_.metric, {}, n, ids + q * n, distances + q * n);
    return;
  }
  search_batch(*forest_, queries.data(), bytes, count, n, search_k, n_threads, cancellation, ids, distances,
               address_of(filter));
}

void Index::budgets_to_find(const char* queries, std::size_t stride, std::size_t count, const std::int64_t* targets,
                            std::size_t n_targets, int n_jobs, Cancellation& cancellation,
                            std::int64_t* budgets) const {
  const std::size_t n_threads = thread_count(n_jobs);
  const std::shared_lock lock(mutex_);
  if (!forest_) throw StateError("an index without trees has no search budgets; call build() first");
  budgets_to_find_batch(*forest_, queries, stride, count, targets, n_targets, n_threads, cancellation, budgets);
}

std::vector<char> Index::item_node(std::int64_t item) const {
  const std::shared_lock lock(mutex_);
  const std::int32_t id = checked_item(item);
  std::vector<char> node(layout_.node_size);
  if (forest_) {
    std::copy_n(forest_->at(id), layout_.node_size, node.data());
  } else {
    builder_->read_item(id, node.data());
  }
  return node;
}

void Index::item_vectors(const std::int64_t* items, std::size_t count, char* vectors) const {
  const std::shared_lock lock(mutex_);
  const std::size_t bytes = layout_.vector_bytes();
  std::vector<char> node(layout_.node_size);
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t id = checked_item(items[i]);
    if (!forest_) builder_->read_item(id, node.data());
    std::copy_n((forest_ ? forest_->at(id) : node.data()) + layout_.vector_offset, bytes, vectors + i * bytes);
  }
}

bool Index::is_present(std::int32_t id, std::vector<char>& node) const {
  if (forest_) return forest_->node(id).n_descendants() == 1;
  node.resize(layout_.node_size);
  builder_->read_item(id, node.data());
  return NodeView(node.data(), layout_).n_descendants() == 1;
}

bool Index::has_item(std::int64_t item) const {
  const std::shared_lock lock(mutex_);
  std::vector<char> node;
  return item >= 0 && item < n_items_unlocked() && is_present(static_cast<std::int32_t>(item), node);
}

std::vector<std::int64_t> Index::present_items() const {
  const std::shared_lock lock(mutex_);
  std::vector<std::int64_t> items;
  std::vector<char> node;
  const std::int32_t n = n_items_unlocked();
  for (std::int32_t id = 0; id < n; ++id) {
    if (is_present(id, node)) items.push_back(id);
  }
  return items;
}

float Index::distance(std::int64_t a, std::int64_t b) const {
  return score_pair(layout_, item_node(a).data(), item_node(b).data());
}

}  // namespace dask_annoy
