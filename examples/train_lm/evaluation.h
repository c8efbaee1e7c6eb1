// SPDX-License-Identifier: Apache-2.0
// How good a model is on the validation text, and what its experts do there.
#pragma once
#include <functional>

#include "examples/train_lm/run.h"

namespace moxie::train_lm {

struct Evaluation {
  double loss = 0;                       // nats per byte
  int64_t tokens = 0;                    // on which it was measured
  int64_t windows = 0, all_windows = 0;  // of validation text that were used and that there are
  Loads loads{};                         // per MoE layer
  // Assignments per MoE layer, [256, experts] row-major: which expert takes the tokens of which byte.
  std::vector<std::vector<int64_t>> byte_loads{};

  double bits() const;  // per byte
  bool complete() const { return windows == all_windows; }
};

// Evaluates on the whole validation text, or on `max_batches` batches spread evenly over it. `go_on`, where given, is
// asked before every batch; where it says no, the result is empty.
std::optional<Evaluation> evaluate(const Run& run, int64_t max_batches, const std::function<bool()>& go_on = {});

// How many batches the last validation has, by the configuration's final_tokens; 0: all.
int64_t final_batches(const Configuration& configuration);

}  // namespace moxie::train_lm
