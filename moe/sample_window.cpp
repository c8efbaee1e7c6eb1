// SPDX-License-Identifier: Apache-2.0
#include "moe/sample_window.h"

#include <algorithm>

namespace moxie::moe {

std::vector<int32_t> sample_window(const LanguageModel& model, std::span<const int32_t> prompt,
                                   const SampleOptions& options, int64_t context,
                                   const std::function<bool(int32_t)>& on_token) {
  check(context >= 1, "sample: context must be at least 1, got {}", context);
  std::vector<int32_t> text(prompt.begin(), prompt.end());
  bool stopped = false;
  const auto watch = [&](int32_t token) {
    stopped = on_token && !on_token(token);
    return !stopped;
  };
  SampleOptions part = options;
  int64_t left = options.tokens;
  do {
    const auto length = static_cast<int64_t>(text.size());
    const int64_t kept = length <= context ? length : (context + 1) / 2;
    // The last token drawn is seen by the next part only.
    part.tokens = std::min(left, context - kept + 1);
    const std::vector<int32_t> seen(text.end() - kept, text.end());
    const std::vector<int32_t> drawn = sample(model, seen, part, watch);
    text.insert(text.end(), drawn.begin(), drawn.end());
    left -= part.tokens;
    part.seed += 0x9E3779B97F4A7C15;  // every part draws numbers of its own
  } while (left > 0 && !stopped);
  return {text.begin() + static_cast<std::ptrdiff_t>(prompt.size()), text.end()};
}

}  // namespace moxie::moe
