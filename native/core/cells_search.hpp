// Search of a forest by its cells: the cells with the nearest means are scored whole, item after item as they lie, by
// their codes if there are any, and what the codes find best is scored exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/cells.hpp"
#include "core/item_filter.hpp"
#include "core/topk.hpp"

namespace dask_annoy {

// The items that a search for n neighbours scores, about: search_k, or what it stands for, and more of them where only
// some pass.
std::size_t cell_budget_of(std::size_t n_items, std::size_t n_trees, std::size_t n, std::int64_t search_k,
                           std::optional<std::size_t> n_passing);

// How many of the best by codes are scored exactly.
std::size_t shortlist_size(Metric metric, std::size_t n);

// The n nearest items of the nearest cells, which are scored until `search_k` items have been, or all of them (other
// negative numbers than −1, which is the default budget). Cells are scored whole. With a filter only what passes is
// answered and counted. Distances in compared form; the result is valid until the next search on this thread.
const std::vector<Neighbor>& search_cells(const Forest& forest, const Cells& cells, const void* query, std::size_t n,
                                          std::int64_t search_k, const ItemFilter* filter = nullptr);

// The same answers to many queries, cell by cell: see search_batch() for the arguments.
void search_cells_batch(const Forest& forest, const Cells& cells, const char* queries, std::size_t stride,
                        std::size_t n_queries, std::size_t n, std::int64_t search_k, std::size_t n_threads,
                        Cancellation& cancellation, std::int64_t* ids, float* distances,
                        const ItemFilter* filter = nullptr);

// The least search_k with which the cells of each target are scored; −1 for a target that has none (a hole, a number
// that is no item's). Codes may still misplace what is scored. `n_targets` a row.
void cell_budgets_to_find_batch(const Forest& forest, const Cells& cells, const char* queries, std::size_t stride,
                                std::size_t n_queries, const std::int64_t* targets, std::size_t n_targets,
                                std::size_t n_threads, Cancellation& cancellation, std::int64_t* budgets);

}  // namespace dask_annoy
