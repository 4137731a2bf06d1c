#include "fuzz/mutation.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/layout.hpp"

namespace dask_annoy::fuzz {

namespace {

constexpr std::size_t kLargest = std::size_t{1} << 16;  // bytes: files stay small, so that many can be tried

class Mutation {
 public:
  Mutation(Input& input, const Input& other, Random& random)
      : input_(input), other_(other), random_(random), layout_(layout_of(input, random)) {}

  void once() {
    switch (random_.below(14)) {
      case 0:
        return flip_bit();
      case 1:
      case 2:
      case 3:
        return set_field();
      case 4:
        return set_list_entry();
      case 5:
        return swap_children();
      case 6:
        return copy_node();
      case 7:
        return swap_nodes();
      case 8:
        return leave_out();
      case 9:
        return append();
      case 10:
        return cut();
      case 11:
        return set_float();
      case 12:
        return splice();
      default:
        return reinterpret();
    }
  }

 private:
  // Half of the time dot files are taken for those of the development version.
  static Layout layout_of(const Input& input, Random& random) {
    if (input.metric == Metric::dot && random.below(2) == 0) return Layout::of_development_dot(input.width);
    return Layout::of(input.metric, input.width);
  }

  std::vector<char>& file() { return input_.file; }
  std::size_t n_nodes() const { return input_.file.size() / layout_.node_size; }
  char* node(std::size_t id) { return file().data() + id * layout_.node_size; }
  char* any_node() { return node(random_.below(n_nodes())); }

  // Nodes of trees, the last ones first: they are few among the items, and all depends on them.
  char* any_tree_node() {
    const std::size_t back = std::min(random_.below(n_nodes()), random_.below(n_nodes()));
    return node(n_nodes() - 1 - back);
  }

  template <class T>
  T get(const char* at) const {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }

  template <class T>
  void put(std::size_t offset, T value) {
    if (offset + sizeof value <= file().size()) std::memcpy(file().data() + offset, &value, sizeof value);
  }

  void put_at(char* at, std::int32_t value) { put(static_cast<std::size_t>(at - file().data()), value); }

  // Numbers at the edges of what a field may be.
  std::int32_t edge() {
    const auto nodes = static_cast<std::int32_t>(n_nodes());
    const std::int32_t items = nodes > 0 ? get<std::int32_t>(node(n_nodes() - 1)) : 0;
    const std::int64_t around = static_cast<std::int64_t>(random_.below(3)) - 1;
    switch (random_.below(8)) {
      case 0:
        return static_cast<std::int32_t>(around);
      case 1:
        return static_cast<std::int32_t>(layout_.list_capacity + around);
      case 2:
        return static_cast<std::int32_t>(items + around);  // wraps: any number will do
      case 3:
        return static_cast<std::int32_t>(nodes + around);
      case 4:
        return std::numeric_limits<std::int32_t>::max() - static_cast<std::int32_t>(random_.below(2));
      case 5:
        return std::numeric_limits<std::int32_t>::min() + static_cast<std::int32_t>(random_.below(2));
      case 6:
        return static_cast<std::int32_t>(random_.next());
      default:
        return static_cast<std::int32_t>(random_.below(static_cast<std::size_t>(nodes) + 1));
    }
  }

  void flip_bit() {
    if (file().empty()) return;
    char& byte = file()[random_.below(file().size())];
    byte = static_cast<char>(byte ^ (1 << random_.below(8)));
  }

  void set_field() {
    if (n_nodes() == 0) return;
    char* const at = random_.below(4) == 0 ? any_node() : any_tree_node();
    const std::size_t fields[] = {0, layout_.children_offset, layout_.children_offset + 4, layout_.scalar_offset,
                                  layout_.vector_offset - 4};
    put_at(at + fields[random_.below(std::size(fields))], edge());
  }

