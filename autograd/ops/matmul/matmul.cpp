// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "autograd/ops/common.h"
#include "autograd/ops/matmul.h"
#include "core/gemm.h"

namespace moxie {
namespace {

// One matrix operand: [batch, rows, cols] as stored, batch 1 and stride 0 where it is shared.
struct Matrix {
  Array array;
  int64_t batch = 1;
  bool transposed = false;
  int64_t rows() const { return array.shape()[-2]; }
  int64_t cols() const { return array.shape()[-1]; }
  int64_t stride() const { return batch == 1 ? 0 : rows() * cols(); }
};

// c (+)= op(a) op(b); with `reduce` the products of all batch members add up in one c.
void product(const Matrix& a, const Matrix& b, const Array& c, bool accumulate, bool reduce = false) {
  const int64_t batch = a.batch == 1 ? b.batch : a.batch;
  Gemm gemm{.dtype = a.array.dtype(), .out_dtype = c.dtype(), .transpose_a = a.transposed, .transpose_b = b.transposed};
  gemm.m = c.shape()[-2], gemm.n = c.shape()[-1], gemm.k = a.transposed ? a.rows() : a.cols();
  gemm.a = a.array.raw(), gemm.lda = a.cols(), gemm.stride_a = a.stride();
  gemm.b = b.array.raw(), gemm.ldb = b.cols(), gemm.stride_b = b.stride();
  gemm.c = c.raw(), gemm.ldc = gemm.n, gemm.stride_c = gemm.m * gemm.n;
  gemm.accumulate = accumulate;
  if (!reduce || batch == 1) {
    gemm.batch = batch;
    return moxie::gemm(c.device(), gemm);
  }
  if (c.dtype() == Dtype::bf16) {  // add up in f32, round once
    const Array wide = accumulate ? c.to(Dtype::f32) : Array::empty(c.shape(), {Dtype::f32, c.device()});
    product(a, b, wide, accumulate, true);
    return c.copy_from(wide.to(Dtype::bf16));
  }
  const auto bytes = size_of(a.array.dtype());
  for (int64_t i = 0; i < batch; ++i) {
    gemm.a = a.array.raw() + i * a.stride() * bytes;
    gemm.b = b.array.raw() + i * b.stride() * bytes;
    gemm.accumulate = accumulate || i > 0;
    moxie::gemm(c.device(), gemm);
  }
  if (batch == 0 && !accumulate) c.fill(0);
}

Matrix transposed(Matrix matrix) {
  matrix.transposed = !matrix.transposed;
  return matrix;
}

int64_t leading(const Shape& shape) { return shape.product(0, shape.rank() - 2); }

}  // namespace

Tensor matmul(const Tensor& x, const Tensor& y, MatmulOptions options) {
  const OpRange range("matmul");
  check_same_kind("matmul", x.value(), "x", y.value(), "y");
  const Shape &a = x.shape(), &b = y.shape();
  check(is_float(x.dtype()), "matmul: needs a float dtype (f64, f32 or bf16), got {}", name_of(x.dtype()));
  check(a.rank() >= 2 && b.rank() >= 2, "matmul: operands must be matrices or batches of them, got x {} and y {}", a,
        b);
  const int64_t m = options.transpose_x ? a[-1] : a[-2], k = options.transpose_x ? a[-2] : a[-1];
  const int64_t n = options.transpose_y ? b[-2] : b[-1], k_of_y = options.transpose_y ? b[-1] : b[-2];
  check(k == k_of_y, "matmul: inner dimensions differ, x {}{} and y {}{} ({} and {})", a,
        options.transpose_x ? " transposed" : "", b, options.transpose_y ? " transposed" : "", k, k_of_y);
  const bool shared = b.rank() == 2;
  check(shared || (a.rank() == b.rank() && std::equal(a.begin(), a.end() - 2, b.begin())),
        "matmul: leading dimensions differ, x {} and y {}; y may also be a single matrix", a, b);
  const Array z = Array::empty(a.with(-2, m).with(-1, n), x.options());
  Matrix left{x.value(), leading(a), options.transpose_x}, right{y.value(), leading(b), options.transpose_y};
  Array result = z;
  if (shared && !options.transpose_x) {  // the leading dimensions are more rows
    left = {x.value().reshape({leading(a) * m, k}), 1, false};
    result = z.reshape({leading(a) * m, n});
  }
  product(left, right, result, false);
  return record("matmul", z, {x, y}, [left, right, shape = result.shape()](std::span<const Array> dz, Grads& grads) {
    const Matrix upstream{dz[0].reshape(shape), left.batch, false};
    if (grads.needs(0)) {  // z = op(x) op(y): d op(x) = dz op(y)^T
      const Grads::Target dx = grads.into_wide(0);
      const Array into = dx.array.reshape(left.array.shape());
      if (left.transposed)
        product(right, transposed(upstream), into, dx.accumulate);
      else
        product(upstream, transposed(right), into, dx.accumulate);
    }
    if (grads.needs(1)) {  // d op(y) = op(x)^T dz, summed over the batch where y is shared
      const Grads::Target dy = grads.into_wide(1);
      const bool reduce = right.array.shape().rank() == 2;
      if (right.transposed)
        product(transposed(upstream), left, dy.array, dy.accumulate, reduce);
      else
        product(transposed(left), upstream, dy.array, dy.accumulate, reduce);
    }
  });
}

}  // namespace moxie
