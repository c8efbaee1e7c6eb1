// SPDX-License-Identifier: Apache-2.0
#include "moe/choose.h"

#include "autograd/ops/common.h"
#include "core/reduce.h"
#include "moe/dispatch.h"
#include "moe/kernels/choose.h"

namespace moxie::moe {
namespace {

struct Saved {
  Array weighed, bias, weights, chosen;
  bool over_all;
};

template <class T> const T* data_or_null(const Array& array) { return array.defined() ? array.data<T>() : nullptr; }

// The gradient of weighed + bias, written to or added to `into`.
void logits_gradient(const Saved& s, const Array& dweights, const Array& into, bool accumulate) {
  const int64_t experts = into.shape()[1], top_k = s.chosen.shape()[1];
  dispatch_statistics(into.dtype(), [&]<class T>(T) {
    const ChooseExpertsBackward<T> kernel{s.weighed.data<T>(),
                                          data_or_null<T>(s.bias),
                                          s.weights.data<T>(),
                                          s.chosen.data<int32_t>(),
                                          dweights.data<T>(),
                                          into.data<T>(),
                                          experts,
                                          top_k,
                                          s.over_all,
                                          accumulate};
    for_rows(into.device(), kernel, into.shape()[0], experts);
  });
}

void backward(const Saved& s, const Array& dweights, Grads& grads) {
  if (!grads.needs(1)) {
    const Grads::Target dweighed = grads.into(0);
    return logits_gradient(s, dweights, dweighed.array, dweighed.accumulate);
  }
  const Array dlogits = Array::empty(s.weighed.shape(), s.weighed.options());
  logits_gradient(s, dweights, dlogits, false);
  grads.give(1, reduce_sum(dlogits, 1, dlogits.shape()[0], dlogits.shape()[1]).reshape(s.bias.shape()));
  if (grads.needs(0)) grads.give(0, dlogits);
}

}  // namespace

void detail::check_choice(const char* op, const Tensor& scores, const Tensor& bias, int64_t top_k) {
  const int64_t experts = scores.dim(1);
  check(top_k >= 1 && top_k <= experts, "{}: top_k must be between 1 and experts, got top_k = {}, experts = {}", op,
        top_k, experts);
  if (!bias.defined()) return;
  check(bias.shape() == Shape({experts}), "{}: bias must be [experts = {}], got {}", op, experts, bias.shape());
  check_same_kind(op, scores.value(), "scores", bias.value(), "bias");
}

Choice choose_experts(const Tensor& seen, const Tensor& weighed, const Tensor& bias, int64_t top_k, bool over_all) {
  const OpRange range("choose_experts");
  check(seen.shape().rank() == 2 && weighed.shape() == seen.shape(),
        "choose_experts: seen and weighed must both be [tokens, experts], got {} and {}", seen.shape(),
        weighed.shape());
  check(seen.dtype() == Dtype::f32 || seen.dtype() == Dtype::f64, "choose_experts: scores must be f32 or f64, got {}",
        name_of(seen.dtype()));
  check_same_kind("choose_experts", seen.value(), "seen", weighed.value(), "weighed");
  detail::check_choice("choose_experts", seen, bias, top_k);
  const int64_t tokens = seen.dim(0), experts = seen.dim(1);
  const Saved saved{weighed.value(), bias.value(), Array::empty({tokens, top_k}, seen.options()),
                    Array::empty({tokens, top_k}, {Dtype::i32, seen.device()}), over_all};
  dispatch_statistics(seen.dtype(), [&]<class T>(T) {
    const ChooseExperts<T> kernel{seen.value().data<T>(),
                                  saved.weighed.data<T>(),
                                  data_or_null<T>(saved.bias),
                                  saved.weights.data<T>(),
                                  saved.chosen.data<int32_t>(),
                                  experts,
                                  top_k,
                                  over_all};
    for_rows(seen.device(), kernel, tokens, experts * top_k);
  });
  const Tensor weights =
      record("choose_experts", saved.weights, {weighed, bias},
             [saved](std::span<const Array> dweights, Grads& grads) { backward(saved, dweights[0], grads); });
  return {weights, saved.chosen};
}

}  // namespace moxie::moe
