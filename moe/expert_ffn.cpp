// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops.h"
#include "autograd/ops/common.h"
#include "moe/dispatch.h"
#include "moe/expert_ffn_cpu.h"
#include "moe/experts.h"
#include "moe/kernels/combine.h"
#if defined(MOXIE_CUDA) && !defined(MOXIE_PRETEND_CUDA)
#include "moe/kernels/expert_ffn.h"
#endif

namespace moxie::moe {
namespace {

// y[t] = the sum of weight * row over the token's slots; weights null: all 1
template <class T>
void combine_rows(const T* rows, const Accumulator<T>* weights, const int32_t* slot_of_assignment, int64_t top_k,
                  const Array& y, bool accumulate) {
  const int64_t tokens = y.shape()[0], width = y.shape()[1];
  const Combine<T> kernel{rows, weights, slot_of_assignment, y.data<T>(), width, top_k, accumulate};
  for_rows(y.device(), kernel, tokens, width * top_k);
}

namespace on_cpu {

template <class T>
cpu::ExpertFfn<T> description(const Array& x, const Array& gate_up, const Array& down, const Routing& routing) {
  return {routing.token_of_slot.numel(),
          routing.experts,
          x.shape()[1],
          down.shape()[2],
          routing.top_k,
          routing.offsets.data<int32_t>(),
          routing.token_of_slot.data<int32_t>(),
          routing.slot_of_assignment.data<int32_t>(),
          x.data<T>(),
          gate_up.data<T>(),
          down.data<T>()};
}

template <class T>
void backward(const Array& dy, Grads& grads, const cpu::ExpertFfn<T>& ffn, const Array& z, const Array& weights) {
  using V = Accumulator<T>;
  const auto target = [&](size_t input) {
    if (!grads.needs(input)) return cpu::WeightTarget<T>{};
    const Grads::Target into = grads.into_wide(input);
    return cpu::WeightTarget<T>{into.data<V>(), into.accumulate};
  };
  const Array dx_rows = grads.needs(0) ? Array::empty({ffn.slots, ffn.width}, z.options()) : Array();
  const Array dweights = grads.needs(3) ? Array::empty(weights.shape(), weights.options()) : Array();
  cpu::expert_ffn_backward<T>(
      ffn, {z.data<T>(), dy.data<T>(), weights.data<V>(), dx_rows.defined() ? dx_rows.data<T>() : nullptr, target(1),
            target(2), dweights.defined() ? dweights.data<V>() : nullptr});
  if (dx_rows.defined()) {
    const Grads::Target dx = grads.into(0);
    combine_rows<T>(dx_rows.data<T>(), nullptr, ffn.slot_of_assignment, ffn.top_k, dx.array, dx.accumulate);
  }
  if (dweights.defined()) grads.give(3, dweights);
}

// dispatch(), the FFNs and combine() in one op that keeps x, the pre-activation z and the weights for its backward
// pass, and neither the gathered rows of x nor a nor the rows of the result.
Tensor fused(const Tensor& x, const Tensor& gate_up, const Tensor& down, const Tensor& weights,
             const Routing& whole_routing) {
  const OpRange range("expert_ffn");
  const int64_t slots = whole_routing.token_of_slot.numel(), width = x.dim(1), hidden = down.dim(2);
  // Without its tensors, so that no graph is kept alive.
  const Routing routing{.tokens = whole_routing.tokens,
                        .experts = whole_routing.experts,
                        .top_k = whole_routing.top_k,
                        .scores = {},
                        .weights = {},
                        .chosen = {},
                        .offsets = whole_routing.offsets,
                        .token_of_slot = whole_routing.token_of_slot,
                        .slot_of_assignment = whole_routing.slot_of_assignment};
  const Array z = Array::empty({slots, 2 * hidden}, x.options()),
              y = Array::empty({routing.tokens, width}, x.options());
  dispatch_float("expert_ffn", x.dtype(), [&]<class T>(T) {
    const Array rows = Array::empty({slots, width}, x.options());
    cpu::expert_ffn(description<T>(x.value(), gate_up.value(), down.value(), routing), z.data<T>(), rows.data<T>());
    combine_rows<T>(rows.data<T>(), weights.value().data<Accumulator<T>>(), routing.slot_of_assignment.data<int32_t>(),
                    routing.top_k, y, false);
  });
  return record("expert_ffn", y, {x, gate_up, down, weights},
                [=, x = x.value(), gate_up = gate_up.value(), down = down.value(), weights = weights.value()](
                    std::span<const Array> dy, Grads& grads) {
                  dispatch_float("expert_ffn", x.dtype(), [&]<class T>(T) {
                    backward<T>(dy[0], grads, description<T>(x, gate_up, down, routing), z, weights);
                  });
                });
}

// Whether the tensor's gradient, if it has one, is kept in the dtype in which sums over x's rows are made.
bool keeps_sums(const Tensor& weight) {
  const auto index = static_cast<size_t>(weight.output());
  return !weight.requires_grad() || weight.node()->outputs[index].options.dtype == statistics_dtype(weight.dtype());
}

bool can_fuse(const Tensor& x, const Tensor& gate_up, const Tensor& down, Activation activation) {
  return x.device().is_cpu() && activation == Activation::swiglu && keeps_sums(gate_up) && keeps_sums(down);
}

}  // namespace on_cpu

#if defined(MOXIE_CUDA) && !defined(MOXIE_PRETEND_CUDA)
namespace on_cuda {

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

}  // namespace on_cuda
#endif

}  // namespace

Tensor expert_ffn(const Tensor& x, const Tensor& gate_up, const Tensor& down, const Routing& routing,
                  Activation activation) {
  check(x.shape().rank() == 2 && x.dim(0) == routing.tokens, "expert_ffn: x must be [tokens = {}, width], got {}",
        routing.tokens, x.shape());
  check(gate_up.shape().rank() == 3 && down.shape().rank() == 3 &&
            gate_up.shape() == Shape({routing.experts, projection_width(activation, down.dim(2)), x.dim(1)}) &&
            down.shape() == Shape({routing.experts, x.dim(1), down.dim(2)}),
        "expert_ffn: for {} experts of width {} and {} the weights must be [experts, projections * hidden, width] and "
        "[experts, width, hidden], got {} and {}",
        routing.experts, x.dim(1), name_of(activation), gate_up.shape(), down.shape());
  check_same_kind("expert_ffn", x.value(), "x", gate_up.value(), "gate_up");
  check_same_kind("expert_ffn", x.value(), "x", down.value(), "down");
  if (on_cpu::can_fuse(x, gate_up, down, activation))
    return on_cpu::fused(x, gate_up, down, cast(routing.weights, statistics_dtype(x.dtype())), routing);
#if defined(MOXIE_CUDA) && !defined(MOXIE_PRETEND_CUDA)
  if (on_cuda::can_fuse(x, activation, down.dim(2)))
    return on_cuda::fused(x, gate_up, down, cast(routing.weights, Dtype::f32), routing);
#endif
  const Tensor projected = grouped_matmul(dispatch(x, routing), gate_up, routing.offsets);
  return combine(grouped_matmul(activate(projected, activation), down, routing.offsets), routing);
}

Tensor Experts::combined(const Tensor& x, const Routing& routing, const nn::Context& context) const {
  return expert_ffn(x, gate_up.as(context.dtype), down.as(context.dtype), routing, activation);
}

}  // namespace moxie::moe
