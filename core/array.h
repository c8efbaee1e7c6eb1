// SPDX-License-Identifier: Apache-2.0
// Array: numbers without history. Always contiguous and row-major; copies of an Array share its storage, as do
// reshape and leading-dimension slices. Everything else makes a new one.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "core/check.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "core/storage.h"

namespace moxie {

struct Options {
  Dtype dtype = Dtype::f32;
  Device device = Device::cpu();
  bool operator==(const Options&) const = default;
};

class Array;

namespace detail {
inline constinit thread_local std::vector<Array>* noted_copies = nullptr;

// While an instance lives, every array that this thread copies is noted in `list`. Copying a closure so tells which
// arrays it holds.
class NoteCopies final {
 public:
  explicit NoteCopies(std::vector<Array>& list) : before_(noted_copies) { noted_copies = &list; }
  ~NoteCopies() { noted_copies = before_; }
  NoteCopies(const NoteCopies&) = delete;
  NoteCopies& operator=(const NoteCopies&) = delete;

 private:
  std::vector<Array>* before_;
};
}  // namespace detail

class Array final {
 public:
  Array() = default;  // undefined: no shape, no storage
  Array(const Array& other)
      : storage_(other.storage_),
        shape_(other.shape_),
        numel_(other.numel_),
        offset_(other.offset_),
        dtype_(other.dtype_),
        device_(other.device_) {
    if (detail::noted_copies != nullptr) [[unlikely]]
      note_copy();
  }
  Array(Array&&) noexcept = default;
  Array& operator=(const Array&) = default;
  Array& operator=(Array&&) noexcept = default;
  ~Array() = default;

  // An array whose numbers are not set yet.
  static Array empty(const Shape& shape, Options options = {});
  static Array zeros(const Shape& shape, Options options = {});
  static Array full(const Shape& shape, double value, Options options = {});
  // A copy of `values`, which must be shape.numel() many.
  template <class T> static Array from(std::span<const T> values, const Shape& shape, Device device = Device::cpu());
  template <class T>
  static Array from(const std::vector<T>& values, const Shape& shape, Device device = Device::cpu()) {
    return from(std::span<const T>(values), shape, device);
  }

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int64_t i) const { return shape_[normalize_dim("dim", i, shape_)]; }
  int64_t numel() const { return numel_; }
  int64_t bytes() const { return numel_ * size_of(dtype_); }
  Dtype dtype() const { return dtype_; }
  Device device() const { return device_; }
  Options options() const { return {dtype_, device_}; }

  // The numbers as T, which must be the dtype's type. An Array is a handle: a const one gives writable numbers too.
  // Whoever writes into an array that others may have saved calls mark_changed().
  template <class T> T* data() const {
    check(defined(), "Array: an undefined array has no numbers");
    check_internal(dtype_of<T> == dtype_, "Array: asked for {} numbers of an array of {}", name_of(dtype_of<T>),
                   name_of(dtype_));
    return reinterpret_cast<T*>(raw());
  }
  std::byte* raw() const { return defined() && storage_->data() ? storage_->data() + offset_ : nullptr; }

  // The same numbers in another shape, shared; one size may be -1 and is then deduced.
  Array reshape(const Shape& shape) const;
  Array reshape(std::initializer_list<int64_t> sizes) const;
  // Rows [first, first + count) of the leading dimension, shared.
  Array rows(int64_t first, int64_t count) const;
  // A copy in storage of its own.
  Array clone() const;
  // A copy on another device, or in another dtype; the array itself where nothing changes.
  Array to(Device device) const;
  Array to(Dtype dtype) const;
  // Overwrites the numbers with those of `source`, which must agree in shape, dtype and device.
  void copy_from(const Array& source) const;
  void fill(double value) const;
  // Says that the numbers were changed in place through data() or raw(). A backward pass that needs the old ones then
  // throws instead of giving wrong gradients. copy_from and fill say it themselves, fresh arrays need it not.
  void mark_changed() const {
    if (defined()) storage_->mark_changed();
  }

  // The numbers as doubles or as T (converted), in row-major order.
  template <class T> std::vector<T> to_vector() const;
  // The only number of an array with one element.
  double item() const;

  // True where no other Array shares the storage, so that writing into it is seen by nobody else.
  bool unique() const { return storage_.use_count() == 1; }
  bool shares_storage_with(const Array& other) const { return defined() && storage_ == other.storage_; }
  // The memory behind this handle; null where undefined.
  const std::shared_ptr<Storage>& storage() const { return storage_; }

 private:
  void note_copy() const;

  std::shared_ptr<Storage> storage_;
  Shape shape_;
  int64_t numel_ = 0;
  int64_t offset_ = 0;  // bytes
  Dtype dtype_ = Dtype::f32;
  Device device_;
};

// Calls f(T{}) with the C++ type of a float dtype; `op` begins the error for any other dtype.
template <class F> decltype(auto) dispatch_float(const char* op, Dtype dtype, F&& f) {
  check(is_float(dtype), "{}: needs a float dtype (f64, f32 or bf16), got {}", op, name_of(dtype));
  switch (dtype) {
    case Dtype::f64: return f(double{});
    case Dtype::bf16: return f(bf16{});
    default: return f(float{});
  }
}

// The same for every dtype.
template <class F> decltype(auto) dispatch(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::f64: return f(double{});
    case Dtype::bf16: return f(bf16{});
    case Dtype::i32: return f(int32_t{});
    case Dtype::u8: return f(uint8_t{});
    default: return f(float{});
  }
}

}  // namespace moxie
