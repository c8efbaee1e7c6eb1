// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops/common.h"
#include "autograd/ops/matmul.h"
#include "core/gemm.h"
#include "core/reduce.h"

namespace moxie {

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const OpRange range("linear");
  check_same_kind("linear", x.value(), "x", weight.value(), "weight");
  check(is_float(x.dtype()), "linear: needs a float dtype (f64, f32 or bf16), got {}", name_of(x.dtype()));
  check(weight.shape().rank() == 2, "linear: weight must be [out, in], got {}", weight.shape());
  const int64_t in = weight.dim(1), out = weight.dim(0);
  check(x.shape().rank() >= 1 && x.dim(-1) == in, "linear: x {} doesn't fit weight {} ([out, in], in = {})", x.shape(),
        weight.shape(), in);
  if (bias.defined()) {
    check_same_kind("linear", x.value(), "x", bias.value(), "bias");
    check(bias.shape() == Shape({out}), "linear: bias must be [{}], got {}", out, bias.shape());
  }
  const int64_t rows = x.shape().rows();
  const Array y = Array::empty(x.shape().with(-1, out), x.options());
  gemm(x.device(), {.dtype = x.dtype(),
                    .out_dtype = x.dtype(),
                    .transpose_b = true,
                    .m = rows,
                    .n = out,
                    .k = in,
                    .a = x.value().raw(),
                    .lda = in,
                    .b = weight.value().raw(),
                    .ldb = in,
                    .c = y.raw(),
                    .ldc = out,
                    .bias = bias.defined() ? bias.value().raw() : nullptr});
  return record("linear", y, {x, weight, bias},
                [x = x.value(), w = weight.value(), rows, in, out](std::span<const Array> dy, Grads& grads) {
                  if (grads.needs(0)) {  // dx = dy W
                    const Grads::Target dx = grads.into(0);
                    gemm(x.device(), {.dtype = x.dtype(),
                                      .out_dtype = x.dtype(),
                                      .accumulate = dx.accumulate,
                                      .m = rows,
                                      .n = in,
                                      .k = out,
                                      .a = dy[0].raw(),
                                      .lda = out,
                                      .b = w.raw(),
                                      .ldb = in,
                                      .c = dx.array.raw(),
                                      .ldc = in});
                  }
                  if (grads.needs(1)) {  // dW = dy^T x
                    const Grads::Target dw = grads.into_wide(1);
                    gemm(x.device(), {.dtype = x.dtype(),
                                      .out_dtype = dw.array.dtype(),
                                      .transpose_a = true,
                                      .accumulate = dw.accumulate,
                                      .m = out,
                                      .n = in,
                                      .k = rows,
                                      .a = dy[0].raw(),
                                      .lda = out,
                                      .b = x.raw(),
                                      .ldb = in,
                                      .c = dw.array.raw(),
                                      .ldc = in});
                  }
                  if (grads.needs(2)) grads.give(2, reduce_sum(dy[0], 1, rows, out).reshape({out}));
                });
}

}  // namespace moxie
