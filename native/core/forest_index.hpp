// The index for C++: typed by its metric, move-only, with results as values and errors as exceptions. Installed.
//
// Installed headers name each other by their place beside each other, so that users need no include path for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "errors.hpp"
#include "metric.hpp"
#include "span.hpp"

namespace dask_annoy {

class Index;

// --- what goes in and comes out -----------------------------------------------------------------------------------

/// An item that a search found.
struct Hit {
  std::int64_t item;  ///< its number
  float distance;     ///< as Annoy returns it: see ForestIndex. For dot the product, larger is nearer

  friend bool operator==(const Hit& a, const Hit& b) { return a.item == b.item && a.distance == b.distance; }
  friend bool operator!=(const Hit& a, const Hit& b) { return !(a == b); }
};

/// The answers to many queries, as two tables of shape (queries, n).
struct BatchHits {
  std::size_t n = 0;                ///< columns
  std::vector<std::int64_t> items;  ///< nearest first; -1 where fewer were found
  std::vector<float> distances;     ///< infinity (for dot minus infinity) where fewer were found

  std::size_t rows() const { return n == 0 ? 0 : items.size() / n; }
  Span<const std::int64_t> items_of(std::size_t query) const { return {items.data() + query * n, n}; }
  Span<const float> distances_of(std::size_t query) const { return {distances.data() + query * n, n}; }
};

/// Some of the items, by number or by a mask. A view: what it was made from must outlive it.
class ItemSelection {
 public:
  ItemSelection() = default;  ///< nothing is said

  /// In any order, repeats allowed. std::out_of_range (when searching) for a number that is no item's.
  static ItemSelection of_numbers(Span<const std::int64_t> numbers) {
    ItemSelection selection;
    selection.numbers_ = numbers;
    selection.kind_ = Kind::numbers;
    return selection;
  }

  /// One byte an item, 0 or not. std::invalid_argument (when searching) for another length than n_items().
  static ItemSelection of_mask(Span<const std::uint8_t> mask) {
    ItemSelection selection;
    selection.mask_ = mask;
    selection.kind_ = Kind::mask;
    return selection;
  }

 private:
  friend class UntypedForestIndex;
  enum class Kind : std::uint8_t { none, numbers, mask };

  Kind kind_ = Kind::none;
  Span<const std::int64_t> numbers_;
  Span<const std::uint8_t> mask_;
};

struct BuildArguments {
  int n_trees = -1;            ///< -1: trees until they take as many nodes as the items
  int n_jobs = -1;             ///< threads; -1: the processors this process may run on, at most OMP_NUM_THREADS
  std::function<bool()> stop;  ///< asked now and then on the calling thread; true ends the build with Interrupted
};

struct SearchSettings {
  /// Item numbers to meet in the trees, repeats counted; -1: n times the trees. Other negative numbers: no bound.
  /// ForestIndex::within scores every item if it is negative, and is exact.
  std::int64_t search_k = -1;
  int n_jobs = -1;             ///< threads of a batch, as in BuildArguments
  std::function<bool()> stop;  ///< as in BuildArguments; asked by batches and radius searches
  ItemSelection include;       ///< the only items that may be answered; all if nothing is said
  ItemSelection exclude;       ///< items that must not be answered
};

// --- the part that does not depend on the metric's type -------------------------------------------------------------

/// What ForestIndex stands on; not to be used without it. Vectors are elements of the metric's type, one vector after
/// the other.
class UntypedForestIndex {
 public:
  UntypedForestIndex(Metric metric, std::size_t width);
  ~UntypedForestIndex();
  UntypedForestIndex(UntypedForestIndex&& other) noexcept;
  UntypedForestIndex& operator=(UntypedForestIndex&& other) noexcept;
  UntypedForestIndex(const UntypedForestIndex&) = delete;
  UntypedForestIndex& operator=(const UntypedForestIndex&) = delete;

  std::size_t width() const;
  std::size_t row_size() const;  // elements of a vector
  std::int64_t n_items() const;
  std::size_t n_trees() const;
  bool is_built() const;
  void set_seed(std::uint64_t seed);
  void build_on_disk(const std::string& path);
  void add(std::int64_t item, const void* vector, std::size_t size);
  std::int64_t append(const void* vectors, std::size_t size);
  void build(const BuildArguments& settings);
  void unbuild();
  void save(const std::string& path, bool prefault);
  void load(const std::string& path, bool prefault);
  void unload();
  std::vector<Hit> nearest(const void* query, std::size_t size, std::size_t n, const SearchSettings& settings) const;
  std::vector<Hit> nearest_to_item(std::int64_t item, std::size_t n, const SearchSettings& settings) const;
  BatchHits nearest_batch(const void* queries, std::size_t size, std::size_t n, const SearchSettings& settings) const;
  std::vector<Hit> within(const void* query, std::size_t size, double radius, std::size_t limit,
                          const SearchSettings& settings) const;
  bool contains(std::int64_t item) const;
  float distance(std::int64_t a, std::int64_t b) const;
  void copy_vector(std::int64_t item, void* vector) const;

 private:
  struct Restricted;

  Index& index() const;
  std::size_t checked_rows(const void* vectors, std::size_t size) const;
  const char* checked_row(const void* vector, std::size_t size) const;

