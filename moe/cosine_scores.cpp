// SPDX-License-Identifier: Apache-2.0
#include "moe/cosine_scores.h"

#include "autograd/ops/common.h"
#include "core/gemm.h"
#include "core/reduce.h"
#include "moe/dispatch.h"
#include "moe/kernels/cosine_scores.h"

namespace moxie::moe {
namespace {

// What the gradients need: the norms of x's rows and then of weight's, and the scores.
struct Saved {
  Array x, weight, z, norms;
  CosineOptions options;
  int64_t tokens() const { return z.shape()[0]; }
  int64_t experts() const { return z.shape()[1]; }
  template <class T> T* token_norms() const { return norms.data<T>(); }
  template <class T> T* expert_norms() const { return norms.data<T>() + tokens(); }
};

// The norms, and in z the dot products.
Saved dot_products(const char* op, const Tensor& x, const Tensor& weight, const CosineOptions& options) {
  check(x.shape().rank() == 2 && weight.shape().rank() == 2 && x.dim(1) == weight.dim(1),
        "{}: x must be [tokens, width] and weight [experts, width], got {} and {}", op, x.shape(), weight.shape());
  check(x.options() == weight.options() && (x.dtype() == Dtype::f32 || x.dtype() == Dtype::f64),
        "{}: x and weight must both be f32 or both f64 on one device, got {} on {} and {} on {}; cast x first", op,
        name_of(x.dtype()), x.device().name(), name_of(weight.dtype()), weight.device().name());
  check(options.tau_expert >= 0 && options.tau_token >= 0,
        "{}: tau must not be negative, got tau_expert = {}, tau_token = {}", op, options.tau_expert, options.tau_token);
  const int64_t tokens = x.dim(0), experts = weight.dim(0), width = x.dim(1);
  const Saved saved{x.value(), weight.value(), Array::empty({tokens, experts}, x.options()),
                    Array::empty({tokens + experts}, x.options()), options};
  dispatch_statistics(x.dtype(), [&]<class T>(T) {
    const RowNorms<T> kernel{saved.x.data<T>(), saved.weight.data<T>(), saved.norms.data<T>(), tokens, width};
    for_rows(x.device(), kernel, tokens + experts, width);
  });
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
  return saved;
}

template <class T> CosineScores<T> scores_kernel(const Saved& s) {
  return {s.z.data<T>(),           s.token_norms<T>(),     s.expert_norms<T>(), s.experts(),
          T(s.options.tau_expert), T(s.options.tau_token), T(s.options.scale)};
}

// What the kernel of the backward pass makes.
struct DotGradients {
  Array ddot, product, pull;
  explicit DotGradients(const Saved& s)
      : ddot(Array::empty(s.z.shape(), s.z.options())),
        product(Array::empty(s.z.shape(), s.z.options())),
        pull(Array::empty({s.tokens()}, s.z.options())) {}
};

template <class T>
CosineScoresBackward<T> backward_kernel(const Saved& s, const Array& dz, const T* dlogits, const DotGradients& into) {
  return {s.z.data<T>(),           dz.data<T>(),           dlogits,
          s.token_norms<T>(),      s.expert_norms<T>(),    into.ddot.data<T>(),
          into.product.data<T>(),  into.pull.data<T>(),    s.experts(),
          T(s.options.tau_expert), T(s.options.tau_token), T(s.options.scale)};
}

void rows_gradients(const Saved& s, const DotGradients& g, Grads& grads) {
  const int64_t tokens = s.tokens(), experts = s.experts(), width = s.x.shape()[1];
  const Options like = s.x.options();
  if (grads.needs(0)) {  // dx = ddot R + (d|x| / |x|) x
    const Grads::Target dx = grads.into(0);
    gemm(like.device, {.dtype = like.dtype,
                       .out_dtype = like.dtype,
                       .accumulate = dx.accumulate,
                       .m = tokens,
                       .n = width,
                       .k = experts,
                       .a = g.ddot.raw(),
                       .lda = experts,
                       .b = s.weight.raw(),
                       .ldb = width,
                       .c = dx.array.raw(),
                       .ldc = width});
    dispatch_statistics(like.dtype, [&]<class T>(T) {
      const AddScaledRows<T> kernel{s.x.data<T>(), g.pull.data<T>(), dx.array.data<T>(), width};
      for_rows(like.device, kernel, tokens, width);
    });
  }
  if (grads.needs(1)) {  // dR = ddot^T x + (d|r| / |r|) r
    const Grads::Target dweight = grads.into(1);
    gemm(like.device, {.dtype = like.dtype,
                       .out_dtype = like.dtype,
                       .transpose_a = true,
                       .accumulate = dweight.accumulate,
                       .m = experts,
                       .n = width,
                       .k = tokens,
                       .a = g.ddot.raw(),
                       .lda = experts,
                       .b = s.x.raw(),
                       .ldb = width,
                       .c = dweight.array.raw(),
                       .ldc = width});
    const Array sums = reduce_sum(g.product, 1, tokens, experts);
    dispatch_statistics(like.dtype, [&]<class T>(T) {
      const AddExpertRows<T> kernel{s.weight.data<T>(),      sums.data<T>(), s.expert_norms<T>(),
                                    dweight.array.data<T>(), width,          T(s.options.tau_expert)};
      for_rows(like.device, kernel, experts, width);
    });
  }
}

}  // namespace

Tensor cosine_scores(const Tensor& x, const Tensor& weight, double tau_expert, double tau_token, double scale) {
  const OpRange range("cosine_scores");
  const Saved saved = dot_products("cosine_scores", x, weight, {tau_expert, tau_token, scale});
  dispatch_statistics(
      x.dtype(), [&]<class T>(T) { for_rows(x.device(), scores_kernel<T>(saved), saved.tokens(), saved.experts()); });
  return record("cosine_scores", saved.z, {x, weight}, [saved](std::span<const Array> dz, Grads& grads) {
    const DotGradients made(saved);
    dispatch_statistics(saved.z.dtype(), [&]<class T>(T) {
      const CosineScoresBackward<T> kernel = backward_kernel<T>(saved, dz[0], nullptr, made);
      for_rows(saved.z.device(), kernel, saved.tokens(), saved.experts());
    });
    rows_gradients(saved, made, grads);
  });
}

ScoredChoice cosine_choice(const Tensor& x, const Tensor& weight, const CosineOptions& options, const Tensor& bias,
                           int64_t top_k, bool over_all) {
  const OpRange range("cosine_choice");
  const Saved saved = dot_products("cosine_choice", x, weight, options);
  detail::check_choice("cosine_choice", Tensor(saved.z), bias, top_k);
  const Array& beta = bias.value();
  const Array weights = Array::empty({saved.tokens(), top_k}, x.options());
  const Array chosen = Array::empty({saved.tokens(), top_k}, {Dtype::i32, x.device()});
  const int64_t experts = saved.experts();
  dispatch_statistics(x.dtype(), [&]<class T>(T) {
    const T* z = saved.z.data<T>();
    const CosineChoice<T> kernel{scores_kernel<T>(saved),
                                 {z, z, beta.defined() ? beta.data<T>() : nullptr, weights.data<T>(),
                                  chosen.data<int32_t>(), experts, top_k, over_all}};
    for_rows(x.device(), kernel, saved.tokens(), experts * top_k);
  });
  const auto backward = [=](std::span<const Array> dy, Grads& grads) {
    const Array dlogits = Array::empty(saved.z.shape(), saved.z.options());
    const DotGradients made(saved);
    dispatch_statistics(saved.z.dtype(), [&]<class T>(T) {
      const CosineChoiceBackward<T> kernel{
          {saved.z.data<T>(), beta.defined() ? beta.data<T>() : nullptr, weights.data<T>(), chosen.data<int32_t>(),
           dy[1].data<T>(), dlogits.data<T>(), experts, top_k, over_all, false},
          backward_kernel<T>(saved, dy[0], dlogits.data<T>(), made)};
      for_rows(saved.z.device(), kernel, saved.tokens(), experts);
    });
    if (grads.needs(2)) grads.give(2, reduce_sum(dlogits, 1, saved.tokens(), experts).reshape(beta.shape()));
    rows_gradients(saved, made, grads);
  };
  const std::vector<Tensor> inputs{x, weight, bias};
  const std::vector<Tensor> made = record("cosine_choice", std::vector<Array>{saved.z, weights}, inputs, backward);
  return {made[0], {made[1], chosen}};
}

}  // namespace moxie::moe
