// SPDX-License-Identifier: Apache-2.0
#include "examples/train_lm/text.h"

#include <algorithm>

#include "moe/sample_window.h"
#include "nn/train/interrupt.h"
#include "nn/train/tokenizer.h"

namespace moxie::train_lm {

std::string prompt_of(const Run& run) {
  std::string_view text = run.data.validation_bytes() > 0 ? run.data.validation_text() : run.data.train_text();
  const size_t line_end = text.find('\n');
  if (line_end != std::string_view::npos && line_end + 1 < text.size()) text.remove_prefix(line_end + 1);
  const size_t longest = std::clamp<size_t>(static_cast<size_t>(run.configuration.context) / 2, 1, 40);
  text = text.substr(0, longest);
  const size_t space = text.rfind(' ');
  return std::string(space != std::string_view::npos && space > longest / 2 ? text.substr(0, space) : text);
}

std::string continue_text(const Run& run, const std::string& prompt, int64_t bytes) {
  const Configuration& c = run.configuration;
  const moe::SampleOptions options{
      .tokens = bytes, .temperature = 0.8, .seed = c.seed + static_cast<uint64_t>(run.step)};
  const auto go_on = [](int32_t) { return !train::interrupted(); };
  return train::ByteTokenizer::decode(
      moe::sample_window(run.model, train::ByteTokenizer::encode(prompt), options, c.context, go_on));
}

}  // namespace moxie::train_lm