  void set_list_entry() {
    if (n_nodes() == 0) return;
    const std::size_t entry = random_.below(static_cast<std::size_t>(layout_.list_capacity));
    put_at(any_tree_node() + layout_.children_offset + 4 * entry, edge());
  }

  void swap_children() {
    if (n_nodes() == 0) return;
    char* const a = any_tree_node() + layout_.children_offset + 4 * random_.below(2);
    char* const b = any_tree_node() + layout_.children_offset + 4 * random_.below(2);
    const auto moved = get<std::int32_t>(a);
    std::memmove(a, b, 4);
    if (random_.below(2) == 0) put_at(b, moved);  // otherwise a node has two parents, and one has none
  }

  void copy_node() {
    if (n_nodes() == 0) return;
    std::memmove(any_tree_node(), any_node(), layout_.node_size);
  }

  void swap_nodes() {
    if (n_nodes() == 0) return;
    char* const a = any_tree_node();
    char* const b = any_tree_node();
    if (a != b) std::swap_ranges(a, a + layout_.node_size, b);
  }

  void leave_out() {
    if (n_nodes() == 0) return;
    const auto at = file().begin() + (any_node() - file().data());
    file().erase(at, at + static_cast<std::ptrdiff_t>(layout_.node_size));
  }

  void append() {
    if (file().size() + layout_.node_size > kLargest) return;
    std::vector<char> added(layout_.node_size);
    if (n_nodes() > 0 && random_.below(3) > 0) std::memcpy(added.data(), any_tree_node(), layout_.node_size);
    file().insert(file().end(), added.begin(), added.end());
  }

  void cut() {
    if (n_nodes() == 0) return;
    const bool within_node = random_.below(8) == 0;
    file().resize(within_node ? random_.below(file().size() + 1) : (1 + random_.below(n_nodes())) * layout_.node_size);
  }

  void set_float() {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const float values[] = {
        std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity,
        std::numeric_limits<float>::max(),       std::numeric_limits<float>::denorm_min(), -0.0f};
    const float value = values[random_.below(std::size(values))];
    if (n_nodes() == 0) return;
    char* const at = any_node();
    const std::size_t slots = layout_.vector_bytes() / 4;
    const std::size_t offset =
        random_.below(4) == 0 ? layout_.scalar_offset : layout_.vector_offset + 4 * random_.below(slots);
    put(static_cast<std::size_t>(at - file().data()) + offset, value);
  }

  void splice() {
    const std::size_t theirs = other_.file.size() / layout_.node_size;
    if (n_nodes() == 0 || theirs == 0) return;
    const std::size_t begin = random_.below(theirs) * layout_.node_size;
    file().resize(random_.below(n_nodes() + 1) * layout_.node_size);
    const std::size_t room = (kLargest - std::min(kLargest, file().size())) / layout_.node_size * layout_.node_size;
    const std::size_t taken = std::min(other_.file.size() - begin, room);
    file().insert(file().end(), other_.file.begin() + static_cast<std::ptrdiff_t>(begin),
                  other_.file.begin() + static_cast<std::ptrdiff_t>(begin + taken));
  }

  // A width whose nodes have the same size in another metric, or any.
  void reinterpret() {
    const auto metric = static_cast<Metric>(random_.below(5));
    if (random_.below(2) == 0) {
      for (std::size_t width = 1; width <= kWidest; ++width) {
        if (Layout::of(metric, width).node_size != layout_.node_size) continue;
        input_.metric = metric;
        input_.width = width;
        break;
      }
    } else {
      input_.width = 1 + random_.below(80);
    }
    layout_ = layout_of(input_, random_);
  }

  Input& input_;
  const Input& other_;
  Random& random_;
  Layout layout_;
};

}  // namespace

void mutate(Input& input, const Input& other, Random& random) {
  input.choice = static_cast<std::uint8_t>(random.next());
  Mutation mutation(input, other, random);
  for (std::size_t change = 1 + random.below(5); change > 0; --change) mutation.once();
}

}  // namespace dask_annoy::fuzz
