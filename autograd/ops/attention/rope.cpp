// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/attention/rope.h"

#include "autograd/ops/attention.h"
#include "autograd/ops/common.h"

namespace moxie {
namespace {

struct Table {
  Array cosine, sine;  // [time, head_dim / 2]
};

Table table_of(int64_t time, int64_t head_dim, int64_t first_position, double base, Options options) {
  const int64_t half = head_dim / 2;
  const Table table{Array::empty({time, half}, options), Array::empty({time, half}, options)};
  const Array frequency = Array::empty({half}, {Dtype::f64, options.device});
  for_rows(options.device, RopeFrequencies{frequency.data<double>(), base, head_dim}, 1, half);
  const auto launch = [&]<class V>(V) {
    const RopeTable<V> kernel{frequency.data<double>(), table.cosine.data<V>(), table.sine.data<V>(), half,
                              first_position};
    constexpr int64_t cost = 32;  // of a sine and a cosine, in simple operations
    for_rows(options.device, kernel, time, half * cost);
  };
  options.dtype == Dtype::f64 ? launch(double{}) : launch(float{});
  return table;
}

}  // namespace

// NOLINTNEXTLINE(performance-unnecessary-value-param): a tensor that is handed over ends here, with its numbers in y
Tensor rope(Tensor x, int64_t heads, int64_t first_position, double base) {
  const OpRange range("rope");
  const Shape& shape = x.shape();
  check(shape.rank() == 4, "rope: x must be [batch, time, heads, head_dim], got {}", shape);
  check(shape[3] % 2 == 0, "rope: head_dim must be even, got {} in shape {}", shape[3], shape);
  check(heads >= 0 && heads <= shape[2], "rope: heads must be between 0 and x's {}, got {}", shape[2], heads);
  check(first_position >= 0 && base > 0, "rope: first_position must not be negative and base positive, got {} and {}",
        first_position, base);
  const Options statistics{statistics_dtype(x.dtype()), x.device()};
  const Table table = table_of(shape[1], shape[3], first_position, base, statistics);
  const auto launch = [table, shape, heads](const Array& from, const Array& into, double direction, bool accumulate) {
    dispatch_float("rope", from.dtype(), [&]<class T>(T) {
      using V = Accumulator<T>;
      const Rope<T> kernel{from.data<T>(),
                           into.data<T>(),
                           table.cosine.data<V>(),
                           table.sine.data<V>(),
                           shape[1],
                           shape[2],
                           heads,
                           shape[3],
                           V(direction),
                           accumulate};
      for_rows(from.device(), kernel, shape[0] * shape[1], shape[2] * shape[3]);
    });
  };
  // in place, the heads that aren't turned are not even read
  const Array y = may_overwrite(x.value()) ? x.value() : Array::empty(shape, x.options());
  launch(x.value(), y, 1, false);
  return record("rope", y, {x}, [launch](std::span<const Array> dy, Grads& grads) {
    if (may_overwrite(dy[0])) {
      launch(dy[0], dy[0], -1, false);
      return grads.give(0, dy[0]);
    }
    const Grads::Target dx = grads.into(0);
    launch(dy[0], dx.array, -1, dx.accumulate);
  });
}

}  // namespace moxie
