// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/normalize/layer_norm.h"

#include "autograd/ops/common.h"
#include "autograd/ops/normalize.h"
#include "core/reduce.h"

namespace moxie {
namespace {

void check_parameter(const Tensor& x, const Tensor& parameter, const char* name) {
  if (!parameter.defined()) return;
  check(parameter.shape() == Shape({x.shape().cols()}), "layer_norm: {} must be [width], got x {} and {} {}", name,
        x.shape(), name, parameter.shape());
  check(parameter.device() == x.device() && parameter.dtype() == statistics_dtype(x.dtype()),
        "layer_norm: for x in {} on {} the {} must be {} there, got {} on {}", name_of(x.dtype()), x.device().name(),
        name, name_of(statistics_dtype(x.dtype())), name_of(parameter.dtype()), parameter.device().name());
}

struct Statistics {
  Array mean, rstd;  // [rows]
};

// The gradients of weight and bias, where wanted, in one go over chunks of rows.
template <class T> void give_parameters(const Array& x, const Statistics& s, const Array& dy, Grads& grads) {
  using V = Accumulator<T>;
  const int64_t rows = x.shape().rows(), cols = x.shape().cols(), chunk = lines_of_chunk(x.device()),
                chunks = (rows + chunk - 1) / chunk;
  Array partial[2];  // of the weight and of the bias
  for (size_t i = 0; i < 2; ++i)
    if (grads.needs(i + 1)) partial[i] = Array::empty({chunks, cols}, s.mean.options());
  const auto numbers = [](const Array& array) { return array.defined() ? array.data<V>() : nullptr; };
  const LayerNormParameterPartial<T> kernel{x.data<T>(),
                                            s.mean.data<V>(),
                                            s.rstd.data<V>(),
                                            dy.data<T>(),
                                            numbers(partial[0]),
                                            numbers(partial[1]),
                                            rows,
                                            cols,
                                            chunk};
  for_rows(x.device(), kernel, chunks, chunk * cols);
  for (size_t i = 0; i < 2; ++i)
    if (partial[i].defined()) grads.give(i + 1, reduce_sum(partial[i], 1, chunks, cols).reshape({cols}));
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon) {
  const OpRange range("layer_norm");
  check(x.shape().rank() >= 1, "layer_norm: needs at least one dimension, got a scalar");
  check_parameter(x, weight, "weight");
  check_parameter(x, bias, "bias");
  check(epsilon >= 0, "layer_norm: epsilon must not be negative, got {}", epsilon);
  const int64_t rows = x.shape().rows(), cols = x.dim(-1);
  const Options options{statistics_dtype(x.dtype()), x.device()};
  const Array y = Array::empty(x.shape(), x.options());
  const Statistics s{Array::empty({rows}, options), Array::empty({rows}, options)};
  dispatch_float("layer_norm", x.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const LayerNorm<T> kernel{x.value().data<T>(),
                              weight.defined() ? weight.value().data<V>() : nullptr,
                              bias.defined() ? bias.value().data<V>() : nullptr,
                              y.data<T>(),
                              s.mean.data<V>(),
                              s.rstd.data<V>(),
                              cols,
                              V(epsilon)};
    for_rows(x.device(), kernel, rows, cols);
  });
  return record("layer_norm", y, {x, weight, bias},
                [x = x.value(), w = weight.value(), s, rows, cols](std::span<const Array> dy, Grads& grads) {
                  dispatch_float("backward", x.dtype(), [&]<class T>(T) {
                    using V = Accumulator<T>;
                    if (grads.needs(1) || grads.needs(2)) give_parameters<T>(x, s, dy[0], grads);
                    if (!grads.needs(0)) return;
                    const Grads::Target dx = grads.into(0);
                    const LayerNormBackward<T> kernel{x.data<T>(),
                                                      w.defined() ? w.data<V>() : nullptr,
                                                      s.mean.data<V>(),
                                                      s.rstd.data<V>(),
                                                      dy[0].data<T>(),
                                                      dx.data<T>(),
                                                      cols,
                                                      dx.accumulate};
                    for_rows(x.device(), kernel, rows, cols);
                  });
                });
}

}  // namespace moxie
