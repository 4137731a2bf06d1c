#include "core/bucket_rows.hpp"

#include <algorithm>
#include <mutex>

namespace dask_annoy {

namespace {

constexpr std::size_t kRowsAtOnce = 1024;
constexpr std::size_t kAhead = 8;  // rows fetched ahead

class RoutedInPlace final : public BucketRows {
 public:
  RoutedInPlace(const Layout& layout, const ItemsInPlace& items, const FixedPoint* rounding, const FixedItems* fixed,
                const ItemSet& present, const std::vector<TopTree>& trees, std::size_t n_threads,
                Cancellation& cancellation)
      : layout_(layout),
        items_(items),
        rounding_(rounding),
        fixed_(fixed),
        starts_(trees.size()),
        numbers_(trees.size()) {
    const auto n = static_cast<std::size_t>(present.size());
    std::vector<std::uint16_t> buckets(trees.size() * n);
    {
      const Router router(trees, fixed == nullptr ? nullptr : &fixed->fixed_point());
      const std::shared_lock lock(items.moving());
      const char* nodes = items.nodes();
      parallel_for((n + kRowsAtOnce - 1) / kRowsAtOnce, n_threads, cancellation, [&](std::size_t block) {
        const std::size_t begin = block * kRowsAtOnce;
        RowBlock rows(layout);
        rows.lay_over(nodes + begin * layout.node_size, static_cast<std::int32_t>(begin),
                      std::min(kRowsAtOnce, n - begin), fixed);
        router.route(rows, buckets.data() + begin, n);
      });
    }
    parallel_for(trees.size(), n_threads, cancellation, [&](std::size_t tree) {
      sort_numbers(tree, trees[tree].n_buckets(), buckets.data() + tree * n, present);
    });
  }

  std::size_t count(std::size_t tree, std::size_t bucket) const override {
    return starts_[tree][bucket + 1] - starts_[tree][bucket];
  }

  std::shared_lock<std::shared_mutex> hold() const override { return std::shared_lock(items_.moving()); }

  void read(std::size_t tree, std::size_t first, std::size_t last, RowBlock& rows) const override {
    const std::int32_t* numbers = numbers_[tree].data() + starts_[tree][first];
    const std::size_t n = starts_[tree][last] - starts_[tree][first];
    const char* nodes = items_.nodes();
    if (fixed_ != nullptr) {
      rows.choose(nodes, *fixed_, numbers, n);
      return;
    }
    rows.resize(n);
    rows.round_by(rounding_);
    const auto node_of = [&](std::size_t i) {
      return nodes + static_cast<std::size_t>(numbers[i]) * layout_.node_size;
    };
    for (std::size_t i = 0; i < n; ++i) {
      if (i + kAhead < n) {
        const char* ahead = node_of(i + kAhead);
        for (std::size_t at = 0; at < layout_.node_size; at += 64) __builtin_prefetch(ahead + at);
      }
      rows.put(i, numbers[i], NodeView(node_of(i), layout_));
    }
  }

 private:
  // By bucket, and ascending within one.
  void sort_numbers(std::size_t tree, std::size_t n_buckets, const std::uint16_t* buckets, const ItemSet& present) {
    std::vector<std::size_t>& starts = starts_[tree];
    starts.assign(n_buckets + 1, 0);
    const std::int32_t n = present.size();
    const bool all = !present.has_holes();
    for (std::int32_t i = 0; i < n; ++i) {
      if (all || present.contains(i)) ++starts[buckets[i] + std::size_t{1}];
    }
    for (std::size_t b = 0; b < n_buckets; ++b) starts[b + 1] += starts[b];
    std::vector<std::size_t> next(starts.begin(), starts.end() - 1);
    numbers_[tree].resize(present.count());
    for (std::int32_t i = 0; i < n; ++i) {
      if (all || present.contains(i)) numbers_[tree][next[buckets[i]]++] = i;
    }
  }

  Layout layout_;
  const ItemsInPlace& items_;
  const FixedPoint* rounding_;
  const FixedItems* fixed_;
  std::vector<std::vector<std::size_t>> starts_;    // by tree: where each bucket starts
  std::vector<std::vector<std::int32_t>> numbers_;  // by tree
};

}  // namespace

ItemsInPlace::ItemsInPlace(const NodeStorage& storage, std::shared_mutex& moving) : storage_(storage), moving_(moving) {
  if (storage.in_place() == nullptr) mapped_ = storage.bytes();
}

std::unique_ptr<BucketRows> route_in_place(const Layout& layout, const ItemsInPlace& items, const FixedPoint* rounding,
                                           const FixedItems* fixed, const ItemSet& present,
                                           const std::vector<TopTree>& trees, std::size_t n_threads,
                                           Cancellation& cancellation) {
  return std::make_unique<RoutedInPlace>(layout, items, rounding, fixed, present, trees, n_threads, cancellation);
}

}  // namespace dask_annoy
