// SPDX-License-Identifier: Apache-2.0
// Losses on the routing. They see the scores z: neither the bias that is added after the selection nor noise on the
// scores can game them.
#pragma once
#include <span>
#include <string_view>

#include "moe/routing.h"

namespace moxie::moe {

// Systems use one name for balance losses that differ by a factor; the value at perfect balance tells them apart.
enum class BalanceNormalization {
  switch_,  // per layer, experts * sum f P with f the share of assignments: 1 at balance. Mean over the layers.
  hf,       // transformers: layers joined before the product, f the assignments per token: top_k at balance
};
const char* name_of(BalanceNormalization normalization);
BalanceNormalization balance_from_name(std::string_view name);

// experts * sum over e of f_e P_e, f_e what experts get (constant) and P_e the mean of softmax(z): Switch Transformer,
// Eq. 4 to 6, for any top_k. One routing per layer, all of one shape -> scalar; 0 for no layers or no tokens.
Tensor balance_loss(std::span<const Routing> layers,
                    BalanceNormalization normalization = BalanceNormalization::switch_);

// Mean over tokens (and layers) of logsumexp(z)^2: ST-MoE, Eq. 5. -> scalar
Tensor z_loss(std::span<const Routing> layers);

// The squared coefficient of variation, (deviation / mean)^2, of smooth_load, mean over the layers: 0 at balance. Its
// gradient reaches the scores and, of learned noise, W_noise. Shazeer et al. 2017, Eq. 11. Throws std::invalid_argument
// where a routing has no noise with a known deviation (gaussian or learned, in training). -> scalar
Tensor load_loss(std::span<const Routing> layers);

// What share of the tokens each expert would get if its own noise were drawn again, all others' being as they are:
// mean over tokens of Phi((z_e - threshold) / deviation_e), Phi the normal distribution and threshold the k-th best
// noisy score of the others. Shazeer et al. 2017, Eq. 8 to 10. All inputs [tokens, experts], top_k < experts ->
// [experts], which adds up to about top_k.
Tensor smooth_load(const Tensor& scores, const Tensor& noisy, const Tensor& deviation, int64_t top_k);

// The mean of one scalar per layer; undefined for none.
Tensor mean_of(std::span<const Tensor> values);

// 0 in the dtype of the layers' scores: the loss of nothing.
Tensor no_loss(std::span<const Routing> layers);

// Mean over tokens of sum over e of load[e] softmax(z)[e], the part that both normalizations share: z [tokens,
// experts], load [experts] constant -> scalar.
Tensor weighted_share(const Tensor& scores, const Array& load);

}  // namespace moxie::moe
