// Buckets in a scratch file: rows are read in sequence, written in chunks of one bucket each, and read back by bucket.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <numeric>

#include "core/bucket_rows.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
constexpr std::size_t kPage = 4096;  // chunks start at its multiples: part of a page may have to be read to be written
constexpr std::size_t kSmallestChunk = std::size_t{8} << 10;
constexpr std::size_t kLargestChunk = std::size_t{128} << 10;

// The rows of a block, bucket by bucket: few of the locks are taken, and each for several rows.
class GroupedRows {
 public:
  // `buckets` holds those of all rows. Holes are left out.
  template <class Present>
  void group(const std::uint16_t* buckets, std::size_t n_rows, std::size_t n_buckets, const Present& is_present) {
    starts_.assign(n_buckets + 1, 0);
    for (std::size_t i = 0; i < n_rows; ++i) {
      if (is_present(i)) ++starts_[buckets[i] + std::size_t{1}];
    }
    std::partial_sum(starts_.begin(), starts_.end(), starts_.begin());
    next_.assign(starts_.begin(), starts_.end() - 1);
    rows_.resize(n_rows);
    for (std::size_t i = 0; i < n_rows; ++i) {
      if (is_present(i)) rows_[next_[buckets[i]]++] = static_cast<std::uint32_t>(i);
    }
  }

  const std::uint32_t* begin(std::size_t bucket) const { return rows_.data() + starts_[bucket]; }
  std::size_t count(std::size_t bucket) const { return starts_[bucket + 1] - starts_[bucket]; }

 private:
  std::vector<std::uint32_t> starts_, next_, rows_;
};

// A row is kept as its item's node, with the item's number in the place of the node's kind.
class RoutedToScratch final : public BucketRows {
 public:
  RoutedToScratch(const Layout& layout, const NodeStorage& storage, const FixedPoint* rounding, const ItemSet& present,
                  const std::vector<TopTree>& trees, File& scratch, std::size_t buffer_bytes, std::size_t n_threads,
                  Cancellation& cancellation)
      : layout_(layout), rounding_(rounding), file_(scratch) {
    std::size_t n_buckets = 0;
    for (const TopTree& tree : trees) {
      first_of_tree_.push_back(n_buckets);
      n_buckets += tree.n_buckets();
    }
    buckets_ = std::vector<Bucket>(n_buckets);
    const std::size_t wanted = std::clamp(buffer_bytes / n_buckets, kSmallestChunk, kLargestChunk) / kPage * kPage;
    rows_of_chunk_ = std::max<std::size_t>(1, wanted / layout.node_size);
    chunk_bytes_ = (rows_of_chunk_ * layout.node_size + kPage - 1) / kPage * kPage;
    filling_.reset(new char[n_buckets * chunk_bytes_]());

    const Router router(trees, nullptr);
    const auto n = static_cast<std::size_t>(present.size());
    const std::size_t rows_of_block = std::max<std::size_t>(1, kBlockBytes / layout.node_size);
    parallel_for((n + rows_of_block - 1) / rows_of_block, n_threads, cancellation, [&](std::size_t block) {
      const std::size_t begin = block * rows_of_block;
      const std::size_t count = std::min(rows_of_block, n - begin);
      std::vector<char> nodes(count * layout.node_size);
      storage.read(begin * layout.node_size, nodes.data(), nodes.size());
      std::vector<std::uint16_t> bucket_of(trees.size() * count);
      RowBlock rows(layout);
      rows.lay_over(nodes.data(), static_cast<std::int32_t>(begin), count, nullptr);
      router.route(rows, bucket_of.data(), count);
      for (std::size_t i = 0; i < count; ++i) {
        const auto number = static_cast<std::int32_t>(begin + i);
        std::memcpy(nodes.data() + i * layout.node_size, &number, sizeof number);
      }
      GroupedRows grouped;
      const auto is_present = [&](std::size_t i) { return present.contains(static_cast<std::int32_t>(begin + i)); };
      for (std::size_t t = 0; t < trees.size(); ++t) {
        grouped.group(bucket_of.data() + t * count, count, trees[t].n_buckets(), is_present);
        for (std::size_t b = 0; b < trees[t].n_buckets(); ++b) {
          if (grouped.count(b) > 0) put(first_of_tree_[t] + b, nodes.data(), grouped.begin(b), grouped.count(b));
        }
      }
    });
    for (std::size_t b = 0; b < n_buckets; ++b) {
      if (buckets_[b].filled > 0) write_chunk(b);
    }
    filling_.reset();
  }

