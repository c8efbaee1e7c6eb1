// SPDX-License-Identifier: Apache-2.0
#include "nn/layers.h"

namespace moxie::nn {
std::vector<int64_t> stacked_rows(Activation activation, int64_t hidden) {
  const int64_t matrices = projection_width(activation, 1);
  return std::vector<int64_t>(matrices > 1 ? static_cast<size_t>(matrices) : 0, hidden);
}

Linear::Linear(int64_t in, int64_t out, Initializer& init, const LinearOptions& options) {
  check(in >= 1 && out >= 1, "Linear: in and out must be positive, got {} and {}", in, out);
  weight = Parameter(init.draw(options.initial, {out, in}, {.gain = options.gain}), {.stacked = options.stacked});
  if (options.bias) bias = Parameter(init.constant({out}, 0), {.decay = false});
}

Linear::Linear(int64_t in, int64_t out, Initializer& init, bool with_bias, double gain)
    : Linear(in, out, init, {.bias = with_bias, .gain = gain}) {}

Tensor Linear::operator()(const Tensor& x, const Context& context) const {
  return linear(x, weight.as(context.dtype), bias ? bias->as(context.dtype) : Tensor());
}

Embedding::Embedding(int64_t vocabulary, int64_t width, Initializer& init, double standard_deviation) {
  check(vocabulary >= 1 && width >= 1, "Embedding: vocabulary and width must be positive, got {} and {}", vocabulary,
        width);
  weight = Parameter(init.normal({vocabulary, width}, standard_deviation), {.decay = false, .table = true});
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

NormedSum RmsNorm::operator()(const Tensor& x, Tensor branch, const Context& context) const {
  return add_rms_norm(x, std::move(branch), weight.as(statistics_dtype(context.dtype)), epsilon);
}

LayerNorm::LayerNorm(int64_t width, double eps, bool with_bias) : epsilon(eps) {
  check(width >= 1, "LayerNorm: width must be positive, got {}", width);
  weight = Parameter(Array::full({width}, 1.0), {.decay = false});
  if (with_bias) bias = Parameter(Array::zeros({width}), {.decay = false});
}

Tensor LayerNorm::operator()(const Tensor& x, const Context& context) const {
  const Dtype dtype = statistics_dtype(context.dtype);
  return layer_norm(x, weight.as(dtype), bias ? bias->as(dtype) : Tensor(), epsilon);
}

Dropout::Dropout(double probability, Purpose stream) : p(probability), purpose(stream) {
  check(p >= 0 && p < 1, "Dropout: p must be in [0, 1), got {}", p);
}

Tensor Dropout::operator()(const Tensor& x, const Context& context) const {
  return context.training && p > 0 ? dropout(x, p, context.key(purpose)) : x;
}

FeedForward::FeedForward(int64_t width, int64_t hidden, Activation kind, Initializer& init, double output_gain)
    : activation(kind),
      up(width, projection_width(kind, hidden), init, {.stacked = stacked_rows(kind, hidden)}),
      down(hidden, width, init, false, output_gain) {}

Tensor FeedForward::operator()(const Tensor& x, const Context& context) const {
  return down(activate(up(x, context), activation), context);
}

}  // namespace moxie::nn
