// SPDX-License-Identifier: Apache-2.0
#include "examples/train_lm/evaluation.h"

#include <algorithm>
#include <limits>
#include <numbers>

#include "nn/train/tokenizer.h"

namespace moxie::train_lm {
namespace {

void count(Evaluation& result, const std::vector<moe::Routing>& routings, const Array& tokens) {
  result.loads.resize(routings.size());
  result.byte_loads.resize(routings.size());
  const int32_t* bytes = tokens.data<int32_t>();
  for (size_t layer = 0; layer < routings.size(); ++layer) {
    const moe::Routing& routing = routings[layer];
    result.loads[layer].resize(static_cast<size_t>(routing.experts));
    result.byte_loads[layer].resize(static_cast<size_t>(train::ByteTokenizer::vocabulary * routing.experts));
    const std::vector<int32_t> chosen = routing.chosen.to_vector<int32_t>();
    for (size_t i = 0; i < chosen.size(); ++i) {
      const int64_t byte = bytes[static_cast<int64_t>(i) / routing.top_k];
      ++result.loads[layer][static_cast<size_t>(chosen[i])];
      ++result.byte_loads[layer][static_cast<size_t>(byte * routing.experts + chosen[i])];
    }
  }
}

}  // namespace

double Evaluation::bits() const { return loss / std::numbers::ln2; }

std::optional<Evaluation> evaluate(const Run& run, int64_t max_batches, const std::function<bool()>& go_on) {
  const Configuration& c = run.configuration;
  const int64_t rows = std::max<int64_t>(1, c.batch / c.micro_batches);
  const NoGrad guard;
  Evaluation result{.all_windows = run.data.validation_windows(c.context)};
  double sum = 0;
  for (const train::Batch& batch : run.data.validation_batches(rows, c.context, max_batches)) {
    if (go_on && !go_on()) return std::nullopt;
    const Device device = run.model.device();
    const moe::Losses losses = run.model.losses(batch.tokens.to(device), batch.targets.to(device), {.dtype = c.dtype});
    sum += losses.cross_entropy.item() * static_cast<double>(batch.tokens.numel());
    result.tokens += batch.tokens.numel();
    result.windows += batch.tokens.dim(0);
    count(result, losses.routings, batch.tokens);
  }
  result.loss = result.tokens > 0 ? sum / static_cast<double>(result.tokens) : std::numeric_limits<double>::quiet_NaN();
  return result;
}

int64_t final_batches(const Configuration& c) {
  const int64_t batch_tokens = std::max<int64_t>(1, c.batch / c.micro_batches) * c.context;
  return c.final_tokens == 0 ? 0 : std::max<int64_t>(1, c.final_tokens / batch_tokens);
}

}  // namespace moxie::train_lm