  std::size_t count(std::size_t tree, std::size_t bucket) const override {
    return buckets_[first_of_tree_[tree] + bucket].count;
  }

  void read(std::size_t tree, std::size_t first, std::size_t last, RowBlock& rows) const override {
    std::size_t n = 0;
    for (std::size_t b = first; b < last; ++b) n += count(tree, b);
    rows.resize(n);
    rows.round_by(rounding_);
    const std::unique_ptr<char[]> chunk(new char[rows_of_chunk_ * layout_.node_size]);
    std::size_t at = 0;
    for (std::size_t b = first; b < last; ++b) {
      const Bucket& bucket = buckets_[first_of_tree_[tree] + b];
      std::size_t left = bucket.count;
      for (const std::uint32_t number_of_chunk : bucket.chunks) {
        const std::size_t here = std::min(left, rows_of_chunk_);
        file_.read(number_of_chunk * chunk_bytes_, chunk.get(), here * layout_.node_size);
        for (std::size_t i = 0; i < here; ++i) {
          const char* node = chunk.get() + i * layout_.node_size;
          std::int32_t number;
          std::memcpy(&number, node, sizeof number);
          rows.put(at++, number, NodeView(node, layout_));
        }
        left -= here;
      }
    }
  }

 private:
  struct Bucket {
    std::mutex mutex;
    std::size_t filled = 0;             // rows of its chunk that is being filled
    std::size_t count = 0;              // rows in all
    std::vector<std::uint32_t> chunks;  // written, in order; all full but the last
  };

  char* filling(std::size_t bucket) const { return filling_.get() + bucket * chunk_bytes_; }

  void put(std::size_t b, const char* nodes, const std::uint32_t* rows, std::size_t n) {
    Bucket& bucket = buckets_[b];
    const std::lock_guard lock(bucket.mutex);
    for (std::size_t i = 0; i < n; ++i) {
      std::memcpy(filling(b) + bucket.filled * layout_.node_size, nodes + rows[i] * layout_.node_size,
                  layout_.node_size);
      if (++bucket.filled == rows_of_chunk_) write_chunk(b);
    }
    bucket.count += n;
  }

  void write_chunk(std::size_t b) {
    Bucket& bucket = buckets_[b];
    const std::uint32_t chunk = n_chunks_++;
    // The whole of it, so that no page has to be read to be written.
    file_.write(chunk * chunk_bytes_, filling(b), chunk_bytes_);
    bucket.chunks.push_back(chunk);
    bucket.filled = 0;
  }

  Layout layout_;
  const FixedPoint* rounding_;
  File& file_;
  std::size_t rows_of_chunk_ = 1;
  std::size_t chunk_bytes_ = kPage;
  std::unique_ptr<char[]> filling_;  // a chunk for each bucket, while rows come
  std::atomic<std::uint32_t> n_chunks_{0};
  std::vector<std::size_t> first_of_tree_;
  std::vector<Bucket> buckets_;
};

}  // namespace

std::unique_ptr<BucketRows> route_to_scratch(const Layout& layout, const NodeStorage& storage,
                                             const FixedPoint* rounding, const ItemSet& present,
                                             const std::vector<TopTree>& trees, File& scratch, std::size_t buffer_bytes,
                                             std::size_t n_threads, Cancellation& cancellation) {
  return std::make_unique<RoutedToScratch>(layout, storage, rounding, present, trees, scratch, buffer_bytes, n_threads,
                                           cancellation);
}

}  // namespace dask_annoy
