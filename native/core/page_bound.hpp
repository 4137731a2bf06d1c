// A bound on the pages of files that count as the process's memory while scattered items of a forest are looked at.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>

#include "core/build_memory.hpp"
#include "core/mapping.hpp"

namespace dask_annoy {

class PageBound {
 public:
  // Lets go of the mapping's pages, if there is one, whenever the process has got `bytes` of files more than now. The
  // system maps pages around the one that is asked for, so what is resident is asked of it.
  PageBound(std::shared_ptr<const Mapping> mapping, std::size_t bytes)
      : mapping_(bytes == kUnlimited ? nullptr : std::move(mapping)) {
    if (mapping_) most_ = resident_file_bytes() + bytes;
  }

  // After so many items were looked at; says whether pages were let go of. From any thread.
  bool looked_at(std::size_t n_items) {
    if (!mapping_) return false;
    constexpr std::size_t kBetween = 32;  // items, some 2 MB of pages
    if (items_.fetch_add(n_items) % kBetween + n_items < kBetween || resident_file_bytes() < most_) return false;
    mapping_->release(0, mapping_->size());
    return true;
  }

 private:
  std::shared_ptr<const Mapping> mapping_;
  std::size_t most_ = 0;
  std::atomic<std::size_t> items_{0};
};

}  // namespace dask_annoy
