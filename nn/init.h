// SPDX-License-Identifier: Apache-2.0
// Initial values of parameters.
#pragma once
#include <cstdint>

#include "core/array.h"

namespace moxie::nn {

// Draws initial values: each call takes a stream of its own, so that parameters are independent and a model built in
// the same order from the same seed is the same.
class Initializer final {
 public:
  explicit Initializer(uint64_t seed) : seed_(seed) {}

  // f32, normal with mean 0.
  Array normal(const Shape& shape, double standard_deviation);
  // f32, uniform in (-bound, bound).
  Array uniform(const Shape& shape, double bound);

 private:
  uint64_t seed_;
  uint32_t stream_ = 0;
};

}  // namespace moxie::nn
