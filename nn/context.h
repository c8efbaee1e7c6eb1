// SPDX-License-Identifier: Apache-2.0
// Context: what a forward pass depends on beside its inputs and parameters. There is no global state.
#pragma once
#include <cstdint>

#include "core/dtype.h"
#include "core/philox.h"

namespace moxie::nn {

// What random numbers are drawn for: every purpose has a stream of its own in every layer.
enum class Purpose : uint32_t { initialize, dropout, attention_dropout, erc_proxy, router_noise, data, sample };

struct Context {
  bool training = false;     // dropout and noise act, auxiliary losses are computed
  Dtype dtype = Dtype::f32;  // of activations and matmul operands
  uint64_t seed = 0;
  uint32_t step = 0;  // optimizer step: draws are the same in every pass of one step
  // Where kernels read the step in its place; StepGraph::counter() for a step that a graph repeats.
  const uint32_t* step_at = nullptr;
  uint32_t layer = 0;
  uint32_t micro_batch = 0;    // which part of the step's batch this is
  int64_t first_token = 0;     // how many tokens of the step's batch come before this part: keys draws per token
  int64_t first_position = 0;  // of the first token, in sampling with a cache

  Context at_layer(int64_t index) const {
    Context context = *this;
    context.layer = static_cast<uint32_t>(index);
    return context;
  }
  // The stream of `purpose` in this layer; `per_batch` ones also differ between the micro-batches of a step.
  RandomKey key(Purpose purpose, bool per_batch = true) const {
    return {.seed = seed,
            .stream = (per_batch ? micro_batch << 16 : 0) | layer << 4 | static_cast<uint32_t>(purpose),
            .step = step,
            .step_at = step_at};
  }
};

}  // namespace moxie::nn
