// Opening a forest file: finding its roots as Annoy does, and believing nothing that was not checked.
#include <algorithm>
#include <limits>
#include <utility>

#include "core/errors.hpp"
#include "core/forest.hpp"
#include "core/mapping.hpp"

namespace dask_annoy {

namespace {

class Parser {
 public:
  Parser(Forest& forest, const std::string& where) : forest_(forest), where_(where) {}

  void run() {
    find_roots();
    check_items();
    check_trees();
    check_nothing_is_left_over();
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
    if (n_items == 0) refuse_unless_empty();
    std::int32_t first = n_nodes - 1;
    while (first > n_items && forest_.node(first - 1).n_descendants() == n_items) --first;
    const std::int32_t found = n_nodes - first;
    first_of_run_ = first;
    if (is_whole_tree(forest_.node(n_nodes - 1))) {
      // The originals run into their copies: half of them are trees.
      if (found % 2 == 0) first += found / 2;
    } else {
      // The node before the copies is a root's original: the last one's, or with threads in Annoy that of any.
      const Children original = children_of(first);
      for (std::int32_t id = first + 1; id < n_nodes; ++id) {
        if (children_of(id) != original) continue;
        ++first;
        break;
      }
    }
    for (std::int32_t id = first; id < n_nodes; ++id) forest_.roots.push_back(id);
  }

  // A root that is a list, or has no children but items, is all there is of its tree.
  bool is_whole_tree(const NodeView& root) const {
    return forest_.n_items <= forest_.layout.list_capacity ||
           (root.child(0) < forest_.n_items && root.child(1) < forest_.n_items);
  }

  // Zeros at the end of a damaged file would otherwise pass for a forest without items.
  void refuse_unless_empty() const {
    for (std::size_t id = 0; id < forest_.n_nodes; ++id) {
      if (forest_.node(static_cast<std::int32_t>(id)).n_descendants() != 0) {
        refuse("its last node claims no items, but " + described(static_cast<std::int32_t>(id)) + " is not empty");
      }
    }
  }

  void check_items() {
    for (std::int32_t id = 0; id < forest_.n_items; ++id) {
      const std::int32_t kind = forest_.node(id).n_descendants();
      if (kind == 0) {
        forest_.has_holes = true;
      } else if (kind != 1) {
        refuse(described(id) + " of " + std::to_string(forest_.n_items) + " items is not an item (" +
               std::to_string(kind) + " descendants; is it of another metric or width?)");
      }
    }
  }

  // One pass. With at most one parent a node, and none for roots, no walk from a root meets a node twice.
  void check_trees() {
    const auto n_nodes = static_cast<std::int32_t>(forest_.n_nodes);
    for (const std::int32_t root : forest_.roots) root_children_.push_back(children_of(root));
    std::sort(root_children_.begin(), root_children_.end());
    has_parent_.assign(forest_.n_nodes - static_cast<std::size_t>(forest_.n_items), false);
    for (std::int32_t id = forest_.n_items; id < n_nodes; ++id) {
      const NodeView node = forest_.node(id);
      const std::int32_t n = node.n_descendants();
      if (n < 0) refuse(described(id) + " has " + std::to_string(n) + " descendants");
      if (n <= forest_.layout.list_capacity) {
        check_list(id, node.list(), n);
      } else {
        check_split(id, node, id < forest_.roots.front() && n == forest_.n_items);
      }
    }
    for (const std::int32_t root : forest_.roots) {
      if (parent_flag(root)) refuse("the root " + described(root) + " is the child of another node");
    }
    for (const std::int32_t original : originals_) {
      if (parent_flag(original)) refuse(described(original) + ", a root's original, is the child of another node");
    }
  }

  // Only the file's last node tells where the items end, so a file that was cut would pass for one of fewer items,
  // were it not for the nodes that are left over.
  void check_nothing_is_left_over() const {
    auto original = originals_.begin();
    for (std::int32_t id = forest_.n_items; id < first_of_run_; ++id) {
      if (original != originals_.end() && *original == id) {
        ++original;
      } else if (!parent_flag(id)) {
        refuse(described(id) + " belongs to no tree (cut, or of another metric or width?)");
      }
    }
    if (forest_.n_items != 1) return;
    // The list of a single item; another item would look like it, but for its vector.
    for (const std::int32_t root : forest_.roots) {
      const std::int32_t* const list = forest_.node(root).list();
      if (std::any_of(list + 1, list + forest_.layout.list_capacity, [](std::int32_t rest) { return rest != 0; })) {
        refuse("the root " + described(root) + " over a single item looks like another item (cut?)");
      }
    }
  }

  void check_list(std::int32_t id, const std::int32_t* items, std::int32_t n) const {
    for (std::int32_t i = 0; i < n; ++i) {
      if (items[i] < 0 || items[i] >= forest_.n_items) {
        refuse(described(id) + " lists item " + std::to_string(items[i]) + " of " + std::to_string(forest_.n_items));
      }
    }
  }

  void check_split(std::int32_t id, const NodeView& node, bool may_be_original) {
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
    if (may_be_original && is_copied(children)) {
      originals_.push_back(id);  // its copy among the roots is the children's parent
      return;
    }
    for (const std::int32_t child : {children.first, children.second}) {
      if (child < forest_.n_items) continue;
      if (parent_flag(child)) refuse(described(child) + " has two parents, " + described(id) + " among them");
      has_parent_[static_cast<std::size_t>(child - forest_.n_items)] = true;
    }
  }

  bool is_copied(const Children& children) const {
    return std::binary_search(root_children_.begin(), root_children_.end(), children);
  }

  Children children_of(std::int32_t id) const {
    const NodeView node = forest_.node(id);
    return {node.child(0), node.child(1)};
  }

  bool parent_flag(std::int32_t id) const { return has_parent_[static_cast<std::size_t>(id - forest_.n_items)]; }

  Forest& forest_;
  const std::string& where_;
  std::int32_t first_of_run_ = 0;  // of the nodes at the end that descend to all items
  std::vector<bool> has_parent_;
  std::vector<std::int32_t> originals_;
  std::vector<Children> root_children_;  // sorted
};

}  // namespace

Forest parse_forest(std::shared_ptr<const char> bytes, std::size_t size, const Layout& layout,
                    const std::string& where) {
  if (size == 0) throw CorruptFile(where, "it is empty");
  if (size % layout.node_size != 0) {
    throw CorruptFile(where, "its size of " + std::to_string(size) + " bytes is not a multiple of " +
                                 std::to_string(layout.node_size) + ", the node size of " + metric_name(layout.metric) +
                                 " with " + std::to_string(layout.width) +
                                 " dimensions (cut, or of another metric or width)");
  }
  Forest forest;
  forest.layout = layout;
  forest.nodes = std::move(bytes);
  forest.n_nodes = size / layout.node_size;
  if (forest.n_nodes > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    throw CorruptFile(where, "it holds more than 2^31 - 1 nodes");
  }
  Parser(forest, where).run();
  return forest;
}

Forest open_forest(const std::string& path, const Layout& layout, bool prefault) {
  const auto mapping = Mapping::of_file(path, prefault);
  Forest forest = parse_forest({mapping, mapping->data()}, mapping->size(), layout, path);
  forest.file = mapping->file();
  return forest;
}

}  // namespace dask_annoy
