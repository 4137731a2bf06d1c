// Buckets in a scratch file: rows are read in sequence, written in chunks of one bucket each, and read back by bucket.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

#include "core/bucket_rows.hpp"
#include "core/file.hpp"

namespace dask_annoy {

namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;
constexpr std::size_t kSmallestChunk = std::size_t{8} << 10;
constexpr std::size_t kLargestChunk = std::size_t{128} << 10;

// A row is kept as its item's node, with the item's number in the place of the node's kind.
class RoutedToScratch final : public BucketRows {
 public:
  RoutedToScratch(const Layout& layout, const NodeStorage& storage, const ItemSet& present,
                  const std::vector<TopTree>& trees, std::size_t buffer_bytes, std::size_t n_threads,
                  Cancellation& cancellation)
      : layout_(layout), file_(File::scratch_beside(storage.path())) {
    std::size_t n_buckets = 0;
    for (const TopTree& tree : trees) {
      first_of_tree_.push_back(n_buckets);
      n_buckets += tree.n_buckets();
    }
    buckets_ = std::vector<Bucket>(n_buckets);
    const std::size_t chunk_bytes = std::clamp(buffer_bytes / n_buckets, kSmallestChunk, kLargestChunk);
    rows_of_chunk_ = std::max<std::size_t>(1, chunk_bytes / layout.node_size);

    const Router router(layout, trees);
    const auto n = static_cast<std::size_t>(present.size());
    const std::size_t rows_of_block = std::max<std::size_t>(1, kBlockBytes / layout.node_size);
    parallel_for((n + rows_of_block - 1) / rows_of_block, n_threads, cancellation, [&](std::size_t block) {
      const std::size_t begin = block * rows_of_block;
      const std::size_t count = std::min(rows_of_block, n - begin);
      std::vector<char> nodes(count * layout.node_size);
      storage.read(begin * layout.node_size, nodes.data(), nodes.size());
      std::vector<std::uint16_t> bucket_of(trees.size() * count);
      router.route(nodes.data(), count, static_cast<std::int32_t>(begin), bucket_of.data(), count);
      for (std::size_t i = 0; i < count; ++i) {
        const auto number = static_cast<std::int32_t>(begin + i);
        if (!present.contains(number)) continue;
        char* node = nodes.data() + i * layout.node_size;
        std::memcpy(node, &number, sizeof number);
        for (std::size_t t = 0; t < trees.size(); ++t) {
          put(buckets_[first_of_tree_[t] + bucket_of[t * count + i]], node);
        }
      }
    });
    for (Bucket& bucket : buckets_) flush(bucket);
  }

  std::size_t count(std::size_t tree, std::size_t bucket) const override {
    return buckets_[first_of_tree_[tree] + bucket].count;
  }

  void read(std::size_t tree, std::size_t first, std::size_t last, RowBlock& rows) const override {
    std::size_t n = 0;
    for (std::size_t b = first; b < last; ++b) n += count(tree, b);
    rows.resize(n);
    std::vector<char> chunk(rows_of_chunk_ * layout_.node_size);
    std::size_t at = 0;
    for (std::size_t b = first; b < last; ++b) {
      const Bucket& bucket = buckets_[first_of_tree_[tree] + b];
      std::size_t left = bucket.count;
      for (const std::uint32_t number_of_chunk : bucket.chunks) {
        const std::size_t here = std::min(left, rows_of_chunk_);
        file_.read(number_of_chunk * chunk.size(), chunk.data(), here * layout_.node_size);
        for (std::size_t i = 0; i < here; ++i) {
          const char* node = chunk.data() + i * layout_.node_size;
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
    std::unique_ptr<char[]> filling;    // a chunk, while rows come
    std::size_t filled = 0;             // rows of it
    std::size_t count = 0;              // rows in all
    std::vector<std::uint32_t> chunks;  // written, in order; all full but the last
  };

  void put(Bucket& bucket, const char* node) {
    const std::lock_guard lock(bucket.mutex);
    if (!bucket.filling) bucket.filling.reset(new char[rows_of_chunk_ * layout_.node_size]);
    std::memcpy(bucket.filling.get() + bucket.filled * layout_.node_size, node, layout_.node_size);
    ++bucket.count;
    if (++bucket.filled == rows_of_chunk_) write_chunk(bucket);
  }

  void flush(Bucket& bucket) {
    if (bucket.filled > 0) write_chunk(bucket);
    bucket.filling.reset();
  }

  void write_chunk(Bucket& bucket) {
    const std::uint32_t chunk = n_chunks_++;
    file_.write(chunk * rows_of_chunk_ * layout_.node_size, bucket.filling.get(), bucket.filled * layout_.node_size);
    bucket.chunks.push_back(chunk);
    bucket.filled = 0;
  }

  Layout layout_;
  File file_;
  std::size_t rows_of_chunk_ = 1;
  std::atomic<std::uint32_t> n_chunks_{0};
  std::vector<std::size_t> first_of_tree_;
  std::vector<Bucket> buckets_;
};

}  // namespace

std::unique_ptr<BucketRows> route_to_scratch(const Layout& layout, const NodeStorage& storage, const ItemSet& present,
                                             const std::vector<TopTree>& trees, std::size_t buffer_bytes,
                                             std::size_t n_threads, Cancellation& cancellation) {
  return std::make_unique<RoutedToScratch>(layout, storage, present, trees, buffer_bytes, n_threads, cancellation);
}

}  // namespace dask_annoy
