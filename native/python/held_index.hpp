// The object behind Python's AnnoyIndex: it holds an index, and another may take its place. A call works to its end on
// the index that it found, so an index never changes its metric or width under a query.
#pragma once

#include <memory>
#include <utility>

#include "core/errors.hpp"
#include "core/index.hpp"
#include "python/bindings.hpp"

namespace dask_annoy {

// The GIL guards the pointer; the index has its own lock.
class HeldIndex {
 public:
  explicit HeldIndex(std::shared_ptr<Index> index) : index_(std::move(index)) {}

  // StateError as long as there is none.
  std::shared_ptr<Index> index() const {
    if (!index_) {
      require_open();
      throw StateError("this index has no width yet: give f, or add the first item");
    }
    return index_;
  }

  // From now on this is the other's index, or none. StateError when closed.
  void adopt(const HeldIndex* other) {
    require_open();
    std::shared_ptr<Index> former = std::exchange(index_, other == nullptr ? nullptr : other->index_);
    const py::gil_scoped_release unlocked;
    former.reset();  // may unmap and free for a while
  }

  // For good, whether or not there is an index.
  void close() {
    closed_ = true;
    const std::shared_ptr<Index> index = index_;
    const py::gil_scoped_release unlocked;
    if (index) index->close();
  }

  bool is_closed() const {
    const std::shared_ptr<Index> index = index_;
    if (closed_ || !index) return closed_;
    const py::gil_scoped_release unlocked;
    return index->is_closed();
  }

  void require_open() const {
    if (is_closed()) throw StateError(kClosed);
  }

 private:
  std::shared_ptr<Index> index_;
  bool closed_ = false;
};

}  // namespace dask_annoy

// Bound functions take an Index&; what they get is the held one, kept until the call has ended.
template <>
struct pybind11::detail::type_caster<dask_annoy::Index> {
  static constexpr auto name = const_name("AnnoyIndex");
  template <class T>
  using cast_op_type = pybind11::detail::cast_op_type<T>;

  bool load(handle source, bool /*convert*/) {
    if (!isinstance<dask_annoy::HeldIndex>(source)) return false;
    const auto place =
        reinterpret_cast<instance*>(source.ptr())->get_value_and_holder(get_type_info(typeid(dask_annoy::HeldIndex)));
    if (!place.holder_constructed()) throw type_error("AnnoyIndex.__init__() was not called");
    index_ = static_cast<const dask_annoy::HeldIndex*>(place.value_ptr())->index();
    return true;
  }

  operator dask_annoy::Index*() { return index_.get(); }
  operator dask_annoy::Index&() { return *index_; }

 private:
  std::shared_ptr<dask_annoy::Index> index_;
};
