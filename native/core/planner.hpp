// Which way a search goes: estimates what each would cost, and takes the cheapest whose answers are good enough.
//
// A plan follows from what is asked and from what there is alone: the same call gives the same answers whatever the
// machine, its instructions or the threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "core/layout.hpp"

namespace dask_annoy {

// `automatic` is for asking only; a plan names one of the others.
enum class SearchMethod : std::uint8_t {
  automatic,
  exact,   // every item that may be answered is scored
  trees,   // one walk through the trees a query
  leaves,  // the same walks, and so the same answers; what many queries meet is scored leaf by leaf
  cells,   // the nearest cells are scored
};

// Their names, in that order.
inline constexpr std::array kSearchMethodNames = {"auto", "exact", "trees", "leaves", "cells"};

const char* method_name(SearchMethod method);
// Throws std::invalid_argument, naming those that there are.
SearchMethod method_from_name(const std::string& name);

struct SearchCosts {
  double exact = 0.0;  // seconds; infinite for what cannot be done
  double trees = 0.0;
  double leaves = 0.0;
  double cells = 0.0;

  double of(SearchMethod method) const;
};

struct SearchRequest {
  Layout layout;
  std::size_t n_items = 0;
  std::size_t n_trees = 0;
  std::size_t n_cells = 0;     // 0: there are none
  std::size_t code_bytes = 0;  // of an item's code; 0: cells without codes

  std::size_t n_queries = 1;
  std::size_t n = 10;
  std::int64_t search_k = -1;
  std::optional<std::size_t> n_passing;  // items that pass the filter, if there is one
  std::size_t n_threads = 1;
  SearchMethod method = SearchMethod::automatic;
  // Whether a forest without cells is to answer as Annoy does, and not better.
  bool as_annoy = true;
};

struct SearchPlan {
  SearchMethod method = SearchMethod::trees;
  bool one_by_one = false;  // of exact and cells: each query by itself, as they share too little; the same answers
  SearchCosts costs;        // wall time with all threads
  std::string reason;       // why this method, for people
};

// Throws StateError if the method that is asked for cannot be had.
SearchPlan plan_search(const SearchRequest& request);

// Whether searches within the default budget would ever go by cells, asked for one neighbour at least.
bool cells_pay(const Layout& layout, std::size_t n_items);

}  // namespace dask_annoy
