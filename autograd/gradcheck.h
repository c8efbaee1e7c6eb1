// SPDX-License-Identifier: Apache-2.0
// Compares the gradients of any function with finite differences: for routers, losses and ops that you invent.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace moxie {

struct GradcheckOptions {
  double step = 1e-3;       // of the five-point differences, in the units of the inputs
  double tolerance = 1e-6;  // largest error of <dy, J v>, as a part of |dy| |J v|
  uint64_t seed = 1;        // of the random cotangents and directions
  int64_t directions = 2;   // random directions per input, and of all inputs together
  // Where the elements of inputs times those of outputs are at most so many, every entry of the Jacobian is compared.
  int64_t full_jacobian_up_to = 1024;
};

struct GradcheckResult {
  bool ok = true;
  std::string message;  // empty where ok; otherwise the input, the element or direction, and both numbers
  double worst = 0;     // largest error met, as a part of |dy| |J v|
  explicit operator bool() const { return ok; }
};

// Runs f forward and backward with random cotangents, and forward along random directions v of the inputs that require
// a gradient, each alone and all together; compares <dx, v> with <dy, J v>. Also finds an f that gives different
// numbers for the same inputs, and a backward rule that overwrites a gradient which it should add to. Inputs are f64
// (throws std::invalid_argument otherwise) and keep their own gradients; those that require none are held fixed.
// Outputs of integer dtypes are ignored. Near a kink or a jump of f (relu at 0, equal scores before a top-k)
// differences mean nothing: choose inputs away from them, or hold the selection fixed. Leaves that f captures get
// gradients as in any backward pass, unchecked. Draws are a function of the seed.
GradcheckResult gradcheck(const std::function<std::vector<Tensor>(std::span<const Tensor>)>& f,
                          const std::vector<Tensor>& inputs, GradcheckOptions options = {});
// The same for a function with one output.
GradcheckResult gradcheck(const std::function<Tensor(std::span<const Tensor>)>& f, const std::vector<Tensor>& inputs,
                          GradcheckOptions options = {});

}  // namespace moxie