  std::unique_ptr<Index> index_;  // absent once moved from
};

// --- the index ----------------------------------------------------------------------------------------------------

/// What a vector is made of: float, or for metrics on bits 64-bit words with dimension d in bit d % 64 of word d / 64.
template <Metric metric>
using ElementOf = std::conditional_t<is_binary(metric), std::uint64_t, float>;

/// Words of bits from anything that can be walked through and tested: std::vector<bool>, an array of bool …
/// The bits beyond the last component are zero, as the index wants them.
template <class Components>
std::vector<std::uint64_t> pack_bits(const Components& components) {
  std::vector<std::uint64_t> words;
  std::size_t d = 0;
  for (const auto& component : components) {
    if (d % 64 == 0) words.push_back(0);
    if (component) words.back() |= std::uint64_t{1} << (d % 64);
    ++d;
  }
  return words;
}

/// An index of vectors for approximate nearest neighbours, on files of Annoy 1.17.3.
///
/// Distances are Annoy's: angular sqrt(2 (1 - cos)) from 0 to 2; euclidean; manhattan; hamming the number of differing
/// bits; dot the product, for which larger is nearer and answers come largest first. Ties go to the lower number.
///
/// Life: add items, build(), ask; save() or load() make it read-only until unload().
///
/// Threads: const members may be called from any number of threads, also while another changes the index; changes run
/// one at a time. Moving and destroying are the owner's and must not meet other calls.
///
/// Errors are exceptions, and leave the index as it was:
/// std::invalid_argument  a vector of another length, a component that is NaN or infinite, a bit set beyond the width,
///                        settings that make no sense;
/// std::out_of_range      a number that is no item's, or that the file format cannot hold (2^31 - 1 and more);
/// StateError             a call that does not fit what was done before (an item for a built index …), or an index that
///                        was moved from;
/// FileError              what the operating system refused; carries errno;
/// CorruptFile            a file that is no sound forest of this metric and width;
/// Interrupted            a `stop` that said true.
template <Metric metric>
class ForestIndex {
  static_assert(is_metric(metric), "dask_annoy::ForestIndex: not one of the metrics in dask_annoy::Metric");

 public:
  using Element = ElementOf<metric>;
  using Vector = Span<const Element>;

  /// @param width dimensions of a vector, for hamming bits; std::invalid_argument if it is 0 or too large
  explicit ForestIndex(std::size_t width) : index_(metric, width) {}

  /// Checks a file and maps it.
  /// @param prefault read all pages now
  static ForestIndex open(const std::string& path, std::size_t width, bool prefault = false) {
    ForestIndex opened(width);
    opened.load(path, prefault);
    return opened;
  }

  ForestIndex(ForestIndex&&) noexcept = default;
  ForestIndex& operator=(ForestIndex&&) noexcept = default;
  ForestIndex(const ForestIndex&) = delete;
  ForestIndex& operator=(const ForestIndex&) = delete;
  ~ForestIndex() = default;

  std::size_t width() const { return index_.width(); }        ///< dimensions
  std::size_t row_size() const { return index_.row_size(); }  ///< elements of a vector: width, or words of bits
  std::int64_t n_items() const { return index_.n_items(); }   ///< highest item number + 1; holes count
  std::size_t n_trees() const { return index_.n_trees(); }
  bool is_built() const { return index_.is_built(); }

  /// Of the next build; the same items, seed and number of trees give the same bytes on any machine.
  void set_seed(std::uint64_t seed) { index_.set_seed(seed); }

  /// Grows the index in this file, which is replaced, instead of in memory. Before the first item.
  void build_on_disk(const std::string& path) { index_.build_on_disk(path); }

  /// Puts a vector of row_size() elements under a number; one given again replaces the vector. Numbers may leave holes.
  void add(std::int64_t item, Vector vector) { index_.add(item, vector.data(), vector.size()); }

  /// Puts vectors, one after the other, under the numbers after the last item.
  /// @param vectors (m, row_size()) elements
  /// @return the first number
  std::int64_t append(Vector vectors) { return index_.append(vectors.data(), vectors.size()); }

  void build(const BuildArguments& settings = {}) { index_.build(settings); }

  /// Removes the trees, so that items can be added again.
  void unbuild() { index_.unbuild(); }

  /// Writes a file that Annoy reads, whole or not at all, and goes on from that file.
  void save(const std::string& path, bool prefault = false) { index_.save(path, prefault); }

  /// As open(); what the index held is let go of once the file was found sound.
  void load(const std::string& path, bool prefault = false) { index_.load(path, prefault); }

  /// Forgets items, trees and file.
  void unload() { index_.unload(); }

  /// The n nearest items that a search within the budget meets, nearest first. None without trees.
  std::vector<Hit> nearest(Vector query, std::size_t n, const SearchSettings& settings = {}) const {
    return index_.nearest(query.data(), query.size(), n, settings);
  }

  /// The n nearest to an item, itself included.
  std::vector<Hit> nearest_to_item(std::int64_t item, std::size_t n, const SearchSettings& settings = {}) const {
    return index_.nearest_to_item(item, n, settings);
  }

  /// nearest() for many queries on several threads.
  /// @param queries (m, row_size()) elements
  BatchHits nearest_batch(Vector queries, std::size_t n, const SearchSettings& settings = {}) const {
    return index_.nearest_batch(queries.data(), queries.size(), n, settings);
  }

  /// The items not farther than the radius (for dot: with no smaller product), nearest first, at most `limit`.
  std::vector<Hit> within(Vector query, double radius, std::size_t limit = static_cast<std::size_t>(-1),
                          const SearchSettings& settings = {}) const {
    return index_.within(query.data(), query.size(), radius, limit, settings);
  }

  /// False for holes and for numbers that are no item's.
  bool contains(std::int64_t item) const { return index_.contains(item); }

  /// Of two items.
  float distance(std::int64_t a, std::int64_t b) const { return index_.distance(a, b); }

  /// An item's vector of row_size() elements; zeros for a hole.
  std::vector<Element> vector(std::int64_t item) const {
    std::vector<Element> elements(row_size());
    index_.copy_vector(item, elements.data());
    return elements;
  }

 private:
  UntypedForestIndex index_;
};

}  // namespace dask_annoy
