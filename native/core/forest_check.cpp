#include "core/forest_check.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "core/errors.hpp"

namespace dask_annoy {

namespace {

constexpr std::int32_t kPolledNodes = 1 << 16;

// One bit a node, set from many threads.
class NodeSet {
 public:
  explicit NodeSet(std::size_t n_nodes) : words_((n_nodes + 63) / 64) {}

  // False if it was there already.
  bool add(std::size_t node) {
    const std::uint64_t bit = std::uint64_t{1} << (node % 64);
    return (words_[node / 64].fetch_or(bit, std::memory_order_relaxed) & bit) == 0;
  }

  bool contains(std::size_t node) const { return (word(node / 64) >> (node % 64) & 1) != 0; }

  // Calls visit(node) for those of 0 … n−1 that are not in the set, in ascending order.
  template <class Visit>
  void each_missing(std::size_t n, Visit&& visit) const {
    for (std::size_t w = 0; 64 * w < n; ++w) {
      std::uint64_t missing = ~word(w);
      if (n - 64 * w < 64) missing &= (std::uint64_t{1} << (n - 64 * w)) - 1;
      for (; missing != 0; missing &= missing - 1) {
        visit(64 * w + static_cast<std::size_t>(__builtin_ctzll(missing)));
      }
    }
  }

 private:
  std::uint64_t word(std::size_t w) const { return words_[w].load(std::memory_order_relaxed); }

  std::vector<std::atomic<std::uint64_t>> words_;
};

class Checker {
 public:
  Checker(Forest& forest, const std::string& where, Cancellation& cancellation, const ByteHints& hints,
          std::size_t block_bytes)
      : forest_(forest), where_(where), cancellation_(cancellation), hints_(hints), block_bytes_(block_bytes) {}

  void run(std::size_t n_threads) {
    find_roots();
    for (const std::int32_t root : forest_.roots) root_children_.push_back(children_of(root));
    std::sort(root_children_.begin(), root_children_.end());
    check_nodes(n_threads);
    std::sort(originals_.begin(), originals_.end());
    check_roots();
    check_nothing_is_left_over();
    forest_.has_holes = has_holes_;
  }

 private:
  using Children = std::pair<std::int32_t, std::int32_t>;

  [[noreturn]] void refuse(const std::string& reason) const { throw CorruptFile(where_, reason); }

  std::string described(std::int32_t id) const { return "node " + std::to_string(id); }

  // The roots are the run of nodes at the end that descend to as many items as the last one does. Annoy writes each
  // root in its place and all of them again at the end.
  void find_roots() {
    const auto n_nodes = static_cast<std::int32_t>(forest_.n_nodes);
    const std::int32_t n_items = forest_.node(n_nodes - 1).n_descendants();
    if (n_items < 0 || n_items >= n_nodes) {
      refuse("its last node claims " + std::to_string(n_items) + " items among " + std::to_string(n_nodes) +
             " nodes (is it of another metric or width?)");
    }
    forest_.n_items = n_items;
    std::int32_t first = n_nodes - 1;
    while (first > n_items && forest_.node(first - 1).n_descendants() == n_items) {
      --first;
      if (first % kPolledNodes == 0) cancellation_.check();
    }
    const std::int32_t found = n_nodes - first;
    first_of_run_ = first;
    if (is_whole_tree(forest_, n_nodes - 1)) {
      // The originals run into their copies: half of them are trees.
      if (found % 2 == 0) first += found / 2;
    } else {
      // Before the copies stand originals: one in a file of one thread, more where Annoy's threads ended together.
      // They have the children of a later node, and no copy has.
      std::set<Children> later;
      std::int32_t root = n_nodes;
      while (root > first && later.insert(children_of(root - 1)).second) --root;
      first = root;
    }
    forest_.roots.resize(static_cast<std::size_t>(n_nodes - first));
    for (std::int32_t id = first; id < n_nodes; ++id) forest_.roots[static_cast<std::size_t>(id - first)] = id;
  }

