// Opening a forest file: which layout it has, and that it is sound.
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "core/errors.hpp"
#include "core/forest.hpp"
#include "core/forest_check.hpp"
#include "core/mapping.hpp"

namespace dask_annoy {

namespace {

std::string bytes_text(std::size_t n) { return std::to_string(n) + " bytes"; }

// The bytes as they were given, to be read in one layout or another.
class Bytes {
 public:
  Bytes(std::shared_ptr<const char> bytes, std::size_t size, const std::string& where, std::size_t n_threads,
        Cancellation& cancellation, const ByteHints& hints)
      : bytes_(std::move(bytes)),
        size_(size),
        where_(where),
        n_threads_(n_threads),
        cancellation_(cancellation),
        hints_(hints) {}

  Forest as(const Layout& layout) const {
    if (!fits(layout)) {
      throw CorruptFile(where_, "its size of " + bytes_text(size_) + " is not a multiple of " +
                                    std::to_string(layout.node_size) + ", the node size of " +
                                    metric_name(layout.metric) + " with " + std::to_string(layout.width) +
                                    " dimensions (cut, or of another metric or width)");
    }
    Forest forest;
    forest.layout = layout;
    forest.nodes = bytes_;
    forest.n_nodes = size_ / layout.node_size;
    if (forest.n_nodes > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
      throw CorruptFile(where_, "it holds more than 2^31 - 1 nodes");
    }
    check_forest(forest, where_, n_threads_, cancellation_, hints_);
    return forest;
  }

  // Dot nodes come in two sizes, and nothing in a file names its own.
  Forest as_either(const Layout& released, const Layout& development) const {
    if (!fits(development)) {
      if (fits(released)) return as(released);
      throw CorruptFile(where_, "its size of " + bytes_text(size_) + " is a multiple neither of " +
                                    std::to_string(released.node_size) + ", the node size of dot with " +
                                    std::to_string(released.width) + " dimensions, nor of " +
                                    std::to_string(development.node_size) +
                                    ", that of Annoy's development version (cut, or of another metric or width)");
    }
    if (!fits(released)) return as(development);
    std::string reason;
    std::optional<Forest> first = sound_as(released, reason);
    std::string other_reason;
    std::optional<Forest> second = sound_as(development, other_reason);
    if (first && second) return decide(*std::move(first), *std::move(second));
    if (first) return *std::move(first);
    if (second) return *std::move(second);
    throw CorruptFile(where_, reason + "; nor is it one of Annoy's development version: " + other_reason);
  }

 private:
  bool fits(const Layout& layout) const { return size_ % layout.node_size == 0; }

  std::optional<Forest> sound_as(const Layout& layout, std::string& reason) const {
    try {
      return as(layout);
    } catch (const CorruptFile& refusal) {
      reason = refusal.reason;
      return std::nullopt;
    }
  }

  // Both readings are sound, which takes a made-up file or next to no data. Guessing would give wrong answers.
  Forest decide(Forest released, Forest development) const {
    // A forest without items has no bytes but zeros: if both are, they mean the same, and if one is, the other is
    // meant.
    if (development.n_items == 0) return released;
    if (released.n_items == 0) return development;
    const bool is_released = items_look_written(released);
    const bool is_development = items_look_written(development);
    if (is_released && !is_development) return released;
    if (is_development && !is_released) return development;
    throw CorruptFile(where_, "it can be read as dot nodes of " + std::to_string(released.layout.node_size) +
                                  " bytes (" + std::to_string(released.n_items) + " items) and of " +
                                  std::to_string(development.layout.node_size) + " bytes, as Annoy's development " +
                                  "version writes (" + std::to_string(development.n_items) +
                                  " items), and nothing tells which was meant; build it with another number of trees");
  }

  // Whether all items have what Annoy, or who writes as it does, puts beside a vector.
  static bool items_look_written(const Forest& forest) {
    for (std::int32_t id = 0; id < forest.n_items; ++id) {
      const NodeView node = forest.node(id);
      if (node.child(0) != 0 || node.child(1) != 0) return false;
      if (!std::isfinite(node.scalar()) || node.scalar() < 0.0f) return false;
    }
    return true;
  }

  std::shared_ptr<const char> bytes_;
  std::size_t size_;
  const std::string& where_;
  std::size_t n_threads_;
  Cancellation& cancellation_;
  const ByteHints& hints_;
};

}  // namespace

Forest parse_forest(std::shared_ptr<const char> bytes, std::size_t size, const Layout& layout, const std::string& where,
                    std::size_t n_threads, Cancellation& cancellation, const ByteHints& hints) {
  if (size == 0) throw CorruptFile(where, "it is empty");
  const Bytes file(std::move(bytes), size, where, n_threads, cancellation, hints);
  if (layout.metric != Metric::dot) return file.as(layout);
  return file.as_either(layout, Layout::of_development_dot(layout.width));
}

Forest open_forest(const std::string& path, const Layout& layout, bool prefault, std::size_t n_threads,
                   Cancellation& cancellation) {
  const auto mapping = Mapping::of_file(path, prefault);
  ByteHints hints;
  hints.read_ahead = [&](std::size_t offset, std::size_t n) { mapping->read_ahead(offset, n); };
  if (!prefault) hints.release = [&](std::size_t offset, std::size_t n) { mapping->release(offset, n); };
  Forest forest =
      parse_forest({mapping, mapping->data()}, mapping->size(), layout, path, n_threads, cancellation, hints);
  if (!prefault) mapping->release(0, mapping->size());
  forest.mapping = mapping;
  forest.file = mapping->file();
  return forest;
}

}  // namespace dask_annoy
