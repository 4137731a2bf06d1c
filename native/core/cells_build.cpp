#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/cells.hpp"
#include "core/means.hpp"
#include "core/page_bound.hpp"
#include "core/ranked.hpp"
#include "core/tree.hpp"

namespace dask_annoy {

namespace {

constexpr int kRoughSteps = 3;  // of Lloyd over the items
constexpr int kSteps = 6;       // with those
constexpr int kGroupSteps = 4;  // of Lloyd over the means
// Groups whose cells an item may move to. First, when most items move, few do as well.
constexpr std::size_t kNearAtFirst = 4;
constexpr std::size_t kNearGroups = 16;
constexpr std::size_t kCellsOfTask = 32;
constexpr std::size_t kItemsAtOnce = 32;  // are moved
constexpr std::size_t kAhead = 6;         // items fetched ahead, as their order in memory is random
constexpr std::uint64_t kSeed = 0xce115;

// Lists by key of what has that key, in the order of places: one allocation for all.
struct Lists {
  std::vector<std::uint32_t> starts;
  std::vector<std::uint32_t> members;

  void assign(const std::vector<std::uint32_t>& key, std::size_t n_keys) {
    starts.assign(n_keys + 1, 0);
    for (const std::uint32_t k : key) ++starts[k + 1];
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    members.resize(key.size());
    std::vector<std::uint32_t> next(starts.begin(), starts.end() - 1);
    for (std::uint32_t i = 0; i < key.size(); ++i) members[next[key[i]]++] = i;
  }
  std::size_t size(std::size_t k) const { return starts[k + 1] - starts[k]; }
};

class CellBuilder {
 public:
  CellBuilder(const Forest& forest, const CellSettings& settings, Cancellation& cancellation)
      : forest_(forest),
        layout_(forest.layout),
        settings_(settings),
        cancellation_(cancellation),
        pages_(forest.mapping, settings.resident_bytes),
        code_bits_(code_bits_of(forest.layout, settings)) {}

  Cells build() {
    list_leaves();
    const std::size_t wanted =
        settings_.n_cells > 0 ? settings_.n_cells : best_n_cells(layout_, items_.size(), settings_);
    cell_size_ = std::max<std::size_t>(1, items_.size() / std::max<std::size_t>(1, wanted));
    begin_with_leaves();
    const std::vector<float> sample = sampled();
    const Coder coder = Coder::learn(layout_, sample.data(), sample.size() / layout_.width);
    const Coder item_coder =
        Coder::learn(layout_, sample.data(), sample.size() / layout_.width, code_bits_ == 4 ? 4 : 8);
    const Coder partition(partition_layout(), coder.low(), coder.step());
    Means means = means_of_cells();
    for (int step = 0; step < kSteps && means.count() > 1; ++step) {
      group(partition, means);
      means = in_order_of_groups(means);
      move_items(partition, means, step < kRoughSteps ? kNearAtFirst : kNearGroups);
      means = means_of_cells();
    }
    group(partition, means);
    means = in_order_of_groups(means);
    return finish(coder, item_coder, means);
  }

 private:
  // Items of dot belong together where they are near each other: the largest product would gather all in the cells of
  // the longest means.
  Layout partition_layout() const {
    Layout layout = layout_;
    if (layout.metric == Metric::dot) layout.metric = Metric::euclidean;
    return layout;
  }

  // The items in the order of the first tree's leaves, and where leaves end.
  void list_leaves() {
    std::vector<std::int32_t> path;
    if (!forest_.roots.empty()) path.push_back(forest_.roots.front());
    while (!path.empty()) {
      const std::int32_t id = path.back();
      path.pop_back();
      const NodeView node = forest_.node(id);
      const std::int32_t n = node.n_descendants();
      if (id < forest_.n_items) {
        if (n == 1) items_.push_back(id);
      } else if (n <= layout_.list_capacity) {
        for (std::int32_t i = 0; i < n; ++i) {
          pages_.looked_at(1);
          if (forest_.node(node.list()[i]).n_descendants() == 1) items_.push_back(node.list()[i]);
        }
      } else {
        path.push_back(node.child(1));
        path.push_back(node.child(0));
        continue;
      }
      if (!items_.empty() && (leaf_ends_.empty() || leaf_ends_.back() != items_.size())) {
        leaf_ends_.push_back(static_cast<std::uint32_t>(items_.size()));
      }
    }
    drop_repeats();
  }

