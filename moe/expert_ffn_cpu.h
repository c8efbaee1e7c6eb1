// SPDX-License-Identifier: Apache-2.0
// Internal to moe/expert_ffn*.cpp: SwiGLU expert FFNs on the CPU, a block of an expert's rows at a time, so that what
// lies between its projections stays in the cache.
//   z[s] = W_gate_up,e x[t] = [gate, up]   a[s] = silu(gate) up   rows[s] = W_down,e a[s]   slot s, token t, expert e
#pragma once
#include <cstdint>

#include "core/kernels/elementwise/accumulate.h"

namespace moxie::moe::cpu {

template <class T> struct ExpertFfn {
  int64_t slots = 0, experts = 0, width = 0, hidden = 0, top_k = 0;
  const int32_t* offsets = nullptr;             // [experts + 1]
  const int32_t* token_of_slot = nullptr;       // [slots]
  const int32_t* slot_of_assignment = nullptr;  // [slots]
  const T* x = nullptr;                         // [tokens, width]
  const T* gate_up = nullptr;                   // [experts, 2 hidden, width]
  const T* down = nullptr;                      // [experts, width, hidden]
};

// z [slots, 2 hidden] and rows [slots, width]. T: double, float or bf16.
template <class T> void expert_ffn(const ExpertFfn<T>& ffn, T* z, T* rows);

// A gradient of weights: written, or added to. Of bf16 weights it is f32.
template <class T> struct WeightTarget {
  Accumulator<T>* data = nullptr;  // null: not wanted
  bool accumulate = false;
};

// Of y[t] = sum over the token's slots of weight[s] rows[s], given dy.
template <class T> struct ExpertFfnGradients {
  const T* z = nullptr;                     // [slots, 2 hidden]
  const T* dy = nullptr;                    // [tokens, width]
  const Accumulator<T>* weights = nullptr;  // [slots], in the order of the assignments
  T* dx_rows = nullptr;                     // [slots, width], of each slot's copy of x; null: not wanted
  WeightTarget<T> gate_up, down;
  Accumulator<T>* dweights = nullptr;  // [slots], in the order of the assignments; null: not wanted
};
template <class T> void expert_ffn_backward(const ExpertFfn<T>& ffn, const ExpertFfnGradients<T>& gradients);

}  // namespace moxie::moe::cpu
