// SPDX-License-Identifier: Apache-2.0
// Text generation from a language model, token by token, with a key/value cache.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "moe/language_model.h"

namespace moxie::moe {

struct SampleOptions {
  int64_t tokens = 200;    // how many to generate
  double temperature = 1;  // 0: always the likeliest
  int64_t top_k = 0;       // only the k likeliest; 0: all
  double top_p = 1;        // only the likeliest whose probabilities reach p together
  uint64_t seed = 0;
};

// Continues `prompt` (at least one token) and returns the new tokens. `on_token`, where given, sees each as it comes
// and ends the generation by returning false. The same model, prompt and options give the same tokens.
// Throws std::invalid_argument for an empty prompt, tokens outside the vocabulary, or options out of range.
std::vector<int32_t> sample(const LanguageModel& model, std::span<const int32_t> prompt, const SampleOptions& options,
                            const std::function<bool(int32_t)>& on_token = {});

// Draws one token from logits (of one position) with the random number u in (0, 1). Throws std::invalid_argument for
// options out of range and logits that are NaN or +Inf.
int32_t draw_token(std::span<const float> logits, const SampleOptions& options, double u);

}  // namespace moxie::moe
