// SPDX-License-Identifier: Apache-2.0
// Text of any length from a model that has learnt to look back on a limited number of tokens.
#pragma once
#include "moe/sample.h"

namespace moxie::moe {

// As sample(), but the model never sees more than `context` tokens (at least 1; those of its training): where they are
// full it goes on from the last half of them. Longer prompts lose their beginning.
std::vector<int32_t> sample_window(const LanguageModel& model, std::span<const int32_t> prompt,
                                   const SampleOptions& options, int64_t context,
                                   const std::function<bool(int32_t)>& on_token = {});

}  // namespace moxie::moe