  // One pass over all nodes, in blocks. With at most one parent a node, and none for roots, no walk from a root meets a
  // node twice.
  void check_nodes(std::size_t n_threads) {
    const std::size_t block = std::max<std::size_t>(1, block_bytes_ / forest_.layout.node_size);
    const std::size_t n_blocks = (forest_.n_nodes + block - 1) / block;
    const auto check_block = [&](std::size_t b) {
      const std::size_t end = std::min(forest_.n_nodes, (b + 1) * block);
      check_range(static_cast<std::int32_t>(b * block), static_cast<std::int32_t>(end));
      if (hints_.release) hints_.release(b * block * forest_.layout.node_size, block * forest_.layout.node_size);
    };
    forget();
    if (n_threads > 1 && n_blocks > 1) {
      std::atomic<bool> sound{true};
      parallel_for(n_blocks, n_threads, cancellation_, [&](std::size_t b) {
        if (!sound.load(std::memory_order_relaxed)) return;
        ask_ahead(b, n_threads, block, n_blocks);
        try {
          check_block(b);
        } catch (const CorruptFile&) {
          sound = false;
        }
      });
      if (sound) return;
      // Which fault a thread saw first is chance; another pass, from the first node on, says which one is the first.
      forget();
    }
    for (std::size_t b = 0; b < n_blocks; ++b) {
      cancellation_.check();
      ask_ahead(b, 1, block, n_blocks);
      check_block(b);
    }
  }

  void forget() {
    has_parent_.emplace(forest_.n_nodes - static_cast<std::size_t>(forest_.n_items));
    originals_.clear();
    has_holes_ = false;
  }

  // Whoever begins a block asks for the one that somebody will begin next.
  void ask_ahead(std::size_t b, std::size_t n_threads, std::size_t block, std::size_t n_blocks) const {
    if (!hints_.read_ahead) return;
    const std::size_t bytes = block * forest_.layout.node_size;
    if (b == 0) hints_.read_ahead(0, n_threads * bytes);
    if (b + n_threads < n_blocks) hints_.read_ahead((b + n_threads) * bytes, bytes);
  }

  void check_range(std::int32_t begin, std::int32_t end) {
    check_items(begin, std::min(end, forest_.n_items));
    check_trees(std::max(begin, forest_.n_items), end);
  }

  void check_items(std::int32_t begin, std::int32_t end) {
    bool holes = false;
    const bool must_say_built = forest_.layout.is_development_dot();
    for (std::int32_t id = begin; id < end; ++id) {
      const NodeView node = forest_.node(id);
      const std::int32_t kind = node.n_descendants();
      if (kind == 0) {
        holes = true;
      } else if (kind != 1) {
        refuse(described(id) + " of " + std::to_string(forest_.n_items) + " items is not an item (" +
               std::to_string(kind) + " descendants; is it of another metric or width?)");
      } else if (must_say_built && !node.says_built()) {
        refuse(described(id) + " is an item without the mark of a built index (is it of another metric or width?)");
      }
    }
    if (holes) has_holes_ = true;
  }

  void check_trees(std::int32_t begin, std::int32_t end) {
    const std::int32_t first_root = forest_.roots.front();
    std::vector<std::int32_t> originals;
    for (std::int32_t id = begin; id < end; ++id) {
      const NodeView node = forest_.node(id);
      const std::int32_t n = node.n_descendants();
      if (n < 0) refuse(described(id) + " has " + std::to_string(n) + " descendants");
      if (forest_.n_items == 0 && n != 0) {
        // Zeros at the end of a damaged file would otherwise pass for a forest without items.
        refuse("its last node claims no items, but " + described(id) + " is not empty");
      }
      if (n <= forest_.layout.list_capacity) {
        check_list(id, node.list(), n);
      } else if (check_split(id, node, id < first_root && n == forest_.n_items)) {
        originals.push_back(id);
      }
    }
    if (originals.empty()) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    originals_.insert(originals_.end(), originals.begin(), originals.end());
  }

  void check_list(std::int32_t id, const std::int32_t* items, std::int32_t n) const {
    // One comparison a number, without a way out of the loop: the compiler takes several at once.
    const auto n_items = static_cast<std::uint32_t>(forest_.n_items);
    bool sound = true;
    for (std::int32_t i = 0; i < n; ++i) sound &= static_cast<std::uint32_t>(items[i]) < n_items;
    if (sound) return;
    const std::int32_t* const bad =
        std::find_if(items, items + n, [&](std::int32_t item) { return static_cast<std::uint32_t>(item) >= n_items; });
    refuse(described(id) + " lists item " + std::to_string(*bad) + " of " + std::to_string(forest_.n_items));
  }

