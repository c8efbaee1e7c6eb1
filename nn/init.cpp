// SPDX-License-Identifier: Apache-2.0
#include "nn/init.h"

#include "core/kernels/random/fill.h"
#include "core/launch.h"
#include "nn/context.h"

namespace moxie::nn {
namespace {

template <class Kernel> Array draw(const Shape& shape, double scale, uint64_t seed, uint32_t stream) {
  const Array array = Array::empty(shape);
  const RandomKey key{.seed = seed, .stream = stream << 4 | static_cast<uint32_t>(Purpose::initialize), .step = 0};
  const Kernel kernel{array.data<float>(), array.numel(), static_cast<float>(scale), key};
  for_rows(array.device(), kernel, elementwise_rows(array.numel()), elementwise_row);
  return array;
}

}  // namespace

Array Initializer::normal(const Shape& shape, double standard_deviation) {
  check(standard_deviation >= 0, "Initializer: the standard deviation must not be negative, got {}",
        standard_deviation);
  return draw<FillNormal>(shape, standard_deviation, seed_, stream_++);
}

Array Initializer::uniform(const Shape& shape, double bound) {
  check(bound >= 0, "Initializer: the bound must not be negative, got {}", bound);
  return draw<FillUniform>(shape, bound, seed_, stream_++);
}

}  // namespace moxie::nn
