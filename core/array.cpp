// SPDX-License-Identifier: Apache-2.0
#include "core/array.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/cuda.h"
#include "core/kernels/elementwise/convert.h"
#include "core/kernels/elementwise/fill.h"
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

// Copies bytes between any two devices.
void copy_bytes(Device into_device, std::byte* into, Device from_device, const std::byte* from, int64_t total) {
  if (into_device.is_cpu() && from_device.is_cpu()) {
    constexpr int64_t block = 64 * 1024;
    return parallel_for((total + block - 1) / block, total > 8 * block, [=](int64_t i) {
      std::memcpy(into + i * block, from + i * block, static_cast<size_t>(std::min(block, total - i * block)));
    });
  }
#ifdef MOXIE_CUDA
  if (into_device.is_cpu()) return cuda::copy_to_host(from_device.index, into, from, total);
  if (from_device.is_cpu()) return cuda::copy_to_device(into_device.index, into, from, total);
  if (into_device == from_device) return cuda::copy_within(into_device.index, into, from, total);
  cuda::copy_between(into_device.index, into, from_device.index, from, total);
#else
  throw_built_without_cuda();
#endif
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
  if (array.numel_ == 0) return array;
  if (array.device_.is_cpu()) {
    std::memset(array.raw(), 0, static_cast<size_t>(array.bytes()));
    return array;
  }
#ifdef MOXIE_CUDA
  cuda::set_bytes(array.device_.index, array.raw(), 0, array.bytes());
#endif
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
  const auto bytes = std::as_bytes(values);
  if (!bytes.empty()) copy_bytes(device, array.raw(), Device::cpu(), bytes.data(), array.bytes());
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
  copy_bytes(device_, raw(), source.device_, source.raw(), bytes());
}

Array Array::to(Device device) const {
  if (device == device_ || !defined()) return *this;
  Array result = empty(shape_, {dtype_, device});
  if (numel_ > 0) copy_bytes(device, result.raw(), device_, raw(), bytes());
  return result;
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
  dispatch(dtype_, [&]<class T>(T) {
    const Fill<T> kernel{data<T>(), numel_, from_double<T>(value)};
    for_rows(device_, kernel, elementwise_rows(numel_), elementwise_row);
  });
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
