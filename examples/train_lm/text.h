// SPDX-License-Identifier: Apache-2.0
// Text that the model writes.
#pragma once
#include <string>

#include "examples/train_lm/run.h"

namespace moxie::train_lm {

// The beginning of a line of the validation text (of the training text where there is none), at most half a context.
std::string prompt_of(const Run& run);

// Continues the prompt by `bytes` bytes at temperature 0.8. The same run and step give the same text.
std::string continue_text(const Run& run, const std::string& prompt, int64_t bytes);

}  // namespace moxie::train_lm