  // A list that holds an item twice, or an item in two leaves, is what no builder writes but a file may hold.
  void drop_repeats() {
    std::vector<bool> seen(static_cast<std::size_t>(forest_.n_items));
    std::size_t kept = 0;
    std::size_t leaf = 0;
    for (std::size_t i = 0; i < items_.size(); ++i) {
      while (i == leaf_ends_[leaf]) leaf_ends_[leaf++] = static_cast<std::uint32_t>(kept);
      const auto item = static_cast<std::size_t>(items_[i]);
      if (seen[item]) continue;
      seen[item] = true;
      items_[kept++] = items_[i];
    }
    for (; leaf < leaf_ends_.size(); ++leaf) leaf_ends_[leaf] = static_cast<std::uint32_t>(kept);
    items_.resize(kept);
    for (std::int32_t id = 0; id < forest_.n_items; ++id) {
      if (!seen[static_cast<std::size_t>(id)] && forest_.node(id).n_descendants() == 1) items_.push_back(id);
    }
    if (items_.size() > kept) leaf_ends_.push_back(static_cast<std::uint32_t>(items_.size()));
  }

  // Leaves that are too large are split as the tree would have split them, small ones go together.
  void begin_with_leaves() {
    Layout finer = layout_;
    finer.list_capacity = static_cast<std::int32_t>(
        std::min<std::size_t>(static_cast<std::size_t>(layout_.list_capacity), cell_size_ + cell_size_ / 2));
    std::vector<std::vector<std::uint32_t>> sizes(leaf_ends_.size());  // of the parts of each leaf
    parallel_for(leaf_ends_.size(), settings_.n_threads, cancellation_, [&](std::size_t leaf) {
      const std::size_t begin = leaf == 0 ? 0 : leaf_ends_[leaf - 1];
      const std::size_t n = leaf_ends_[leaf] - begin;
      if (n <= static_cast<std::size_t>(finer.list_capacity) || n < 2) {
        if (n > 0) sizes[leaf] = {static_cast<std::uint32_t>(n)};
        return;
      }
      RowBlock rows(finer);
      rows.resize(n);
      for (std::size_t i = 0; i < n; ++i) {
        rows.put(i, static_cast<std::int32_t>(i), forest_.node(items_[begin + i]));
        pages_.looked_at(1);
      }
      Cancellation never;
      Grower grower(PlaneFamily{finer, 0.0f}, static_cast<std::int32_t>(n), never);
      const Subtree parts = grower.grow(rows, combine(kSeed, leaf), false);
      sizes[leaf] = reorder(finer, parts, begin, n);
    });
    cell_of_.resize(items_.size());
    std::uint32_t cell = 0;
    std::size_t place = 0, held = 0;
    for (const std::vector<std::uint32_t>& parts : sizes) {
      for (const std::uint32_t size : parts) {
        if (held > 0 && held + size > cell_size_ + cell_size_ / 2) {
          ++cell;
          held = 0;
        }
        std::fill_n(cell_of_.begin() + static_cast<std::ptrdiff_t>(place), size, cell);
        place += size;
        held += size;
        if (held * 2 >= cell_size_) {
          ++cell;
          held = 0;
        }
      }
    }
    n_cells_ = items_.empty() ? 0 : cell_of_.back() + 1;
  }

