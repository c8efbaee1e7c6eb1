// SPDX-License-Identifier: Apache-2.0
// broadcast_to and tile
#include "autograd/ops/common.h"
#include "autograd/ops/reduce/sum_to.h"
#include "autograd/ops/shape.h"
#include "autograd/ops/shape/strided.h"
#include "core/reduce.h"

namespace moxie {

Tensor broadcast_to(const Tensor& x, const Shape& shape) {
  const OpRange range("broadcast_to");
  const Shape& from = x.shape();
  const int64_t extra = shape.rank() - from.rank();
  bool fits = extra >= 0;
  std::vector<int64_t> strides(static_cast<size_t>(std::max<int64_t>(0, extra)), 0);
  for (int64_t i = 0; fits && i < from.rank(); ++i) {
    fits = from[i] == shape[extra + i] || from[i] == 1;
    strides.push_back(from[i] == 1 ? 0 : from.product(i + 1, from.rank()));
  }
  check(fits, "broadcast_to: {} doesn't broadcast to {}; from the last dimension on, sizes must be equal or 1", from,
        shape);
  if (from == shape) return reshape(x, shape);
  return record("broadcast_to", strided_copy(x.value(), shape, strides), {x},
                [from](std::span<const Array> dy, Grads& grads) { grads.give(0, sum_to(dy[0], from)); });
}

Tensor tile(const Tensor& x, std::span<const int64_t> times) {
  const OpRange range("tile");
  const Shape from = x.shape();
  check(static_cast<int64_t>(times.size()) == from.rank(), "tile: needs one count per dimension, got {} for shape {}",
        times.size(), from);
  const std::vector<int64_t> counts(times.begin(), times.end()), x_strides = strides_of(from);
  std::vector<int64_t> result, sizes, strides;
  for (int64_t i = 0; i < from.rank(); ++i) {
    const int64_t count = counts[static_cast<size_t>(i)];
    check(count >= 0, "tile: counts must not be negative, got {} for dimension {} of {}", count, i, from);
    result.push_back(count * from[i]);
    sizes.insert(sizes.end(), {count, from[i]});
    strides.insert(strides.end(), {0, x_strides[static_cast<size_t>(i)]});
  }
  const Shape shape{std::span<const int64_t>(result)};
  return record("tile", strided_copy(x.value(), sizes, strides, 0).reshape(shape), {x},
                [from, counts](std::span<const Array> dy, Grads& grads) {
                  Array dx = dy[0];
                  int64_t outer = 1;  // copies of the dimensions before this one are summed already
                  for (int64_t i = 0; i < from.rank(); ++i) {
                    const int64_t count = counts[static_cast<size_t>(i)];
                    int64_t inner = from[i];
                    for (int64_t k = i + 1; k < from.rank(); ++k) inner *= counts[static_cast<size_t>(k)] * from[k];
                    if (count != 1) dx = reduce_sum(dx, outer, count, inner);
                    outer *= from[i];
                  }
                  grads.give(0, dx.reshape(from));
                });
}

Tensor tile(const Tensor& x, std::initializer_list<int64_t> times) {
  return tile(x, std::span<const int64_t>(times.begin(), times.size()));
}

}  // namespace moxie
