// SPDX-License-Identifier: Apache-2.0
#include "moe/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace moxie::moe {
namespace {

void check_options(const SampleOptions& options) {
  check(
      options.tokens >= 0 && options.temperature >= 0 && options.top_k >= 0 && options.top_p > 0 && options.top_p <= 1,
      "sample: tokens, temperature and top_k must not be negative and top_p in (0, 1], got {}, {}, {}, {}",
      options.tokens, options.temperature, options.top_k, options.top_p);
}

}  // namespace

int32_t draw_token(std::span<const float> logits, const SampleOptions& options, double u) {
  check_options(options);
  check(!logits.empty(), "draw_token: there are no logits");
  for (size_t i = 0; i < logits.size(); ++i)
    check(logits[i] < std::numeric_limits<float>::infinity(),
          "draw_token: logit {} of {} is {}; the model has diverged", i, logits.size(), logits[i]);
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  if (options.temperature == 0) return order[0];
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(order.size()))
    order.resize(static_cast<size_t>(options.top_k));
  std::vector<double> probability;
  for (const int32_t token : order)
    probability.push_back(std::exp((static_cast<double>(logits[static_cast<size_t>(token)]) -
                                    static_cast<double>(logits[static_cast<size_t>(order[0])])) /
                                   options.temperature));
  const double total = std::accumulate(probability.begin(), probability.end(), 0.0);
  double kept = 0;
  size_t count = 0;
  while (count < order.size() && (count == 0 || kept < options.top_p * total)) kept += probability[count++];
  double left = u * kept;
  for (size_t i = 0; i < count; ++i)
    if ((left -= probability[i]) < 0) return order[i];
  return order[count - 1];
}

std::vector<int32_t> sample(const LanguageModel& model, std::span<const int32_t> prompt, const SampleOptions& options,
                            const std::function<bool(int32_t)>& on_token) {
  check(!prompt.empty(), "sample: the prompt is empty; give it at least one token");
  check_options(options);
  const NoGrad guard;
  std::vector<nn::KeyValueCache> caches(model.blocks.size());
  std::vector<int32_t> input(prompt.begin(), prompt.end()), generated;
  nn::Context context{.seed = options.seed};
  const RandomKey key = context.key(nn::Purpose::sample);
  for (int64_t i = 0; i < options.tokens; ++i) {
    const auto length = static_cast<int64_t>(input.size());
    const Tensor logits = model(Array::from(input, {1, length}, model.device()), context, &caches);
    context.first_position += length;
    const std::vector<float> last = slice(logits, 1, length - 1, 1).to_vector<float>();
    const int32_t token = draw_token(last, options, static_cast<double>(uniform_at(key, static_cast<uint64_t>(i))));
    generated.push_back(token);
    if (on_token && !on_token(token)) break;
    input = {token};
  }
  return generated;
}

}  // namespace moxie::moe