  // Puts a leaf's items into the order of its parts.
  std::vector<std::uint32_t> reorder(const Layout& finer, const Subtree& parts, std::size_t begin, std::size_t n) {
    const std::vector<std::int32_t> former(items_.begin() + static_cast<std::ptrdiff_t>(begin),
                                           items_.begin() + static_cast<std::ptrdiff_t>(begin + n));
    std::vector<std::uint32_t> sizes;
    std::size_t at = begin;
    std::vector<std::int32_t> path = {parts.root};
    while (!path.empty()) {
      const std::int32_t id = path.back();
      path.pop_back();
      if (id < static_cast<std::int32_t>(n)) {
        items_[at++] = former[static_cast<std::size_t>(id)];
        sizes.push_back(1);
        continue;
      }
      const NodeView node(parts.nodes.data() + (static_cast<std::size_t>(id) - n) * finer.node_size, finer);
      if (node.n_descendants() <= finer.list_capacity) {
        for (std::int32_t i = 0; i < node.n_descendants(); ++i) {
          items_[at++] = former[static_cast<std::size_t>(node.list()[i])];
        }
        sizes.push_back(static_cast<std::uint32_t>(node.n_descendants()));
      } else {
        path.push_back(node.child(1));
        path.push_back(node.child(0));
      }
    }
    return sizes;
  }

  // Vectors from which coders learn, of one length for angular.
  std::vector<float> sampled() {
    if (is_binary(layout_.metric)) return {};
    const std::size_t n = std::min(items_.size(), kLearntFrom);
    std::vector<float> sample(n * layout_.width);
    for (std::size_t i = 0; i < n; ++i) {
      const float* v = forest_.node(items_[i * items_.size() / n]).vector();
      const float scale = unit_scale(layout_, v);
      for (std::size_t d = 0; d < layout_.width; ++d) sample[i * layout_.width + d] = v[d] * scale;
      pages_.looked_at(1);
    }
    return sample;
  }

  Means means_of_cells() {
    lists_.assign(cell_of_, n_cells_);
    Means means(layout_, n_cells_);
    each_range(n_cells_, 64, [&](std::size_t begin, std::size_t end) {
      VectorSum sum(layout_);
      for (std::size_t cell = begin; cell < end; ++cell) {
        sum.reset();
        const std::uint32_t* members = lists_.members.data() + lists_.starts[cell];
        for (std::size_t i = 0; i < lists_.size(cell); ++i) {
          if (i + kAhead < lists_.size(cell)) forest_.fetch(items_[members[i + kAhead]]);
          pages_.looked_at(1);
          sum.add_item(forest_.node(items_[members[i]]));
        }
        sum.mean(means.at(cell));
      }
    });
    return means;
  }

  // Groups of cells: runs of the order they have, refined.
  void group(const Coder& coder, const Means& means) {
    const std::size_t n_groups =
        std::max<std::size_t>(1, static_cast<std::size_t>(std::sqrt(static_cast<double>(n_cells_))));
    group_of_.resize(n_cells_);
    for (std::size_t c = 0; c < n_cells_; ++c) group_of_[c] = static_cast<std::uint32_t>(c * n_groups / n_cells_);
    group_means_ = means_of_groups(means, n_groups);
    for (int step = 0; step < kGroupSteps && n_groups > 1; ++step) {
      const CodedMeans coded(coder, group_means_);
      each_range(n_cells_, 64, [&](std::size_t begin, std::size_t end) {
        std::vector<std::int32_t> sums;
        std::vector<std::uint8_t> query(coder.bytes());
        const std::uint8_t* const queries = query.data();
        std::vector<std::uint64_t> words;
        for (std::size_t c = begin; c < end; ++c) {
          const float factor = coder.code_query(means.vector(c, words), query.data());
          coded.sum(&queries, 1, 0, coded.n_blocks(), sums);
          group_of_[c] = number_of(coded.nearest(sums.data(), factor, 0, coded.n_blocks()));
        }
      });
      group_means_ = means_of_groups(means, n_groups);
    }
  }

  Means means_of_groups(const Means& means, std::size_t n_groups) {
    cells_of_group_.assign(group_of_, n_groups);
    Means grouped(layout_, n_groups);
    VectorSum sum(layout_);
    for (std::size_t g = 0; g < n_groups; ++g) {
      sum.reset();
      for (std::uint32_t i = cells_of_group_.starts[g]; i < cells_of_group_.starts[g + 1]; ++i) {
        const std::uint32_t cell = cells_of_group_.members[i];
        sum.add_mean(means.at(cell), static_cast<double>(lists_.size(cell)));
      }
      sum.mean(grouped.at(g));
    }
    return grouped;
  }

