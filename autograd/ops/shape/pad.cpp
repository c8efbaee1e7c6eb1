// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/shape/pad.h"

#include "autograd/ops/common.h"
#include "autograd/ops/shape.h"
#include "autograd/ops/shape/strided.h"

namespace moxie {

Tensor pad(const Tensor& x, std::span<const PadWidth> widths, double value) {
  const OpRange range("pad");
  const Shape from = x.shape();
  check(static_cast<int64_t>(widths.size()) == from.rank(), "pad: needs one width per dimension, got {} for shape {}",
        widths.size(), from);
  std::vector<int64_t> sizes;
  int64_t first = 0;  // where x begins in y, in elements
  for (int64_t i = 0; i < from.rank(); ++i) {
    const PadWidth& width = widths[static_cast<size_t>(i)];
    check(width.before >= 0 && width.after >= 0,
          "pad: widths must not be negative, got {} and {} for dimension {} of {}; slice cuts off", width.before,
          width.after, i, from);
    sizes.push_back(width.before + from[i] + width.after);
  }
  const Shape shape{std::span<const int64_t>(sizes)};
  if (from == shape) return reshape(x, shape);
  const std::vector<int64_t> strides = strides_of(shape);
  for (size_t i = 0; i < widths.size(); ++i) first += widths[i].before * strides[i];
  const Array y = Array::empty(shape, x.options());
  dispatch(x.dtype(), [&]<class T>(T) {
    Pad<T> kernel{x.value().data<T>(),
                  y.data<T>(),
                  static_cast<T>(static_cast<Accumulator<T>>(value)),
                  static_cast<int>(shape.rank()),
                  {},
                  {},
                  {}};
    std::copy(from.begin(), from.end(), kernel.x_size);
    std::copy(shape.begin(), shape.end(), kernel.y_size);
    for (size_t i = 0; i < widths.size(); ++i) kernel.before[i] = widths[i].before;
    if (y.numel() > 0) for_rows(y.device(), kernel, shape.rows(), shape.cols());
  });
  return record("pad", y, {x}, [from, strides, first](std::span<const Array> dy, Grads& grads) {
    grads.give(0, strided_copy(dy[0], from, strides, first));
  });
}

Tensor pad(const Tensor& x, std::initializer_list<PadWidth> widths, double value) {
  return pad(x, std::span<const PadWidth>(widths.begin(), widths.size()), value);
}

}  // namespace moxie
