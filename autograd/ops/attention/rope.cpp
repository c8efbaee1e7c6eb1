// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/attention/rope.h"

#include "autograd/ops/attention.h"
#include "autograd/ops/attention/angles.h"
#include "autograd/ops/common.h"

namespace moxie {

RopeAngles rope_angles(int64_t time, int64_t head_dim, int64_t first_position, double base, Options options) {
  const int64_t half = head_dim / 2;
  const RopeAngles angles{Array::empty({time, half}, options), Array::empty({time, half}, options)};
  const Array frequency = Array::empty({half}, {Dtype::f64, options.device});
  for_rows(options.device, RopeFrequencies{frequency.data<double>(), base, head_dim}, 1, half);
  const auto launch = [&]<class V>(V) {
    const RopeTable<V> kernel{frequency.data<double>(), angles.cosine.data<V>(), angles.sine.data<V>(), half,
                              first_position};
    constexpr int64_t cost = 32;  // of a sine and a cosine, in simple operations
    for_rows(options.device, kernel, time, half * cost);
  };
  options.dtype == Dtype::f64 ? launch(double{}) : launch(float{});
  return angles;
}

Tensor rope(const Tensor& x, int64_t heads, int64_t first_position, double base) {
  const OpRange range("rope");
  const Shape& shape = x.shape();
  check(shape.rank() == 4, "rope: x must be [batch, time, heads, head_dim], got {}", shape);
  check(shape[3] % 2 == 0, "rope: head_dim must be even, got {} in shape {}", shape[3], shape);
  check(heads >= 0 && heads <= shape[2], "rope: heads must be between 0 and x's {}, got {}", shape[2], heads);
  check(first_position >= 0 && base > 0, "rope: first_position must not be negative and base positive, got {} and {}",
        first_position, base);
  const Options statistics{statistics_dtype(x.dtype()), x.device()};
  const RopeAngles angles = rope_angles(shape[1], shape[3], first_position, base, statistics);
  const auto launch = [angles, shape, heads](const Array& from, const Array& into, double direction, bool accumulate) {
    dispatch_float("rope", from.dtype(), [&]<class T>(T) {
      using V = Accumulator<T>;
      const Rope<T> kernel{from.data<T>(),
                           into.data<T>(),
                           angles.cosine.data<V>(),
                           angles.sine.data<V>(),
                           shape[1],
                           shape[2],
                           heads,
                           shape[3],
                           V(direction),
                           accumulate};
      for_rows(from.device(), kernel, shape[0] * shape[1], shape[2] * shape[3]);
    });
  };
  const Array y = Array::empty(shape, x.options());
  launch(x.value(), y, 1, false);
  return record("rope", y, {x}, [launch](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    launch(dy[0], dx.array, -1, dx.accumulate);
  });
}

}  // namespace moxie
