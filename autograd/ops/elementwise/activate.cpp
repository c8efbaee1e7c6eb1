// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/activate.h"

#include "autograd/ops/activation.h"
#include "autograd/ops/common.h"

namespace moxie {
namespace {

Tensor swiglu(const Tensor& x) {
  const OpRange range("swiglu");
  check(x.shape().rank() >= 1 && x.dim(-1) % 2 == 0,
        "activate: swiglu needs gate and up halves of equal width, got shape {}", x.shape());
  const int64_t hidden = x.dim(-1) / 2, rows = x.shape().rows();
  const Array y = Array::empty(x.shape().with(-1, hidden), x.options());
  dispatch_float("activate", x.dtype(), [&]<class T>(T) {
    for_rows(x.device(), SwiGlu<T>{x.value().data<T>(), y.data<T>(), hidden}, rows, hidden);
  });
  return record("swiglu", y, {x}, [x = x.value(), hidden, rows](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    dispatch_float("backward", x.dtype(), [&]<class T>(T) {
      const SwiGluBackward<T> kernel{x.data<T>(), dy[0].data<T>(), dx.data<T>(), hidden, dx.accumulate};
      for_rows(x.device(), kernel, rows, hidden);
    });
  });
}

}  // namespace

const char* name_of(Activation activation) {
  switch (activation) {
    case Activation::swiglu: return "swiglu";
    case Activation::gelu: return "gelu";
    case Activation::relu: return "relu";
  }
  return "?";
}

Activation activation_from_name(std::string_view name) {
  for (const Activation activation : {Activation::swiglu, Activation::gelu, Activation::relu})
    if (name == name_of(activation)) return activation;
  throw_invalid_argument(fmt::format("activation: must be swiglu, gelu or relu, got '{}'", name));
}

int64_t projection_width(Activation activation, int64_t hidden) {
  return activation == Activation::swiglu ? 2 * hidden : hidden;
}

Tensor activate(const Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::gelu: return gelu(x);
    case Activation::relu: return relu(x);
    default: return swiglu(x);
  }
}

}  // namespace moxie
