#include "fuzz/exercise.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "core/errors.hpp"
#include "core/forest_check.hpp"
#include "core/index.hpp"
#include "core/random.hpp"

namespace dask_annoy::fuzz {

namespace {

constexpr std::int64_t kBudgets[] = {0, 1, 7, 100, -1, -2};  // −2: no bound
constexpr std::uint8_t kCheckedInParallel = 16;              // one file of so many: threads cost time
constexpr std::size_t kMost = 12;                            // neighbours asked for

void require(bool kept, const char* promise) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

std::shared_ptr<const char> exact_copy(const std::vector<char>& bytes) {
  const std::shared_ptr<char[]> copy(new char[bytes.size()]);  // a step beyond it is a step out of the allocation
  std::copy(bytes.begin(), bytes.end(), copy.get());
  return {copy, copy.get()};
}

// What a check of a file says: its roots and items, or what is wrong.
std::string verdict(const Input& input, const Layout& layout, std::size_t n_threads, std::size_t block_bytes) {
  Forest forest;
  forest.layout = layout;
  forest.nodes = exact_copy(input.file);
  forest.n_nodes = input.file.size() / layout.node_size;
  Cancellation never;
  try {
    check_forest(forest, "file", n_threads, never, {}, block_bytes);
  } catch (const CorruptFile& refusal) {
    return refusal.reason;
  }
  std::string found = std::to_string(forest.n_items) + (forest.has_holes ? " items with holes" : " items");
  for (const std::int32_t root : forest.roots) found += " " + std::to_string(root);
  return found;
}

// These files are smaller than what a thread takes at a time, so the threads are given less.
void check_in_parallel(const Input& input) {
  const Layout layout = Layout::of(input.metric, input.width);
  if (input.file.size() < layout.node_size) return;
  require(verdict(input, layout, 3, 256) == verdict(input, layout, 1, kCheckedAtOnce),
          "what is wrong with a file does not depend on the threads");
}

class Asking {
 public:
  Asking(const Index& index, std::uint8_t choice)
      : index_(index), random_(choice), budget_(kBudgets[choice % std::size(kBudgets)]) {}

  void everything() {
    const std::vector<std::int64_t> present = index_.present_items();
    for (const std::int64_t item : present) require(index_.has_item(item), "an item is present or is not");
    for (const std::int64_t wrong : {std::int64_t{-1}, std::int64_t{index_.n_items()}}) {
      require(!index_.has_item(wrong), "numbers out of range are no items");
    }
    const std::vector<char> query = any_query();
    searches(query.data(), present);
    if (index_.n_items() > 0)
      by_item(static_cast<std::int64_t>(random_.below(static_cast<std::size_t>(index_.n_items()))));
    filtered(query.data());
    batch(query);
    everything_out();
  }

 private:
  // The numbers of a reasonable user: what is not finite does not come from queries, only from files.
  std::vector<char> any_query() {
    std::vector<char> query(index_.layout().vector_bytes());
    if (is_binary(index_.layout().metric)) {
      for (char& byte : query) byte = static_cast<char>(random_.next());
      return query;
    }
    auto* values = reinterpret_cast<float*>(query.data());
    for (std::size_t d = 0; d < index_.layout().width; ++d) {
      values[d] = static_cast<float>(random_.below(2001)) / 500.0f - 2.0f;
    }
    return query;
  }

  void check(const std::vector<Neighbor>& answer, std::size_t most) const {
    require(answer.size() <= most, "no more answers than were asked for");
    for (std::size_t i = 0; i < answer.size(); ++i) {
      require(index_.has_item(answer[i].id), "only items are answered");
      require(answer[i].distance == answer[i].distance, "no distance is NaN");
      require(i == 0 || answer[i - 1] < answer[i], "nearest first, each item once");
    }
  }

  void searches(const char* query, const std::vector<std::int64_t>& present) {
    for (const std::int64_t budget : kBudgets) check(index_.nearest(query, kMost, budget), kMost);
    const auto all = index_.nearest(query, present.size(), -2);
    check(all, present.size());
    std::int64_t radius_item = all.empty() ? 0 : all[all.size() / 2].id;
    const double radius = all.empty() ? 1.0 : returned_distance(index_.layout().metric, all[all.size() / 2].distance);
    const auto near = index_.within(query, radius, kNoLimit, -1, never_);
    check(near, present.size());
    require(
        all.empty() || std::any_of(near.begin(), near.end(), [&](const Neighbor& n) { return n.id == radius_item; }),
        "an exact radius search finds all that is within it");
    check(index_.within(query, radius, kMost, 20, never_), kMost);
    std::vector<std::int64_t> targets = {radius_item, 0, -1, std::int64_t{index_.n_items()}};
    std::vector<std::int64_t> budgets(targets.size());
    index_.budgets_to_find(query, index_.layout().vector_bytes(), 1, targets.data(), targets.size(), 1, never_,
                           budgets.data());
    require(budgets[2] == -1 && budgets[3] == -1, "what is no item is never found");
    if (budgets[0] > 0) {
      const auto found = index_.nearest(query, present.size(), budgets[0]);
      require(std::any_of(found.begin(), found.end(), [&](const Neighbor& n) { return n.id == radius_item; }),
              "the budget to find an item finds it");
    }
  }

