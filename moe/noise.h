// SPDX-License-Identifier: Apache-2.0
// Noise in the router: it makes the selection of experts explore while a model trains. Off in evaluation.
// docs/moe/noise.md
#pragma once
#include <string_view>

#include "autograd/tensor.h"
#include "nn/context.h"

namespace moxie::moe {

// With s the scale, u uniform in (0, 1), n standard normal, and z the scores of the clean token x.
enum class NoiseKind {
  none,
  jitter,          // the router sees x (1 + s (2u - 1)), the experts x: Switch Transformer
  jitter_shared,   // router and experts see the same x (1 + s (2u - 1)): Mixtral in transformers
  gaussian,        // z + s n: V-MoE, Tutel
  gumbel,          // z - s log(-log u): with s = 1 the top 1 is a draw from softmax(z)
  learned,         // z + s softplus(x W_noise) n: noisy top-k, Shazeer et al. 2017
  multiplicative,  // z (1 + s (2u - 1))
};
const char* name_of(NoiseKind kind);
// Throws std::invalid_argument for an unknown name.
NoiseKind noise_kind_from_name(std::string_view name);

struct NoiseOptions {
  NoiseKind kind = NoiseKind::none;
  double scale = 0;             // s, positive but for none; a bound of at most 1 for the kinds with u
  bool selection_only = false;  // gaussian, gumbel, multiplicative: weights are made of z, as in DeepSpeed's RSample
};

// Whether a kind adds to the scores, so that there are a clean and a noisy score.
bool is_on_scores(NoiseKind kind);
// Whether its draws are normal with a known deviation, which load_loss needs.
bool has_deviation(NoiseKind kind);
// Throws std::invalid_argument for a scale or a combination that makes no sense.
void check_noise(const NoiseOptions& options);

// Where draws for the rows of a batch come from: row t draws what row first_token + t of the step's whole batch draws.
struct TokenKey {
  RandomKey key;
  int64_t first_token = 0;
};
// The key of router noise: (seed, layer, step) and the token's place in the step's batch, the same under recomputation
// and however the batch is cut. Throws std::invalid_argument in a later micro-batch whose context.first_token is 0.
TokenKey router_noise_key(const nn::Context& context);

// x [tokens, cols] (1 + bound (2u - 1)); any float dtype.
Tensor bounded_noise(const Tensor& x, double bound, const TokenKey& at);
// scores [tokens, experts] + scale n; f32 or f64, as the next two.
Tensor gaussian_noise(const Tensor& scores, double scale, const TokenKey& at);
// scores - scale log(-log u)
Tensor gumbel_noise(const Tensor& scores, double scale, const TokenKey& at);
// scores + scale softplus(raw) n, with raw = x W_noise of the scores' shape; gradients flow to both.
Tensor learned_noise(const Tensor& scores, const Tensor& raw, double scale, const TokenKey& at);

}  // namespace moxie::moe
