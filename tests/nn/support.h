// SPDX-License-Identifier: Apache-2.0
// What the tests of layers and optimizers share.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/parallel.h"
#include "core/philox.h"
#include "nn/module.h"
#include "tests/device.h"
#include "tests/temporary_folder.h"

namespace moxie::testing {

using Numbers = std::vector<double>;

// Standard normal numbers, times `scale`.
inline Array random(const Shape& shape, uint64_t seed, double scale = 1, Dtype dtype = Dtype::f64) {
  Numbers values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = scale * static_cast<double>(normal_at({.seed = seed}, i));
  return Array::from(values, shape).to(dtype).to(current_device());
}

// The largest |a - b|, as a part of the largest |b|; infinity where shapes differ or a is NaN.
inline double difference(const Array& a, const Array& b) {
  if (!a.defined() || !b.defined() || a.shape() != b.shape()) return HUGE_VAL;
  const Numbers x = a.to_vector<double>(), y = b.to_vector<double>();
  double worst = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) return HUGE_VAL;
    worst = std::max(worst, std::abs(x[i] - y[i]));
    size = std::max(size, std::abs(y[i]));
  }
  return worst / (size > 0 ? size : 1);
}

inline bool same_bits(const Array& a, const Array& b) {
  if (!a.defined() || !b.defined() || a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  const Array x = a.to(Device::cpu()), y = b.to(Device::cpu());
  return x.bytes() == 0 || std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.bytes())) == 0;
}

inline bool same_bits(const std::vector<nn::NamedArray>& a, const std::vector<nn::NamedArray>& b) {
  bool same = a.size() == b.size();
  for (size_t i = 0; same && i < a.size(); ++i) same = a[i].name == b[i].name && same_bits(a[i].array, b[i].array);
  return same;
}

// Gives a parameter the gradient `grad`, added to what it has.
inline void add_grad(const nn::Parameter& parameter, const Array& grad) {
  parameter.as(parameter.value().dtype()).backward(grad.to(parameter.value().dtype()));
}

// What f's std::invalid_argument says; empty where it throws none.
template <class F> std::string refusal(F&& f) { return test::message_of<std::invalid_argument>(f); }

}  // namespace moxie::testing
