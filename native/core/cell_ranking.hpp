// Which cells a query looks at: those with the nearest means. Where there are many cells, only those of the nearest
// groups are compared with it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/cells.hpp"
#include "core/parallel.hpp"
#include "core/ranked.hpp"

namespace dask_annoy {

// The nearest groups are looked into until they hold so many times the budget, or that of a small one. Measured with
// 8,000 cells of 400,000 items (text256 and copies with noise): 45 times cost a thousandth of recall at 0.9, 20 times
// two hundredths.
constexpr std::size_t kHeldByGroups = 48;
constexpr std::size_t kLeastRanked = 2048;

// A query as a coder's items want it.
struct CodedQuery {
  std::vector<std::uint8_t> bytes;
  float factor = 0.0f;

  void set(const Coder& coder, const void* query) {
    bytes.resize(coder.query_bytes());
    factor = coder.code_query(query, bytes.data());
  }
};

// Queries that are ranked together, coded for the means.
struct CodedQueries {
  const std::uint8_t* const* codes;
  const float* factors;
  std::size_t count;
};

// Ranks cells for one thread's queries. Whether a query comes alone or with others makes no difference to it.
class CellRanker {
 public:
  // The nearest cells, as few as hold `budget` items together; nearest first if `in_order`. Valid until the next call.
  const std::vector<Ranked>& nearest(const Cells& cells, const CodedQuery& query, std::size_t budget, bool in_order);

  // The same for several queries, in no order of cells: choose(query, cells) is called for each.
  template <class Choose>
  void nearest_of_each(const Cells& cells, const CodedQueries& queries, std::size_t budget, Cancellation& cancellation,
                       const Choose& choose) {
    const std::size_t at_once = cells.are_ranked_by_groups() ? kQueriesByGroups : queries_at_once(cells);
    for (std::size_t begin = 0; begin < queries.count; begin += at_once) {
      cancellation.check();
      const std::size_t count = std::min(at_once, queries.count - begin);
      score(cells, {queries.codes + begin, queries.factors + begin, count}, budget);
      for (std::size_t q = 0; q < count; ++q) {
        choose(begin + q, select(cells, q, queries.factors[begin + q], budget, false));
      }
    }
  }

  // By cell, the least budget with which the query looks at it, or somewhat more.
  void budgets(const Cells& cells, const CodedQuery& query, std::vector<std::size_t>& by_cell);

 private:
  // Queries of a tile, at most. Kernels take eight at a time.
  static constexpr std::size_t kQueriesOfTile = 32;
  // Their sums with all means are to stay in the second-level cache, beside the means.
  static constexpr std::size_t kBytesOfSums = std::size_t{1} << 18;
  // Enough for tiles of queries that share a group.
  static constexpr std::size_t kQueriesByGroups = 256;

  static std::size_t queries_at_once(const Cells& cells) {
    const std::size_t fit = kBytesOfSums / (sizeof(std::int32_t) * std::max<std::size_t>(1, cells.n_cells()));
    return std::clamp<std::size_t>(fit / 8 * 8, 8, kQueriesOfTile);
  }

  void score(const Cells& cells, const CodedQueries& queries, std::size_t budget);
  void score_by_groups(const Cells& cells, const CodedQueries& queries, std::size_t budget);
  void rank_groups(const Cells& cells, const std::int32_t* sums, float factor);
  const std::vector<Ranked>& select(const Cells& cells, std::size_t q, float factor, std::size_t budget, bool in_order);

  std::vector<std::int32_t> sums_;
  std::vector<std::uint32_t> found_;
  std::vector<Ranked> ranked_;
  std::vector<Ranked> groups_;                                // nearest first
  std::vector<std::vector<std::uint32_t>> queries_of_group_;  // that look into it
  std::vector<std::vector<Ranked>> candidates_;               // by query, the cells of its groups
};

}  // namespace dask_annoy
