// SPDX-License-Identifier: Apache-2.0
#include "moe/cosine_scores.h"

#include "autograd/record.h"
#include "core/gemm.h"
#include "core/launch.h"
#include "core/reduce.h"
#include "moe/dispatch.h"
#include "moe/kernels/cosine_scores.h"

namespace moxie::moe {
namespace {

Array row_norms(const Array& x) {
  const Array norms = Array::empty({x.shape()[0]}, x.options());
  dispatch_statistics(x.dtype(), [&]<class T>(T) {
    for_rows(x.device(), RowNorm<T>{x.data<T>(), norms.data<T>(), x.shape()[1]}, x.shape()[0], x.shape()[1]);
  });
  return norms;
}

void add_scaled_rows(const Array& x, const Array& factor, const Array& y) {
  dispatch_statistics(x.dtype(), [&]<class T>(T) {
    const AddScaledRows<T> kernel{x.data<T>(), factor.data<T>(), y.data<T>(), x.shape()[1]};
    for_rows(x.device(), kernel, x.shape()[0], x.shape()[1]);
  });
}

struct Saved {
  Array x, weight, z, token_norm, expert_norm;
  double tau_expert, tau_token, scale;
};

void backward(const Saved& s, const Array& dz, Grads& grads) {
  const int64_t tokens = s.z.shape()[0], experts = s.z.shape()[1], width = s.x.shape()[1];
  const Options options = s.x.options();
  const Array ddot = Array::empty(s.z.shape(), options), product = Array::empty(s.z.shape(), options);
  const Array pull = Array::empty({tokens}, options);
  dispatch_statistics(options.dtype, [&]<class T>(T) {
    const CosineScoresBackward<T> kernel{s.z.data<T>(),           dz.data<T>(),   s.token_norm.data<T>(),
                                         s.expert_norm.data<T>(), ddot.data<T>(), product.data<T>(),
                                         pull.data<T>(),          experts,        T(s.tau_expert),
                                         T(s.tau_token),          T(s.scale)};
    for_rows(options.device, kernel, tokens, experts);
  });
  if (grads.needs(0)) {  // dx = ddot R + (d|x| / |x|) x
    const Grads::Target dx = grads.into(0);
    gemm(options.device, {.dtype = options.dtype,
                          .out_dtype = options.dtype,
                          .accumulate = dx.accumulate,
                          .m = tokens,
                          .n = width,
                          .k = experts,
                          .a = ddot.raw(),
                          .lda = experts,
                          .b = s.weight.raw(),
                          .ldb = width,
                          .c = dx.array.raw(),
                          .ldc = width});
    add_scaled_rows(s.x, pull, dx.array);
  }
  if (grads.needs(1)) {  // dR = ddot^T x + (d|r| / |r|) r
    const Grads::Target dweight = grads.into(1);
    gemm(options.device, {.dtype = options.dtype,
                          .out_dtype = options.dtype,
                          .transpose_a = true,
                          .accumulate = dweight.accumulate,
                          .m = experts,
                          .n = width,
                          .k = tokens,
                          .a = ddot.raw(),
                          .lda = experts,
                          .b = s.x.raw(),
                          .ldb = width,
                          .c = dweight.array.raw(),
                          .ldc = width});
    const Array sums = reduce_sum(product, 1, tokens, experts), expert_pull = Array::empty({experts}, options);
    dispatch_statistics(options.dtype, [&]<class T>(T) {
      const ExpertPull<T> kernel{sums.data<T>(), s.expert_norm.data<T>(), expert_pull.data<T>(), experts,
                                 T(s.tau_expert)};
      for_rows(options.device, kernel, 1, experts);
    });
    add_scaled_rows(s.weight, expert_pull, dweight.array);
  }
}

}  // namespace

Tensor cosine_scores(const Tensor& x, const Tensor& weight, double tau_expert, double tau_token, double scale) {
  const OpRange range("cosine_scores");
  check(x.shape().rank() == 2 && weight.shape().rank() == 2 && x.dim(1) == weight.dim(1),
        "cosine_scores: x must be [tokens, width] and weight [experts, width], got {} and {}", x.shape(),
        weight.shape());
  check(
      x.options() == weight.options() && (x.dtype() == Dtype::f32 || x.dtype() == Dtype::f64),
      "cosine_scores: x and weight must both be f32 or both f64 on one device, got {} on {} and {} on {}; cast x first",
      name_of(x.dtype()), x.device().name(), name_of(weight.dtype()), weight.device().name());
  check(tau_expert >= 0 && tau_token >= 0,
        "cosine_scores: tau must not be negative, got tau_expert = {}, tau_token = {}", tau_expert, tau_token);
  const int64_t tokens = x.dim(0), experts = weight.dim(0), width = x.dim(1);
  const Saved saved{x.value(),
                    weight.value(),
                    Array::empty({tokens, experts}, x.options()),
                    row_norms(x.value()),
                    row_norms(weight.value()),
                    tau_expert,
                    tau_token,
                    scale};
  gemm(x.device(), {.dtype = x.dtype(),
                    .out_dtype = x.dtype(),
                    .transpose_b = true,
                    .m = tokens,
                    .n = experts,
                    .k = width,
                    .a = saved.x.raw(),
                    .lda = width,
                    .b = saved.weight.raw(),
                    .ldb = width,
                    .c = saved.z.raw(),
                    .ldc = experts});
  dispatch_statistics(x.dtype(), [&]<class T>(T) {
    const CosineScores<T> kernel{saved.z.data<T>(),
                                 saved.token_norm.data<T>(),
                                 saved.expert_norm.data<T>(),
                                 experts,
                                 T(tau_expert),
                                 T(tau_token),
                                 T(scale)};
    for_rows(x.device(), kernel, tokens, experts);
  });
  return record("cosine_scores", saved.z, {x, weight},
                [saved](std::span<const Array> dz, Grads& grads) { backward(saved, dz[0], grads); });
}

}  // namespace moxie::moe
