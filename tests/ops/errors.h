// SPDX-License-Identifier: Apache-2.0
// For tests of what the ops refuse, and in which words.
#pragma once
#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "autograd/ops.h"

namespace moxie::testing {

struct Refusal {
  std::function<void()> f;
  const char* message;
};

inline void expect(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) CHECK_THROWS_WITH_AS(refusal.f(), refusal.message, std::invalid_argument);
}

inline Tensor of(const Shape& shape, Dtype dtype = Dtype::f32) { return Tensor::zeros(shape, {dtype}); }
inline Array indices(const std::vector<int32_t>& values) {
  return Array::from(values, {static_cast<int64_t>(values.size())});
}

}  // namespace moxie::testing
