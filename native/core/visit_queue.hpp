// The nodes that a walk still has to visit, the most promising first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace dask_annoy {

struct Visit {
  float priority;
  std::int32_t node;
};

// A queue in the order of priority, and among equals of the node's number, the largest first. A priority and a node are
// one whole number whose order is that of the pair, so that one comparison tells which goes first; and the heap has
// four branches, so that it is half as deep as one of two and the children of an entry lie side by side.
class VisitQueue {
 public:
  void clear() { keys_.clear(); }
  bool empty() const { return keys_.empty(); }
  std::size_t capacity() const { return keys_.capacity(); }

  Visit top() const { return visit_of(keys_[0]); }

  // `priority` is not NaN.
  void push(float priority, std::int32_t node) {
    keys_.push_back(0);
    std::size_t at = keys_.size() - 1;
    const std::uint64_t key = key_of(priority, node);
    while (at > 0) {
      const std::size_t parent = (at - 1) / kBranches;
      if (keys_[parent] >= key) break;
      keys_[at] = keys_[parent];
      at = parent;
    }
    keys_[at] = key;
  }

  void pop() {
    const std::uint64_t last = keys_.back();
    keys_.pop_back();
    if (!keys_.empty()) settle(last);
  }

  // pop() and push() in one.
  void replace_top(float priority, std::int32_t node) { settle(key_of(priority, node)); }

 private:
  static constexpr std::size_t kBranches = 4;

  static std::uint64_t key_of(float priority, std::int32_t node) {
    const float value = priority + 0.0f;  // -0 and 0 are equal
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = (bits & kSign) != 0 ? ~bits : bits | kSign;  // the order of floats is that of these
    return std::uint64_t{bits} << 32 | static_cast<std::uint32_t>(node);
  }

  static std::int32_t node_of(std::uint64_t key) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(key)); }

  static Visit visit_of(std::uint64_t key) {
    auto bits = static_cast<std::uint32_t>(key >> 32);
    bits = (bits & kSign) != 0 ? bits & ~kSign : ~bits;
    Visit visit{0.0f, node_of(key)};
    std::memcpy(&visit.priority, &bits, sizeof bits);
    return visit;
  }

  // Puts a key in place of the top, as deep as it belongs.
  void settle(std::uint64_t key) {
    const std::size_t n = keys_.size();
    std::size_t at = 0;
    while (true) {
      const std::size_t first = kBranches * at + 1;
      if (first >= n) break;
      const std::size_t best = first + kBranches <= n ? best_of_four(first) : best_of(first, n);
      if (keys_[best] <= key) break;
      keys_[at] = keys_[best];
      at = best;
    }
    keys_[at] = key;
  }

  // Without branches: which of them is the best cannot be foretold.
  std::size_t best_of_four(std::size_t first) const {
    const std::uint64_t* const keys = keys_.data() + first;
    const std::size_t a = keys[1] > keys[0] ? 1 : 0;
    const std::size_t b = keys[3] > keys[2] ? 3 : 2;
    return first + (keys[b] > keys[a] ? b : a);
  }

  std::size_t best_of(std::size_t first, std::size_t end) const {
    std::size_t best = first;
    for (std::size_t at = first + 1; at < end; ++at) {
      if (keys_[at] > keys_[best]) best = at;
    }
    return best;
  }

  static constexpr std::uint32_t kSign = 0x80000000u;

  std::vector<std::uint64_t> keys_;
};

}  // namespace dask_annoy
