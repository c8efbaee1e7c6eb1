// SPDX-License-Identifier: Apache-2.0
#include "core/array.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/kernels/elementwise/convert.h"
#include "core/launch.h"

namespace moxie {
namespace {

constexpr int64_t max_bytes = int64_t{1} << 60;

template <class T> constexpr T from_double(double value) {
  if constexpr (std::is_same_v<T, bf16>)
    return bf16(static_cast<float>(value));
  else
    return static_cast<T>(value);
}

}  // namespace

// The list is put aside meanwhile: it copies the array in its turn.
void Array::note_copy() const {
  std::vector<Array>* const list = std::exchange(detail::noted_copies, nullptr);
  list->push_back(*this);
  detail::noted_copies = list;
}

Array Array::empty(const Shape& shape, Options options) {
  check(shape.numel() <= max_bytes / size_of(options.dtype), "Array: shape {} of {} is too large", shape,
        name_of(options.dtype));
  Array array;
  array.shape_ = shape;
  array.numel_ = shape.numel();
  array.dtype_ = options.dtype;
  array.device_ = options.device;
  array.storage_ = std::make_shared<Storage>(array.bytes(), options.device);
  return array;
}

Array Array::zeros(const Shape& shape, Options options) {
  Array array = empty(shape, options);
  if (array.numel_ > 0) std::memset(array.raw(), 0, static_cast<size_t>(array.bytes()));
  return array;
}

Array Array::full(const Shape& shape, double value, Options options) {
  Array array = empty(shape, options);
  array.fill(value);
  return array;
}

template <class T> Array Array::from(std::span<const T> values, const Shape& shape, Device device) {
  check(static_cast<int64_t>(values.size()) == shape.numel(),
        "Array::from: {} values don't fill shape {} ({} elements)", values.size(), shape, shape.numel());
  Array array = empty(shape, {dtype_of<T>, device});
  std::copy(values.begin(), values.end(), array.data<T>());
  return array;
}
template Array Array::from(std::span<const double>, const Shape&, Device);
template Array Array::from(std::span<const float>, const Shape&, Device);
template Array Array::from(std::span<const bf16>, const Shape&, Device);
template Array Array::from(std::span<const int32_t>, const Shape&, Device);
template Array Array::from(std::span<const uint8_t>, const Shape&, Device);

Array Array::reshape(std::initializer_list<int64_t> sizes) const {
  std::vector<int64_t> known(sizes);
  const auto unknown = std::find(known.begin(), known.end(), -1);
  if (unknown != known.end()) {
    *unknown = 1;
    const int64_t rest = Shape(std::span<const int64_t>(known)).numel();
    check(rest > 0 && numel_ % rest == 0, "reshape: {} doesn't divide into the sizes given, whose product is {}",
          shape_, rest);
    *unknown = numel_ / rest;
  }
  return reshape(Shape(std::span<const int64_t>(known)));
}

Array Array::reshape(const Shape& shape) const {
  check(shape.numel() == numel_, "reshape: {} has {} elements, {} has {}", shape_, numel_, shape, shape.numel());
  Array result = *this;
  result.shape_ = shape;
  return result;
}

Array Array::rows(int64_t first, int64_t count) const {
  check(shape_.rank() > 0, "rows: a scalar has no rows");
  check(first >= 0 && count >= 0 && first + count <= shape_[0], "rows: [{}, {}) is out of range for shape {}", first,
        first + count, shape_);
  Array result = *this;
  result.shape_ = shape_.with(0, count);
  result.numel_ = result.shape_.numel();
  result.offset_ += first * shape_.product(1, shape_.rank()) * size_of(dtype_);
  return result;
}

Array Array::clone() const {
  if (!defined()) return {};
  Array result = empty(shape_, options());
  result.copy_from(*this);
  return result;
}

void Array::copy_from(const Array& source) const {
  check(source.shape_ == shape_ && source.options() == options(), "copy_from: {} {} on {} into {} {} on {}",
        source.shape_, name_of(source.dtype_), source.device_.name(), shape_, name_of(dtype_), device_.name());
  if (numel_ == 0) return;
  mark_changed();
  constexpr int64_t block = 64 * 1024;
  const std::byte* from = source.raw();
  std::byte* into = raw();
  const int64_t total = bytes();
  parallel_for((total + block - 1) / block, total > 8 * block, [=](int64_t i) {
    std::memcpy(into + i * block, from + i * block, static_cast<size_t>(std::min(block, total - i * block)));
  });
}

Array Array::to(Device device) const {
  if (device == device_) return *this;
  throw_built_without_cuda();
}

Array Array::to(Dtype dtype) const {
  if (dtype == dtype_ || !defined()) return *this;
  Array result = empty(shape_, {dtype, device_});
  dispatch(dtype_, [&]<class From>(From) {
    dispatch(dtype, [&]<class To>(To) {
      const Convert<From, To> kernel{data<From>(), result.data<To>(), numel_};
      for_rows(device_, kernel, elementwise_rows(numel_), elementwise_row);
    });
  });
  return result;
}

void Array::fill(double value) const {
  mark_changed();
  dispatch(dtype_, [&]<class T>(T) { std::fill_n(data<T>(), numel_, from_double<T>(value)); });
}

template <class T> std::vector<T> Array::to_vector() const {
  const Array host = to(Device::cpu()).to(dtype_of<T>);
  return std::vector<T>(host.data<T>(), host.data<T>() + numel_);
}
template std::vector<double> Array::to_vector() const;
template std::vector<float> Array::to_vector() const;
template std::vector<bf16> Array::to_vector() const;
template std::vector<int32_t> Array::to_vector() const;
template std::vector<uint8_t> Array::to_vector() const;

double Array::item() const {
  check(numel_ == 1, "item: needs an array with one element, got shape {}", shape_);
  return to_vector<double>()[0];
}

}  // namespace moxie
