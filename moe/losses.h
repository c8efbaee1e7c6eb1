// SPDX-License-Identifier: Apache-2.0
// Losses on the routing. Both see the scores z alone: the bias that is added after the selection can't game them.
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

// Mean over tokens of sum over e of load[e] softmax(z)[e], the part that both normalizations share: z [tokens,
// experts], load [experts] constant -> scalar.
Tensor weighted_share(const Tensor& scores, const Array& load);

}  // namespace moxie::moe
