#include "core/forest_index.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "core/finite.hpp"
#include "core/index.hpp"

namespace dask_annoy {

namespace {

std::vector<Hit> hits_of(Metric metric, const std::vector<Neighbor>& neighbors) {
  std::vector<Hit> hits;
  hits.reserve(neighbors.size());
  for (const Neighbor& neighbor : neighbors) {
    hits.push_back({neighbor.id, returned_distance(metric, neighbor.distance)});
  }
  return hits;
}

std::size_t element_bytes(const Layout& layout) {
  return is_binary(layout.metric) ? sizeof(std::uint64_t) : sizeof(float);
}

std::size_t elements_of(const Layout& layout) { return is_binary(layout.metric) ? layout.words : layout.width; }

void require_finite(const float* values, std::size_t n, std::size_t width) {
  const std::size_t bad = first_not_finite(values, n);
  if (bad == n) return;
  throw std::invalid_argument("component " + std::to_string(bad % width) + " of vector " + std::to_string(bad / width) +
                              " is " + (std::isnan(values[bad]) ? "NaN" : "infinite") + "; vectors must be finite");
}

void require_no_spare_bits(const std::uint64_t* words, std::size_t rows, const Layout& layout) {
  const std::size_t used = layout.width % 64;
  if (used == 0) return;
  for (std::size_t row = 0; row < rows; ++row) {
    if (words[(row + 1) * layout.words - 1] >> used == 0) continue;
    throw std::invalid_argument("vector " + std::to_string(row) + " has bits set beyond its " +
                                std::to_string(layout.width));
  }
}

}  // namespace

UntypedForestIndex::UntypedForestIndex(Metric metric, std::size_t width)
    : index_(std::make_unique<Index>(metric, width)) {}
UntypedForestIndex::~UntypedForestIndex() = default;
UntypedForestIndex::UntypedForestIndex(UntypedForestIndex&& other) noexcept = default;
UntypedForestIndex& UntypedForestIndex::operator=(UntypedForestIndex&& other) noexcept = default;

Index& UntypedForestIndex::index() const {
  if (!index_) throw StateError("this index was moved from; assign another to it before it is used");
  return *index_;
}

// How many vectors there are; each checked.
std::size_t UntypedForestIndex::checked_rows(const void* vectors, std::size_t size) const {
  const Layout& layout = index().layout();
  const std::size_t row = elements_of(layout);
  if (size % row != 0) {
    throw std::invalid_argument("vectors of " + std::to_string(row) + " elements cannot make up " +
                                std::to_string(size) + " elements");
  }
  if (is_binary(layout.metric)) {
    require_no_spare_bits(static_cast<const std::uint64_t*>(vectors), size / row, layout);
  } else {
    require_finite(static_cast<const float*>(vectors), size, row);
  }
  return size / row;
}

const char* UntypedForestIndex::checked_row(const void* vector, std::size_t size) const {
  if (size != row_size()) {
    throw std::invalid_argument("a vector of " + std::to_string(row_size()) + " elements was expected, got " +
                                std::to_string(size));
  }
  checked_rows(vector, size);
  return static_cast<const char*>(vector);
}

std::size_t UntypedForestIndex::width() const { return index().layout().width; }
std::size_t UntypedForestIndex::row_size() const { return elements_of(index().layout()); }
std::int64_t UntypedForestIndex::n_items() const { return index().n_items(); }
std::size_t UntypedForestIndex::n_trees() const { return index().n_trees(); }
bool UntypedForestIndex::is_built() const { return index().is_built(); }
void UntypedForestIndex::set_seed(std::uint64_t seed) { index().set_seed(seed); }
void UntypedForestIndex::build_on_disk(const std::string& path) { index().on_disk_build(path); }
void UntypedForestIndex::unbuild() { index().unbuild(); }
void UntypedForestIndex::save(const std::string& path, bool prefault) { index().save(path, prefault); }
void UntypedForestIndex::load(const std::string& path, bool prefault) { index().load(path, prefault); }
void UntypedForestIndex::unload() { index().unload(); }

void UntypedForestIndex::add(std::int64_t item, const void* vector, std::size_t size) {
  const char* const row = checked_row(vector, size);
  index().add(row, size * element_bytes(index().layout()), 1, &item);
}

std::int64_t UntypedForestIndex::append(const void* vectors, std::size_t size) {
  const std::size_t count = checked_rows(vectors, size);
  const Layout& layout = index().layout();
  return index().add_after_last(static_cast<const char*>(vectors), elements_of(layout) * element_bytes(layout), count);
}

void UntypedForestIndex::build(const BuildArguments& settings) {
  Cancellation cancellation(settings.stop);
  index().build(settings.n_trees, settings.n_jobs, cancellation);
}

// A friend of ItemSelection: from the public form to the core's.
struct UntypedForestIndex::Restricted {
  static Selection of(const ItemSelection& items) {
    Selection selection;
    switch (items.kind_) {
      case ItemSelection::Kind::numbers:
        selection.kind = Selection::Kind::numbers;
        selection.numbers = items.numbers_.data();
        selection.size = items.numbers_.size();
        break;
      case ItemSelection::Kind::mask:
        selection.kind = Selection::Kind::mask;
        selection.mask = items.mask_.data();
        selection.size = items.mask_.size();
        break;
      case ItemSelection::Kind::none:
        break;
    }
    return selection;
  }

  static Restriction by(const SearchSettings& settings) { return {of(settings.include), of(settings.exclude)}; }
};

std::vector<Hit> UntypedForestIndex::nearest(const void* query, std::size_t size, std::size_t n,
                                             const SearchSettings& settings) const {
  const char* const row = checked_row(query, size);
  return hits_of(index().layout().metric, index().nearest(row, n, settings.search_k, Restricted::by(settings)));
}

std::vector<Hit> UntypedForestIndex::nearest_to_item(std::int64_t item, std::size_t n,
                                                     const SearchSettings& settings) const {
  return hits_of(index().layout().metric,
                 index().nearest_to_item(item, n, settings.search_k, Restricted::by(settings)));
}

BatchHits UntypedForestIndex::nearest_batch(const void* queries, std::size_t size, std::size_t n,
                                            const SearchSettings& settings) const {
  const std::size_t count = checked_rows(queries, size);
  if (n > 0 && count > std::numeric_limits<std::size_t>::max() / n) throw std::length_error("more answers than memory");
  const Layout& layout = index().layout();
  BatchHits hits;
  hits.n = n;
  hits.items.resize(count * n);
  hits.distances.resize(count * n);
  Cancellation cancellation(settings.stop);
  index().nearest_batch(static_cast<const char*>(queries), elements_of(layout) * element_bytes(layout), count, n,
                        settings.search_k, settings.n_jobs, cancellation, hits.items.data(), hits.distances.data(),
                        Restricted::by(settings));
  return hits;
}

std::vector<Hit> UntypedForestIndex::within(const void* query, std::size_t size, double radius, std::size_t limit,
                                            const SearchSettings& settings) const {
  const char* const row = checked_row(query, size);
  Cancellation cancellation(settings.stop);
  return hits_of(index().layout().metric,
                 index().within(row, radius, limit, settings.search_k, cancellation, Restricted::by(settings)));
}

bool UntypedForestIndex::contains(std::int64_t item) const { return index().has_item(item); }

float UntypedForestIndex::distance(std::int64_t a, std::int64_t b) const {
  return returned_distance(index().layout().metric, index().distance(a, b));
}

void UntypedForestIndex::copy_vector(std::int64_t item, void* vector) const {
  index().item_vectors(&item, 1, static_cast<char*>(vector));
}

}  // namespace dask_annoy
