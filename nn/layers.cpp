// SPDX-License-Identifier: Apache-2.0
#include "nn/layers.h"

#include <cmath>

namespace moxie::nn {
namespace {

double fan_in_deviation(int64_t in, double gain) { return gain / std::sqrt(static_cast<double>(in)); }

}  // namespace

Linear::Linear(int64_t in, int64_t out, Initializer& init, bool with_bias, double gain) {
  check(in >= 1 && out >= 1, "Linear: in and out must be positive, got {} and {}", in, out);
  weight = Parameter(init.normal({out, in}, fan_in_deviation(in, gain)));
  if (with_bias) bias = Parameter(Array::zeros({out}), {.decay = false});
}

Tensor Linear::operator()(const Tensor& x, const Context& context) const {
  return linear(x, weight.as(context.dtype), bias ? bias->as(context.dtype) : Tensor());
}

Embedding::Embedding(int64_t vocabulary, int64_t width, Initializer& init, double standard_deviation) {
  check(vocabulary >= 1 && width >= 1, "Embedding: vocabulary and width must be positive, got {} and {}", vocabulary,
        width);
  weight = Parameter(init.normal({vocabulary, width}, standard_deviation), {.decay = false});
}

Tensor Embedding::operator()(const Array& index, const Context& context) const {
  return embedding(weight.as(context.dtype), index);
}

RmsNorm::RmsNorm(int64_t width, double eps) : epsilon(eps) {
  check(width >= 1, "RmsNorm: width must be positive, got {}", width);
  weight = Parameter(Array::full({width}, 1.0), {.decay = false});
}

Tensor RmsNorm::operator()(const Tensor& x, const Context& context) const {
  return rms_norm(x, weight.as(statistics_dtype(context.dtype)), epsilon);
}

Dropout::Dropout(double probability, Purpose stream) : p(probability), purpose(stream) {
  check(p >= 0 && p < 1, "Dropout: p must be in [0, 1), got {}", p);
}

Tensor Dropout::operator()(const Tensor& x, const Context& context) const {
  return context.training && p > 0 ? dropout(x, p, context.key(purpose)) : x;
}

FeedForward::FeedForward(int64_t width, int64_t hidden, Activation kind, Initializer& init, double output_gain)
    : activation(kind),
      up(width, projection_width(kind, hidden), init),
      down(hidden, width, init, false, output_gain) {}

Tensor FeedForward::operator()(const Tensor& x, const Context& context) const {
  return down(activate(up(x, context), activation), context);
}

}  // namespace moxie::nn
