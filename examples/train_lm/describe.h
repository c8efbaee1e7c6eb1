// SPDX-License-Identifier: Apache-2.0
// What a run is, in words and numbers, before it begins.
#pragma once
#include <string>

#include "examples/train_lm/run.h"

namespace moxie::train_lm {

struct ModelSize {
  int64_t parameters = 0;  // all
  int64_t active = 0;      // that one token passes through
};
ModelSize size_of(const moe::LanguageModel& model);

struct MemoryEstimate {
  double parameters = 0, gradients = 0, optimizer = 0, activations = 0, rest = 0;  // bytes
  double total() const { return parameters + gradients + optimizer + activations + rest; }
};
// What training will take on the CPU: measured with passes over a few sequences, since it grows in proportion to a
// micro-batch's, and clears the gradients. The peak of a run is within a tenth of the total.
MemoryEstimate estimate_memory(const Run& run);

// Data, model, router, losses, optimizer and batches, one line each.
std::string describe(const Run& run);
// The same with parameters, FLOPs, memory and batches in full: --dry-run.
std::string describe_plan(const Run& run);

}  // namespace moxie::train_lm
