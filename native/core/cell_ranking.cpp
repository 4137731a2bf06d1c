#include "core/cell_ranking.hpp"

#include <cmath>
#include <limits>

namespace dask_annoy {

namespace {

constexpr float kNone = std::numeric_limits<float>::infinity();

// Whether groups that hold so many items are enough.
bool hold_enough(std::size_t held, std::size_t budget) {
  return held / kHeldByGroups >= std::max(budget, kLeastRanked);
}

// A score that about `wanted` of these are below, guessed from some of them; infinity where that would not help.
float likely_limit(const std::vector<Ranked>& all, std::size_t wanted) {
  constexpr std::size_t kSample = kSortedAtMost;
  if (all.size() < 4 * kSample) return kNone;
  const std::size_t place = wanted * kSample / all.size() * 5 / 4 + 6;
  if (place >= kSample / 2) return kNone;
  Ranked sample[kSample];
  for (std::size_t i = 0; i < kSample; ++i) sample[i] = all[i * all.size() / kSample];
  sort_ranked(sample, kSample);
  return score_of(sample[place]);
}

// Fewer than wanted are below `low`, enough below `high`.
struct Limits {
  float low = -kNone;
  float high = kNone;
};

// Of n scores, limits that few are between, looked for between the least and one that guessing gave, to the `finest`
// difference that scores have: counting costs much less than what it spares, choosing among those that are found. No
// limits where n is small.
template <class ScoreAt, class Least, class CountBelow>
Limits narrow_limits(std::size_t n, std::size_t wanted, float finest, const ScoreAt& score_at, const Least& least,
                     const CountBelow& count_below) {
  constexpr std::size_t kSample = 32, kMostCounts = 8;
  if (n < 2 * kSortedAtMost || wanted * 2 > n) return {};
  Ranked sample[kSample];
  for (std::uint32_t i = 0; i < kSample; ++i) sample[i] = ranked_as(score_at(i * n / kSample), i);
  sort_ranked(sample, kSample);
  Limits limits{least(), kNone};
  std::size_t below_high = 0;
  double below_low = 0.5;  // of which logarithms are taken
  for (std::size_t place = wanted * kSample / n + 1; place < kSample; place = 2 * place) {
    limits.high = score_of(sample[place]);
    below_high = count_below(limits.high);
    if (below_high >= wanted) break;
    limits.low = limits.high;
    below_low = std::max(0.5, static_cast<double>(below_high));
  }
  if (below_high < wanted) return {};
  // So that what is found can be sorted at once; if that is too much, what is between the limits.
  const std::size_t enough = wanted + wanted / 4 + 4;
  const std::size_t certain = enough <= kSortedAtMost ? 0 : wanted - wanted / 4;
  for (std::size_t count = 0; count < kMostCounts && limits.high - limits.low > finest; ++count) {
    if (below_high <= enough && below_low >= static_cast<double>(certain)) break;
    // Among the nearest, the number below a limit grows about exponentially with it.
    const double wished = below_high > enough ? 1.1 * static_cast<double>(wanted) : 0.9 * static_cast<double>(wanted);
    const double share = std::log(wished / below_low) / std::log(static_cast<double>(below_high) / below_low);
    const float middle = limits.low + (limits.high - limits.low) * static_cast<float>(std::clamp(share, 0.1, 0.9));
    const std::size_t below = count_below(middle);
    if (below < wanted) {
      limits.low = middle;
      below_low = std::max(0.5, static_cast<double>(below));
    } else {
      limits.high = middle;
      below_high = below;
    }
  }
  return limits;
}

// How many cells hold so many items, if all are of the mean size.
std::size_t expected_cells(const Cells& cells, std::size_t items) {
  const double size =
      static_cast<double>(cells.n_items()) / static_cast<double>(std::max<std::size_t>(1, cells.n_cells()));
  return static_cast<std::size_t>(static_cast<double>(items) / size) + 1;
}

// Leaves the nearest cells, as few as hold `budget` items. The first n_certain are nearer than the others, and less if
// all are of the mean size. The others are looked for among as many as would do then, and more of them until they do.
// False if all together hold less.
bool keep_nearest(const Cells& cells, std::size_t budget, bool in_order, std::size_t n_certain,
                  std::vector<Ranked>& ranked) {
  const auto held_by = [&](std::size_t first, std::size_t last) {
    std::size_t items = 0;
    for (std::size_t i = first; i < last; ++i) items += cells.size_of(number_of(ranked[i]));
    return items;
  };
  std::size_t begin = n_certain, held = held_by(0, n_certain);
  if (held >= budget) begin = held = 0;
  while (begin < ranked.size() && held < budget) {
    std::size_t end = ranked.size();
    if (end - begin > kSortedAtMost) {
      const std::size_t expected = begin + expected_cells(cells, budget - held);
      const auto at = [&](std::size_t i) { return ranked.begin() + static_cast<std::ptrdiff_t>(i); };
      if (expected < end) std::nth_element(at(begin), at(expected), ranked.end());
      end = std::min(end, expected);
    }
    const std::size_t more = held_by(begin, end);
    const bool last = held + more >= budget;
    if (in_order || last) sort_ranked(ranked.data() + begin, end - begin);
    if (!last) {
      held += more;
      begin = end;
    } else {
      while (held < budget) held += cells.size_of(number_of(ranked[begin++]));
    }
  }
  ranked.resize(begin);
  return held >= budget;
}

}  // namespace

const std::vector<Ranked>& CellRanker::nearest(const Cells& cells, const CodedQuery& query, std::size_t budget,
                                               bool in_order) {
  const std::uint8_t* code = query.bytes.data();
  score(cells, {&code, &query.factor, 1}, budget);
  return select(cells, 0, query.factor, budget, in_order);
}

void CellRanker::score(const Cells& cells, const CodedQueries& queries, std::size_t budget) {
  if (cells.are_ranked_by_groups()) return score_by_groups(cells, queries, budget);
  const CodeBlocks& means = cells.means;
  const std::size_t needed = queries.count * means.n_blocks() * kItemsOfBlock;
  if (sums_.size() < needed) sums_.resize(needed);
  cells.coder.sums()(queries.codes, queries.count, means.at(0), means.n_blocks(), means.groups(), sums_.data());
}

void CellRanker::rank_groups(const Cells& cells, const std::int32_t* sums, float factor) {
  groups_.resize(cells.n_groups());
  for (std::uint32_t g = 0; g < groups_.size(); ++g) {
    groups_[g] = ranked_as(cells.group_biases[g] + factor * static_cast<float>(sums[g]), g);
  }
  std::sort(groups_.begin(), groups_.end());
}

void CellRanker::score_by_groups(const Cells& cells, const CodedQueries& queries, std::size_t budget) {
  const SumCodes sum_codes = cells.coder.sums();
  const std::size_t group_places = cells.groups.n_blocks() * kItemsOfBlock;
  if (sums_.size() < queries.count * group_places) sums_.resize(queries.count * group_places);
  sum_codes(queries.codes, queries.count, cells.groups.at(0), cells.groups.n_blocks(), cells.groups.groups(),
            sums_.data());
  queries_of_group_.resize(cells.n_groups());
  for (auto& list : queries_of_group_) list.clear();
  if (candidates_.size() < queries.count) candidates_.resize(queries.count);
  for (std::size_t q = 0; q < queries.count; ++q) {
    candidates_[q].clear();
    rank_groups(cells, sums_.data() + q * group_places, queries.factors[q]);
    std::size_t held = 0;
    for (std::size_t i = 0; i < groups_.size() && !hold_enough(held, budget); ++i) {
      queries_of_group_[number_of(groups_[i])].push_back(static_cast<std::uint32_t>(q));
      held += cells.items_of_group(number_of(groups_[i]));
    }
  }
  const std::uint8_t* tile[kQueriesOfTile];
  for (std::size_t g = 0; g < cells.n_groups(); ++g) {
    const std::vector<std::uint32_t>& list = queries_of_group_[g];
    // Groups begin anywhere in a block: what belongs to another one is passed over.
    const std::size_t first = cells.group_starts[g], last = cells.group_starts[g + 1];
    const std::size_t first_block = first / kItemsOfBlock;
    const std::size_t n_blocks = (last + kItemsOfBlock - 1) / kItemsOfBlock - first_block;
    const std::size_t places = n_blocks * kItemsOfBlock;
    if (sums_.size() < kQueriesOfTile * places) sums_.resize(kQueriesOfTile * places);
    for (std::size_t begin = 0; begin < list.size(); begin += kQueriesOfTile) {
      const std::size_t in_tile = std::min(kQueriesOfTile, list.size() - begin);
      for (std::size_t i = 0; i < in_tile; ++i) tile[i] = queries.codes[list[begin + i]];
      sum_codes(tile, in_tile, cells.means.at(first_block), n_blocks, cells.means.groups(), sums_.data());
      for (std::size_t i = 0; i < in_tile; ++i) {
        const std::uint32_t q = list[begin + i];
        const std::int32_t* sums = sums_.data() + i * places;
        for (std::size_t c = first; c < last; ++c) {
          const auto sum = static_cast<float>(sums[c - first_block * kItemsOfBlock]);
          candidates_[q].push_back(
              ranked_as(cells.mean_biases[c] + queries.factors[q] * sum, static_cast<std::uint32_t>(c)));
        }
      }
    }
  }
}

// First among those below a limit that should leave enough.
const std::vector<Ranked>& CellRanker::select(const Cells& cells, std::size_t q, float factor, std::size_t budget,
                                              bool in_order) {
  std::size_t wanted = expected_cells(cells, budget);
  if (cells.are_ranked_by_groups()) {
    const std::vector<Ranked>& all = candidates_[q];
    const Ranked last = ranked_as(likely_limit(all, wanted), 0);
    ranked_.clear();
    for (const Ranked candidate : all) {
      if (candidate < last) ranked_.push_back(candidate);
    }
    if (keep_nearest(cells, budget, in_order, 0, ranked_)) return ranked_;
    ranked_ = all;
    keep_nearest(cells, budget, in_order, 0, ranked_);
    return ranked_;
  }
  const std::size_t n_places = cells.means.n_blocks() * kItemsOfBlock;
  const std::int32_t* sums = sums_.data() + q * n_places;
  const auto score_at = [&](std::size_t c) { return cells.mean_biases[c] + factor * static_cast<float>(sums[c]); };
  if (found_.size() < n_places + 1) found_.resize(n_places + 1);
  const Kernels& k = kernels();
  const float* biases = cells.mean_biases.data();
  const auto least = [&] { return score_at(k.find_least(sums, biases, n_places, factor)); };
  const auto count_below = [&](float limit) { return k.count_below(sums, biases, n_places, factor, limit); };
  // The nearest cells are smaller than others as a rule. Where so many more do not do, twice as many are looked at.
  for (wanted += wanted / 8 + 2;; wanted *= 2) {
    const Limits limits = narrow_limits(cells.n_cells(), wanted, factor, score_at, least, count_below);
    const std::size_t n_found = k.find_below(sums, biases, n_places, factor, limits.high, found_.data());
    ranked_.resize(n_found);
    std::size_t n_certain = 0, n_others = 0;
    const float certain = in_order ? -kNone : limits.low;
    for (std::size_t i = 0; i < n_found; ++i) {
      const float score = score_at(found_[i]);
      const std::size_t place = score < certain ? n_certain++ : n_found - ++n_others;
      ranked_[place] = ranked_as(score, found_[i]);
    }
    if (keep_nearest(cells, budget, in_order, n_certain, ranked_) || limits.high == kNone) return ranked_;
  }
}

void CellRanker::budgets(const Cells& cells, const CodedQuery& query, std::vector<std::size_t>& by_cell) {
  const std::uint8_t* code = query.bytes.data();
  const auto sum_all = [&](const CodeBlocks& blocks) {
    if (sums_.size() < blocks.n_blocks() * kItemsOfBlock) sums_.resize(blocks.n_blocks() * kItemsOfBlock);
    cells.coder.sums()(&code, 1, blocks.at(0), blocks.n_blocks(), blocks.groups(), sums_.data());
  };
  by_cell.assign(cells.n_cells(), 1);
  if (cells.are_ranked_by_groups()) {
    sum_all(cells.groups);
    rank_groups(cells, sums_.data(), query.factor);
    std::size_t held = 0;
    for (const Ranked group : groups_) {
      const std::size_t g = number_of(group);
      for (std::size_t c = cells.group_starts[g]; c < cells.group_starts[g + 1]; ++c) {
        if (hold_enough(held, 0)) by_cell[c] = held / kHeldByGroups + 1;
      }
      held += cells.items_of_group(g);
    }
  }
  sum_all(cells.means);
  ranked_.resize(cells.n_cells());
  for (std::uint32_t c = 0; c < ranked_.size(); ++c) {
    ranked_[c] = ranked_as(cells.mean_biases[c] + query.factor * static_cast<float>(sums_[c]), c);
  }
  std::sort(ranked_.begin(), ranked_.end());
  std::size_t held = 0;
  for (const Ranked cell : ranked_) {
    by_cell[number_of(cell)] = std::max(by_cell[number_of(cell)], held + 1);
    held += cells.size_of(number_of(cell));
  }
}

}  // namespace dask_annoy