  // True for the original of a root.
  bool check_split(std::int32_t id, const NodeView& node, bool may_be_original) {
    if (is_binary(forest_.layout.metric) && node.bits()[0] >= 64 * forest_.layout.words) {
      refuse(described(id) + " splits on bit " + std::to_string(node.bits()[0]) + " of " +
             std::to_string(64 * forest_.layout.words));
    }
    const Children children = children_of(id);
    for (const std::int32_t child : {children.first, children.second}) {
      if (child < 0 || static_cast<std::size_t>(child) >= forest_.n_nodes) {
        refuse(described(id) + " has the child " + std::to_string(child) + " among " + std::to_string(forest_.n_nodes) +
               " nodes");
      }
    }
    if (may_be_original && is_copied(children)) return true;  // its copy among the roots is the children's parent
    for (const std::int32_t child : {children.first, children.second}) {
      if (child < forest_.n_items) continue;
      if (!has_parent_->add(tree_node(child))) {
        refuse(described(child) + " has two parents, " + described(id) + " among them");
      }
    }
    return false;
  }

  void check_roots() const {
    for (const std::int32_t root : forest_.roots) {
      if (has_parent(root)) refuse("the root " + described(root) + " is the child of another node");
    }
    for (const std::int32_t original : originals_) {
      if (has_parent(original)) refuse(described(original) + ", a root's original, is the child of another node");
    }
  }

  // Only the file's last node tells where the items end, so a file that was cut would pass for one of fewer items,
  // were it not for the nodes that are left over.
  void check_nothing_is_left_over() const {
    auto original = originals_.begin();
    has_parent_->each_missing(tree_node(first_of_run_), [&](std::size_t missing) {
      const auto id = static_cast<std::int32_t>(missing) + forest_.n_items;
      if (original != originals_.end() && *original == id) {
        ++original;
      } else {
        refuse(described(id) + " belongs to no tree (cut, or of another metric or width?)");
      }
    });
    if (forest_.n_items != 1) return;
    // The list of a single item; another item would look like it, but for its vector.
    for (const std::int32_t root : forest_.roots) {
      const std::int32_t* const list = forest_.node(root).list();
      if (std::any_of(list + 1, list + forest_.layout.list_capacity, [](std::int32_t rest) { return rest != 0; })) {
        refuse("the root " + described(root) + " over a single item looks like another item (cut?)");
      }
    }
  }

  bool is_copied(const Children& children) const {
    return std::binary_search(root_children_.begin(), root_children_.end(), children);
  }

  Children children_of(std::int32_t id) const {
    const NodeView node = forest_.node(id);
    return {node.child(0), node.child(1)};
  }

  std::size_t tree_node(std::int32_t id) const { return static_cast<std::size_t>(id - forest_.n_items); }
  bool has_parent(std::int32_t id) const { return has_parent_->contains(tree_node(id)); }

  Forest& forest_;
  const std::string& where_;
  Cancellation& cancellation_;
  const ByteHints& hints_;
  const std::size_t block_bytes_;
  std::int32_t first_of_run_ = 0;        // of the nodes at the end that descend to all items
  std::vector<Children> root_children_;  // sorted
  std::optional<NodeSet> has_parent_;
  std::atomic<bool> has_holes_{false};
  std::mutex mutex_;
  std::vector<std::int32_t> originals_;
};

}  // namespace

void check_forest(Forest& forest, const std::string& where, std::size_t n_threads, Cancellation& cancellation,
                  const ByteHints& hints, std::size_t block_bytes) {
  Checker(forest, where, cancellation, hints, block_bytes).run(n_threads);
}

bool is_whole_tree(const Forest& forest, std::int32_t root) {
  const NodeView node = forest.node(root);
  return forest.n_items <= forest.layout.list_capacity ||
         (node.child(0) < forest.n_items && node.child(1) < forest.n_items);
}

}  // namespace dask_annoy
