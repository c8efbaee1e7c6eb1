// SPDX-License-Identifier: Apache-2.0
// Expert FFNs: one grouped matmul per projection over rows sorted by expert.
#pragma once
#include "moe/routing.h"
#include "nn/layers.h"

namespace moxie::moe {

// dispatch, the FFNs and combine: x [tokens, width], gate_up [experts, 2 hidden, width] with the gate rows first (gelu
// and relu: [experts, hidden, width]), down [experts, width, hidden] -> [tokens, width]. One op that keeps x and what
// lies before the activation, and not the slots' rows of x, of the activation and of the result, for SwiGLU on the CPU
// in f32 and f64 and on a GPU in bf16 with width and hidden in multiples of 8. Throws std::invalid_argument where
// shapes, dtypes or devices don't fit.
Tensor expert_ffn(const Tensor& x, const Tensor& gate_up, const Tensor& down, const Routing& routing,
                  Activation activation = Activation::swiglu);

struct Experts {
  Activation activation = Activation::swiglu;
  int64_t hidden = 0;
  nn::Parameter gate_up;  // [experts, 2 hidden, width], gate rows first; gelu and relu: [experts, hidden, width]
  nn::Parameter down;     // [experts, width, hidden]

  Experts(int64_t experts, int64_t width, int64_t hidden_units, Activation kind, nn::Initializer& init,
          double output_gain = 1);
  // rows [slots, width], sorted by expert as dispatch() leaves them -> [slots, width]
  Tensor operator()(const Tensor& rows, const Routing& routing, const nn::Context& context) const;
  // expert_ffn() with these weights: x [tokens, width] -> [tokens, width].
  Tensor combined(const Tensor& x, const Routing& routing, const nn::Context& context) const;
  static void visit(auto& self, auto&& f) { f("gate_up", self.gate_up), f("down", self.down); }
};

}  // namespace moxie::moe
