// SPDX-License-Identifier: Apache-2.0
// Expert FFNs: one grouped matmul per projection over rows sorted by expert.
#pragma once
#include "moe/routing.h"
#include "nn/layers.h"

namespace moxie::moe {

struct Experts {
  Activation activation = Activation::swiglu;
  int64_t hidden = 0;
  nn::Parameter gate_up;  // [experts, 2 hidden, width], gate rows first; gelu and relu: [experts, hidden, width]
  nn::Parameter down;     // [experts, width, hidden]

  Experts(int64_t experts, int64_t width, int64_t hidden_units, Activation kind, nn::Initializer& init,
          double output_gain = 1);
  // rows [slots, width], sorted by expert as dispatch() leaves them -> [slots, width]
  Tensor operator()(const Tensor& rows, const Routing& routing, const nn::Context& context) const;
  // dispatch, the FFNs and combine: x [tokens, width] -> [tokens, width]. On a GPU one op for SwiGLU in bf16 with width
  // and hidden in multiples of 8, which keeps neither the slots' rows of x nor of the result.
  Tensor combined(const Tensor& x, const Routing& routing, const nn::Context& context) const;
  static void visit(auto& self, auto&& f) { f("gate_up", self.gate_up), f("down", self.down); }
};

}  // namespace moxie::moe
