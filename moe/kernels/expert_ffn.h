// SPDX-License-Identifier: Apache-2.0
// The seam of the fused expert FFNs, SwiGLU in bf16: defined in cuda/, and only where moxie is built with CUDA.
// For a slot s with token t and expert e:
//   z[s] = W_gate_up,e x[t] = [gate, up]   a[s] = silu(gate) up   rows[s] = W_down,e a[s]
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace moxie::moe {

struct ExpertFfn {
  int64_t slots = 0, experts = 0, width = 0, hidden = 0;  // width and hidden: multiples of 8
  const int32_t* offsets = nullptr;                       // [experts + 1]
  const int32_t* token_of_slot = nullptr;                 // [slots]
  const bf16* x = nullptr;                                // [tokens, width]
  const bf16* gate_up = nullptr;                          // [experts, 2 hidden, width]
  const bf16* down = nullptr;                             // [experts, width, hidden]
};

// A gradient of weights: written, or added to.
struct WeightGradient {
  void* data = nullptr;  // null: not wanted
  Dtype dtype = Dtype::f32;
  bool accumulate = false;
};

// Of y[t] = sum over the token's slots of weight[s] rows[s], given dy. From z alone: neither a nor rows need be kept,
// since dweight[s] = dy[t] . rows[s] = (W_down^T dy[t]) . a[s].
struct ExpertFfnGradients {
  const bf16* z = nullptr;                      // [slots, 2 hidden]
  const bf16* dy = nullptr;                     // [tokens, width]
  const float* weights = nullptr;               // [slots], in the order of the assignments
  const int32_t* slot_of_assignment = nullptr;  // [slots]
  bf16* dx_rows = nullptr;                      // [slots, width], of each slot's copy of x; null: not wanted
  WeightGradient gate_up, down;
  float* dweights = nullptr;  // [slots], in the order of the assignments; null: not wanted
};

}  // namespace moxie::moe

namespace moxie::cuda {

// z [slots, 2 hidden] and rows [slots, width].
void expert_ffn(int device, const moe::ExpertFfn& ffn, bf16* z, bf16* rows);
void expert_ffn_backward(int device, const moe::ExpertFfn& ffn, const moe::ExpertFfnGradients& gradients);

}  // namespace moxie::cuda
