// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/compare.h"

#include "autograd/ops/common.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/elementwise/broadcast.h"

namespace moxie {
namespace {

template <class Op, class T> void launch_compare(const Array& x, const Array& y, const Array& z) {
  const BroadcastPlan<2> plan = plan_broadcast(std::array{x.shape(), y.shape()}, z.shape());
  const Compare<Op, T> kernel{x.data<T>(), y.data<T>(), z.data<uint8_t>(), plan};
  for_rows(z.device(), kernel, plan.rows(), plan.row_size());
}

template <class Op> Array compare(const char* op, const Tensor& x, const Tensor& y) {
  check_same_kind(op, x.value(), "x", y.value(), "y");
  const Array z = Array::empty(broadcast_shape(op, x.shape(), "x", y.shape(), "y"), {Dtype::u8, x.device()});
  if (z.numel() > 0) dispatch(x.dtype(), [&]<class T>(T) { launch_compare<Op, T>(x.value(), y.value(), z); });
  return z;
}

// Integers and a number that may be none meet in f64, which holds both.
Tensor comparable(const Tensor& x) { return is_float(x.dtype()) ? x : Tensor(x.value().to(Dtype::f64)); }

template <class Op> Array compare(const char* op, const Tensor& x, double y) {
  const Tensor numbers = comparable(x);
  return compare<Op>(op, numbers, Tensor::scalar(y, numbers.options()));
}

template <class Op> Array logical(const char* op, const Array& x, const Array& y) {
  check(x.dtype() == Dtype::u8 && y.dtype() == Dtype::u8, "{}: needs u8 arrays, got {} and {}", op, name_of(x.dtype()),
        name_of(y.dtype()));
  check_same_kind(op, x, "x", y, "y");
  const Array z = Array::empty(broadcast_shape(op, x.shape(), "x", y.shape(), "y"), {Dtype::u8, x.device()});
  if (z.numel() > 0) launch_compare<Op, uint8_t>(x, y, z);
  return z;
}

}  // namespace

Array equal(const Tensor& x, const Tensor& y) { return compare<Equal>("equal", x, y); }
Array equal(const Tensor& x, double y) { return compare<Equal>("equal", x, y); }
Array not_equal(const Tensor& x, const Tensor& y) { return compare<NotEqual>("not_equal", x, y); }
Array not_equal(const Tensor& x, double y) { return compare<NotEqual>("not_equal", x, y); }
Array less(const Tensor& x, const Tensor& y) { return compare<Less>("less", x, y); }
Array less(const Tensor& x, double y) { return compare<Less>("less", x, y); }
Array less_equal(const Tensor& x, const Tensor& y) { return compare<LessEqual>("less_equal", x, y); }
Array less_equal(const Tensor& x, double y) { return compare<LessEqual>("less_equal", x, y); }
Array greater(const Tensor& x, const Tensor& y) { return compare<Greater>("greater", x, y); }
Array greater(const Tensor& x, double y) { return compare<Greater>("greater", x, y); }
Array greater_equal(const Tensor& x, const Tensor& y) { return compare<GreaterEqual>("greater_equal", x, y); }
Array greater_equal(const Tensor& x, double y) { return compare<GreaterEqual>("greater_equal", x, y); }

Array logical_and(const Array& x, const Array& y) { return logical<LogicalAnd>("logical_and", x, y); }
Array logical_or(const Array& x, const Array& y) { return logical<LogicalOr>("logical_or", x, y); }
Array logical_xor(const Array& x, const Array& y) { return logical<LogicalXor>("logical_xor", x, y); }
Array logical_not(const Array& x) {
  check(x.dtype() == Dtype::u8, "logical_not: needs a u8 array, got {}", name_of(x.dtype()));
  return compare<Equal>("logical_not", Tensor(x), Tensor(Array::zeros({}, x.options())));
}

}  // namespace moxie