  // Numbers the cells anew, group after group, without those that have become empty; likewise the groups.
  Means in_order_of_groups(const Means& means) {
    std::vector<std::uint32_t> former;
    group_starts_ = {0};
    std::vector<std::size_t> kept_groups;
    for (std::size_t g = 0; g + 1 < cells_of_group_.starts.size(); ++g) {
      for (std::uint32_t i = cells_of_group_.starts[g]; i < cells_of_group_.starts[g + 1]; ++i) {
        if (lists_.size(cells_of_group_.members[i]) > 0) former.push_back(cells_of_group_.members[i]);
      }
      if (former.size() > group_starts_.back()) {
        group_starts_.push_back(static_cast<std::uint32_t>(former.size()));
        kept_groups.push_back(g);
      }
    }
    Means ordered(layout_, former.size());
    std::vector<std::uint32_t> renumbered(n_cells_);
    for (std::size_t c = 0; c < former.size(); ++c) {
      std::copy_n(means.at(former[c]), layout_.width, ordered.at(c));
      renumbered[former[c]] = static_cast<std::uint32_t>(c);
    }
    for (std::uint32_t& cell : cell_of_) cell = renumbered[cell];
    n_cells_ = former.size();
    Means groups(layout_, kept_groups.size());
    for (std::size_t g = 0; g < kept_groups.size(); ++g) {
      std::copy_n(group_means_.at(kept_groups[g]), layout_.width, groups.at(g));
    }
    group_means_ = std::move(groups);
    return ordered;
  }

  // One step of Lloyd: every item goes to the nearest mean among those of the groups that are nearest to its cell, and
  // those that share a block with them. The items of a cell are compared with the same means, several at a time.
  void move_items(const Coder& coder, const Means& means, std::size_t n_near) {
    const CodedMeans cells(coder, means);
    const CodedMeans groups(coder, group_means_);
    lists_.assign(cell_of_, n_cells_);
    each_range(n_cells_, kCellsOfTask, [&](std::size_t begin, std::size_t end) {
      MovedItems moved(coder.query_bytes());
      std::vector<std::uint8_t> query(coder.query_bytes());
      std::vector<std::uint64_t> words;
      for (std::size_t c = begin; c < end; ++c) {
        const float factor = coder.code_query(means.vector(c, words), query.data());
        groups.rank(query.data(), factor, group_means_.count(), moved.sums, moved.near);
        moved.near.resize(std::min(n_near, moved.near.size()));
        for (std::size_t i = lists_.starts[c]; i < lists_.starts[c + 1]; i += kItemsAtOnce) {
          move_some(coder, cells, lists_.members.data() + i,
                    std::min<std::size_t>(kItemsAtOnce, lists_.starts[c + 1] - i), moved);
        }
      }
    });
  }

  // What moving items works with.
  struct MovedItems {
    explicit MovedItems(std::size_t query_bytes_) : query_bytes(query_bytes_), codes(kItemsAtOnce * query_bytes) {
      for (std::size_t i = 0; i < kItemsAtOnce; ++i) queries[i] = codes.data() + i * query_bytes;
    }

    std::size_t query_bytes;
    std::vector<std::uint8_t> codes;
    std::uint8_t* queries[kItemsAtOnce];
    float factors[kItemsAtOnce];
    Ranked best[kItemsAtOnce];
    std::vector<std::int32_t> sums;
    std::vector<Ranked> near;  // groups
  };

