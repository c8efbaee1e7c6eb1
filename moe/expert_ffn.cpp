// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops.h"
#include "autograd/ops/common.h"
#include "moe/experts.h"
#if defined(MOXIE_CUDA) && !defined(MOXIE_PRETEND_CUDA)
#include "moe/kernels/combine.h"
#include "moe/kernels/expert_ffn.h"
#endif

namespace moxie::moe {
namespace {

#if defined(MOXIE_CUDA) && !defined(MOXIE_PRETEND_CUDA)
// y[t] = the sum of weight * row over the token's slots; weights undefined: all 1
void combine_rows(const bf16* rows, const float* weights, const int32_t* slot_of_assignment, int64_t top_k,
                  const Array& y, bool accumulate) {
  const int64_t tokens = y.shape()[0], width = y.shape()[1];
  const Combine<bf16> kernel{rows, weights, slot_of_assignment, y.data<bf16>(), width, top_k, accumulate};
  for_rows(y.device(), kernel, tokens, width * top_k);
}

// dispatch(), the FFNs and combine() in one op that keeps x, the pre-activation z and the weights for its backward
// pass, and neither the gathered rows of x nor the rows of the result.
Tensor fused(const Tensor& x, const Tensor& gate_up, const Tensor& down, const Tensor& weights,
             const Routing& routing) {
  const OpRange range("expert_ffn");
  const int64_t slots = routing.token_of_slot.numel(), width = x.dim(1), hidden = down.dim(2), top_k = routing.top_k;
  const auto description = [slots, width, hidden, experts = routing.experts, offsets = routing.offsets,
                            tokens = routing.token_of_slot](const Array& in, const Array& up, const Array& out) {
    return ExpertFfn{
        slots,           experts,         width,           hidden, offsets.data<int32_t>(), tokens.data<int32_t>(),
        in.data<bf16>(), up.data<bf16>(), out.data<bf16>()};
  };
  const Array z = Array::empty({slots, 2 * hidden}, x.options()),
              y = Array::empty({routing.tokens, width}, x.options());
  {
    const Array rows = Array::empty({slots, width}, x.options());
    cuda::expert_ffn(x.device().index, description(x.value(), gate_up.value(), down.value()), z.data<bf16>(),
                     rows.data<bf16>());
    combine_rows(rows.data<bf16>(), weights.value().data<float>(), routing.slot_of_assignment.data<int32_t>(), top_k, y,
                 false);
  }
  return record("expert_ffn", y, {x, gate_up, down, weights},
                [=, x = x.value(), gate_up = gate_up.value(), down = down.value(), weights = weights.value(),
                 slot_of_assignment = routing.slot_of_assignment](std::span<const Array> dy, Grads& grads) {
                  const auto weight_gradient = [&](size_t input) {
                    if (!grads.needs(input)) return WeightGradient{};
                    const Grads::Target target = grads.into_wide(input);
                    return WeightGradient{target.array.raw(), target.array.dtype(), target.accumulate};
                  };
                  const Array dx_rows = grads.needs(0) ? Array::empty({slots, width}, x.options()) : Array();
                  const Array dweights = grads.needs(3) ? Array::empty(weights.shape(), weights.options()) : Array();
                  const int32_t* slot = slot_of_assignment.data<int32_t>();
                  cuda::expert_ffn_backward(
                      x.device().index, description(x, gate_up, down),
                      {z.data<bf16>(), dy[0].data<bf16>(), weights.data<float>(), slot,
                       dx_rows.defined() ? dx_rows.data<bf16>() : nullptr, weight_gradient(1), weight_gradient(2),
                       dweights.defined() ? dweights.data<float>() : nullptr});
                  if (dx_rows.defined()) {
                    const Grads::Target dx = grads.into(0);
                    combine_rows(dx_rows.data<bf16>(), nullptr, slot, top_k, dx.array, dx.accumulate);
                  }
                  if (dweights.defined()) grads.give(3, dweights);
                });
}

bool can_fuse(const Tensor& x, Activation activation, int64_t hidden) {
  return x.device().is_cuda() && x.dtype() == Dtype::bf16 && activation == Activation::swiglu && x.dim(1) % 8 == 0 &&
         hidden % 8 == 0;
}
#endif

}  // namespace

Tensor Experts::combined(const Tensor& x, const Routing& routing, const nn::Context& context) const {
#if defined(MOXIE_CUDA) && !defined(MOXIE_PRETEND_CUDA)
  if (can_fuse(x, activation, hidden)) {
    const Tensor up = gate_up.as(context.dtype), out = down.as(context.dtype);
    check(x.shape().rank() == 2 && x.dim(0) == routing.tokens && x.dim(1) == out.dim(1),
          "Experts: x must be [tokens = {}, width = {}], got {}", routing.tokens, out.dim(1), x.shape());
    check_same_kind("Experts", x.value(), "x", up.value(), "gate_up");
    return fused(x, up, out, cast(routing.weights, Dtype::f32), routing);
  }
#endif
  return combine((*this)(dispatch(x, routing), routing, context), routing);
}

}  // namespace moxie::moe
