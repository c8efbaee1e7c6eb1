// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops/common.h"
#include "autograd/ops/matmul.h"
#include "core/gemm.h"

namespace moxie {
namespace {

void check_offsets(const Array& offsets, int64_t groups, int64_t rows) {
  check(offsets.dtype() == Dtype::i32 && offsets.shape() == Shape({groups + 1}),
        "grouped_matmul: offsets must be i32 [groups + 1 = {}], got {} {}", groups + 1, name_of(offsets.dtype()),
        offsets.shape());
  if (!offsets.device().is_cpu()) return;
  const int32_t* at = offsets.data<int32_t>();
  check(at[0] == 0 && at[groups] == rows,
        "grouped_matmul: offsets must run from 0 to the number of rows {}, got {} to {}", rows, at[0], at[groups]);
  for (int64_t i = 0; i < groups; ++i)
    check(at[i] <= at[i + 1], "grouped_matmul: offsets must not fall, got {} then {} at group {}", at[i], at[i + 1], i);
}

}  // namespace

Tensor grouped_matmul(const Tensor& x, const Tensor& weight, const Array& offsets) {
  const OpRange range("grouped_matmul");
  check_same_kind("grouped_matmul", x.value(), "x", weight.value(), "weight");
  check(is_float(x.dtype()), "grouped_matmul: needs a float dtype (f64, f32 or bf16), got {}", name_of(x.dtype()));
  check(x.shape().rank() == 2 && weight.shape().rank() == 3 && x.dim(1) == weight.dim(2),
        "grouped_matmul: x must be [rows, in] and weight [groups, out, in], got x {} and weight {}", x.shape(),
        weight.shape());
  const int64_t groups = weight.dim(0), out = weight.dim(1), in = weight.dim(2), rows = x.dim(0);
  check_offsets(offsets, groups, rows);
  const Array y = Array::empty({rows, out}, x.options());
  const int32_t* at = offsets.data<int32_t>();
  grouped_gemm(x.device(), {.dtype = x.dtype(),
                            .out_dtype = x.dtype(),
                            .transpose_b = true,
                            .groups = groups,
                            .n = out,
                            .k = in,
                            .offsets = at,
                            .a = x.value().raw(),
                            .lda = in,
                            .b = weight.value().raw(),
                            .ldb = in,
                            .stride_b = out * in,
                            .c = y.raw(),
                            .ldc = out});
  return record("grouped_matmul", y, {x, weight},
                [x = x.value(), w = weight.value(), offsets, groups, out, in](std::span<const Array> dy, Grads& grads) {
                  const int32_t* starts = offsets.data<int32_t>();
                  if (grads.needs(0)) {  // dx = dy W_g for the rows of group g
                    const Grads::Target dx = grads.into(0);
                    grouped_gemm(x.device(), {.dtype = x.dtype(),
                                              .out_dtype = x.dtype(),
                                              .transpose_b = false,
                                              .accumulate = dx.accumulate,
                                              .groups = groups,
                                              .n = in,
                                              .k = out,
                                              .offsets = starts,
                                              .a = dy[0].raw(),
                                              .lda = out,
                                              .b = w.raw(),
                                              .ldb = in,
                                              .stride_b = out * in,
                                              .c = dx.array.raw(),
                                              .ldc = in});
                  }
                  if (grads.needs(1)) {  // dW_g = dy^T x over the rows of group g
                    const Grads::Target dw = grads.into_wide(1);
                    grouped_gemm_weight(x.device(), {.dtype = x.dtype(),
                                                     .out_dtype = dw.array.dtype(),
                                                     .accumulate = dw.accumulate,
                                                     .groups = groups,
                                                     .m = out,
                                                     .n = in,
                                                     .offsets = starts,
                                                     .a = dy[0].raw(),
                                                     .lda = out,
                                                     .b = x.raw(),
                                                     .ldb = in,
                                                     .c = dw.array.raw(),
                                                     .ldc = in,
                                                     .stride_c = out * in});
                  }
                });
}

}  // namespace moxie