  void move_some(const Coder& coder, const CodedMeans& cells, const std::uint32_t* members, std::size_t count,
                 MovedItems& moved) {
    for (std::size_t i = 0; i < count; ++i) {
      if (i + kAhead < count) forest_.fetch(items_[members[i + kAhead]]);
      const char* node = forest_.at(items_[members[i]]);
      moved.factors[i] = coder.code_query(node + layout_.vector_offset, moved.queries[i]);
      moved.best[i] = std::numeric_limits<Ranked>::max();
    }
    pages_.looked_at(count);
    for (const Ranked near : moved.near) {
      const std::size_t block = group_starts_[number_of(near)] / kItemsOfBlock;
      const std::size_t n_blocks = (group_starts_[number_of(near) + 1] + kItemsOfBlock - 1) / kItemsOfBlock - block;
      cells.sum(moved.queries, count, block, n_blocks, moved.sums);
      for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t* sums = moved.sums.data() + i * n_blocks * kItemsOfBlock;
        moved.best[i] = std::min(moved.best[i], cells.nearest(sums, moved.factors[i], block, n_blocks));
      }
    }
    for (std::size_t i = 0; i < count; ++i) cell_of_[members[i]] = number_of(moved.best[i]);
  }

  Cells finish(const Coder& coder, const Coder& item_coder, const Means& means) {
    Cells cells(coder, item_coder);
    lists_.assign(cell_of_, n_cells_);
    cells.starts = lists_.starts;
    cells.items.resize(items_.size());
    for (std::size_t i = 0; i < items_.size(); ++i) cells.items[i] = items_[lists_.members[i]];
    for (std::size_t c = 0; c < n_cells_; ++c) {
      std::sort(cells.items.begin() + cells.starts[c], cells.items.begin() + cells.starts[c + 1]);
    }
    CodedMeans coded(coder, means);
    cells.means = coded.take_codes();
    cells.mean_biases = coded.take_biases();
    cells.group_starts = group_starts_;
    CodedMeans coded_groups(coder, group_means_);
    cells.groups = coded_groups.take_codes();
    cells.group_biases = coded_groups.take_biases();
    if (code_bits_ != 0) write_codes(cells);
    return cells;
  }

  void write_codes(Cells& cells) {
    cells.has_codes = true;
    cells.place_blocks();
    if (settings_.scratch_beside.empty()) {
      cells.codes.resize(cells.block_starts.back());
    } else {
      cells.codes.resize_in_file(cells.block_starts.back(), settings_.scratch_beside);
    }
    cells.biases.assign(cells.codes.n_blocks() * kItemsOfBlock, std::numeric_limits<float>::infinity());
    each_range(cells.n_cells(), 64, [&](std::size_t begin, std::size_t end) {
      std::vector<std::uint8_t> bytes(cells.item_coder.query_bytes());
      for (std::size_t c = begin; c < end; ++c) {
        const std::size_t first = std::size_t{cells.block_starts[c]} * kItemsOfBlock;
        for (std::size_t i = 0; i < cells.size_of(c); ++i) {
          const char* node = forest_.at(cells.items[cells.starts[c] + i]);
          cells.biases[first + i] = cells.item_coder.code_item(node + layout_.vector_offset, bytes.data());
          cells.codes.put(first + i, bytes.data());
        }
        if (pages_.looked_at(cells.size_of(c))) cells.codes.release();
      }
    });
    cells.codes.release();
  }

  template <class Body>
  void each_range(std::size_t n, std::size_t most, const Body& body) {
    parallel_for((n + most - 1) / most, settings_.n_threads, cancellation_, [&](std::size_t task) {
      cancellation_.check();
      body(task * most, std::min(n, (task + 1) * most));
    });
  }

  const Forest& forest_;
  const Layout& layout_;
  const CellSettings& settings_;
  Cancellation& cancellation_;
  PageBound pages_;
  const int code_bits_;
  std::size_t cell_size_ = 1;
  std::vector<std::int32_t> items_;       // in the order of leaves
  std::vector<std::uint32_t> leaf_ends_;  // in items_
  std::vector<std::uint32_t> cell_of_;    // of each of items_
  std::size_t n_cells_ = 0;
  Lists lists_;                          // of items_, by cell
  std::vector<std::uint32_t> group_of_;  // of each cell
  Lists cells_of_group_;
  std::vector<std::uint32_t> group_starts_;  // once the cells are in order
  Means group_means_;
};

}  // namespace

Cells build_cells(const Forest& forest, const CellSettings& settings, Cancellation& cancellation) {
  return CellBuilder(forest, settings, cancellation).build();
}

}  // namespace dask_annoy
