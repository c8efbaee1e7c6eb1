// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/random/dropout.h"

#include "autograd/ops/common.h"
#include "autograd/ops/random.h"

namespace moxie {

Tensor dropout(const Tensor& x, double p, RandomKey key) {
  const OpRange range("dropout");
  check(p >= 0 && p < 1, "dropout: p must be in [0, 1), got {}", p);
  if (p == 0) return x;
  const DropoutThreshold threshold(p);
  const auto launch = [=](const Array& from, const Array& into, bool accumulate) {
    dispatch_float("dropout", from.dtype(), [&]<class T>(T) {
      const auto scale = static_cast<Accumulator<T>>(threshold.scale());
      const Dropout<T> kernel{from.data<T>(), into.data<T>(), from.numel(), threshold.bits, scale, key, accumulate};
      for_elements(from.device(), kernel, from.numel());
    });
  };
  const Array y = Array::empty(x.shape(), x.options());
  launch(x.value(), y, false);
  return record("dropout", y, {x}, [launch](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    launch(dy[0], dx.array, dx.accumulate);
  });
}

}  // namespace moxie
