// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/where.h"

#include "autograd/ops/common.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/elementwise/broadcast.h"
#include "autograd/ops/reduce/sum_to.h"

namespace moxie {
namespace {

void check_mask(const char* op, const char* name, const Array& mask, const Array& x) {
  check(mask.dtype() == Dtype::u8, "{}: {} must be u8, got {}; comparisons such as less() make one", op, name,
        name_of(mask.dtype()));
  check(mask.device() == x.device(), "{}: {} is on {} and x on {}; move one with .to(device)", op, name,
        mask.device().name(), x.device().name());
}

// y (+)= value where the mask is `filled`, elsewhere x
void fill_masked(const Array& x, const Array& mask, double value, bool filled, const Array& y, bool accumulate) {
  if (y.numel() == 0) return;
  const BroadcastPlan<1> plan = plan_broadcast(std::array{mask.shape()}, y.shape());
  dispatch_float("masked_fill", x.dtype(), [&]<class T>(T) {
    const MaskedFill<T> kernel{
        x.data<T>(), mask.data<uint8_t>(), y.data<T>(), static_cast<Accumulator<T>>(value), filled, plan, accumulate};
    for_rows(y.device(), kernel, plan.rows(), plan.row_size());
  });
}

// Gradient of the operand that `where` takes where the condition is not `filled`.
void choice_gradient(Grads& grads, size_t i, const Array& condition, const Array& dz, bool filled, const Shape& shape) {
  if (!grads.needs(i)) return;
  if (shape == dz.shape()) {
    const Grads::Target target = grads.into(i);
    return fill_masked(dz, condition, 0, filled, target.array, target.accumulate);
  }
  const Array full = Array::empty(dz.shape(), dz.options());
  fill_masked(dz, condition, 0, filled, full, false);
  grads.give(i, sum_to(full, shape));
}

}  // namespace

Tensor where(const Array& condition, const Tensor& x, const Tensor& y) {
  const OpRange range("where");
  check_mask("where", "condition", condition, x.value());
  check_same_kind("where", x.value(), "x", y.value(), "y");
  const Shape values = broadcast_shape("where", x.shape(), "x", y.shape(), "y");
  const Shape shape = broadcast_shape("where", condition.shape(), "condition", values, "values");
  const Array z = Array::empty(shape, x.options());
  if (z.numel() > 0) {
    const BroadcastPlan<3> plan = plan_broadcast(std::array{condition.shape(), x.shape(), y.shape()}, shape);
    dispatch(x.dtype(), [&]<class T>(T) {
      const Where<T> kernel{condition.data<uint8_t>(), x.value().data<T>(), y.value().data<T>(), z.data<T>(), plan};
      for_rows(z.device(), kernel, plan.rows(), plan.row_size());
    });
  }
  return record("where", z, {x, y}, [condition, x = x.shape(), y = y.shape()](std::span<const Array> dz, Grads& grads) {
    choice_gradient(grads, 0, condition, dz[0], false, x);
    choice_gradient(grads, 1, condition, dz[0], true, y);
  });
}

Tensor masked_fill(const Tensor& x, const Array& mask, double value) {
  const OpRange range("masked_fill");
  check_mask("masked_fill", "mask", mask, x.value());
  check(is_float(x.dtype()), "masked_fill: needs a float dtype (f64, f32 or bf16), got {}", name_of(x.dtype()));
  check(broadcast_shape("masked_fill", x.shape(), "x", mask.shape(), "mask") == x.shape(),
        "masked_fill: the mask must broadcast to x, got x {} and mask {}", x.shape(), mask.shape());
  const Array y = Array::empty(x.shape(), x.options());
  fill_masked(x.value(), mask, value, true, y, false);
  return record("masked_fill", y, {x}, [mask](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    fill_masked(dy[0], mask, 0, true, dx.array, dx.accumulate);
  });
}

}  // namespace moxie