  void by_item(std::int64_t item) {
    check(index_.nearest_to_item(item, kMost, budget_), kMost);
    check(index_.within_of_item(item, 1.0, kMost, budget_, never_), kMost);
    const std::int64_t items[] = {item, 0};
    std::vector<std::int64_t> ids(2 * kMost);
    std::vector<float> distances(2 * kMost);
    index_.nearest_to_items(items, 2, kMost, budget_, 1, never_, ids.data(), distances.data());
    const float distance = index_.distance(item, 0);
    require(distance == distance, "no distance is NaN");
  }

  void filtered(const char* query) {
    const auto n = static_cast<std::size_t>(index_.n_items());
    std::vector<std::uint8_t> mask(n);
    for (auto& included : mask) included = static_cast<std::uint8_t>(random_.below(2));
    Restriction restriction;
    restriction.include.kind = Selection::Kind::mask;
    restriction.include.mask = mask.data();
    restriction.include.size = n;
    const auto check_kept = [&](const std::vector<Neighbor>& answer) {
      check(answer, n);
      for (const Neighbor& neighbor : answer) {
        require(mask[static_cast<std::size_t>(neighbor.id)] != 0, "a filter holds");
      }
    };
    check_kept(index_.nearest(query, n, budget_, restriction));
    check_kept(index_.within(query, 2.0, kNoLimit, budget_, never_, restriction));
  }

  void batch(const std::vector<char>& query) {
    std::vector<char> queries = query;
    const std::vector<char> more = any_query();
    queries.insert(queries.end(), more.begin(), more.end());
    std::vector<std::int64_t> ids(2 * kMost);
    std::vector<float> distances(2 * kMost);
    index_.nearest_batch(queries.data(), query.size(), 2, kMost, budget_, 1, never_, ids.data(), distances.data());
    const auto one = index_.nearest(query.data(), kMost, budget_);
    for (std::size_t i = 0; i < kMost; ++i) {
      require(ids[i] == (i < one.size() ? one[i].id : -1), "a batch answers as its queries one by one");
    }
  }

  void everything_out() {
    const auto n = static_cast<std::size_t>(index_.n_items());
    std::vector<std::int64_t> items(n);
    for (std::size_t i = 0; i < n; ++i) items[i] = static_cast<std::int64_t>(i);
    std::vector<char> vectors(n * index_.layout().vector_bytes());
    index_.item_vectors(items.data(), n, vectors.data());
    std::vector<char> file;
    index_.copy_file([&](std::size_t size) {
      file.resize(size);
      return file.data();
    });
    Index again(index_.layout().metric, index_.layout().width);
    again.load_bytes(exact_copy(file), file.size(), never_);
    require(again.n_items() == index_.n_items(), "a copy has the same items");
    require(again.present_items() == index_.present_items(), "a copy has the same holes");
    const std::vector<char> query = any_query();
    const auto mine = index_.nearest(query.data(), n, -2);
    const auto its = again.nearest(query.data(), n, -2);
    require(mine.size() == its.size() && std::equal(mine.begin(), mine.end(), its.begin(),
                                                    [](const Neighbor& a, const Neighbor& b) {
                                                      return a.id == b.id && a.distance == b.distance;
                                                    }),
            "a copy answers the same");
  }

  static constexpr std::size_t kNoLimit = ~std::size_t{0};

  const Index& index_;
  Random random_;
  const std::int64_t budget_;
  Cancellation never_;
};

}  // namespace

bool open_and_ask(const Input& input) {
  if (input.choice % kCheckedInParallel == 0) check_in_parallel(input);
  Index index(input.metric, input.width);
  Cancellation never;
  try {
    index.load_bytes(exact_copy(input.file), input.file.size(), never);
  } catch (const CorruptFile&) {
    return false;
  }
  Asking(index, input.choice).everything();
  index.close();
  return true;
}

}  // namespace dask_annoy::fuzz
