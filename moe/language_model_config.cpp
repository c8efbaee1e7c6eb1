// SPDX-License-Identifier: Apache-2.0
#include "moe/language_model_config.h"

namespace moxie::moe {

std::vector<train::Setting> settings(LanguageModelOptions& o) {
  MoeOptions& moe = o.moe;
  RouterOptions& router = moe.router;
  return {
      {"vocabulary", &o.vocabulary},
      {"layers", &o.layers},
      {"width", &o.width},
      {"heads", &o.heads},
      {"kv_heads", &o.kv_heads},
      {"head_dim", &o.head_dim},
      train::choice("qk_norm", o.qk_norm, nn::qk_norm_from_name),
      {"attention_bias", &o.attention_bias},
      {"clip_qkv", &o.clip_qkv},
      {"rope_base", &o.rope_base},
      {"norm_epsilon", &o.norm_epsilon},
      {"dense_layers", &o.dense_layers},
      {"dense_hidden", &o.dense_hidden},
      {"dropout", &o.dropout},
      {"tie_embeddings", &o.tie_embeddings},
      {"recompute", &o.recompute},
      {"balance_weight", &o.balance_weight},
      train::choice("balance", o.balance, balance_from_name),
      {"z_weight", &o.z_weight},
      {"load_weight", &o.load_weight},
      {"moe.hidden", &moe.hidden},
      train::choice("moe.activation", moe.activation, activation_from_name),
      {"moe.erc", &moe.erc},
      {"moe.erc_alpha", &moe.erc_alpha},
      train::choice("moe.router.kind", router.kind, router_kind_from_name),
      {"moe.router.experts", &router.experts},
      {"moe.router.top_k", &router.top_k},
      train::choice("moe.router.weighting", router.weighting, weighting_from_name),
      {"moe.router.tau_expert", &router.tau_expert},
      {"moe.router.tau_token", &router.tau_token},
      {"moe.router.scale", &router.scale},
      {"moe.router.bias", &router.bias},
      {"moe.router.projection", &router.projection},
      {"moe.router.projection_bias", &router.projection_bias},
      {"moe.router.learned_temperature", &router.learned_temperature},
      train::choice("moe.router.noise.kind", router.noise.kind, noise_kind_from_name),
      {"moe.router.noise.scale", &router.noise.scale},
      {"moe.router.noise.selection_only", &router.noise.selection_only},
  };
}

std::string to_json(const LanguageModelOptions& options) {
  LanguageModelOptions copy = options;
  return train::to_json(settings(copy));
}

LanguageModelOptions language_model_options_from_json(std::string_view text) {
  LanguageModelOptions options;
  train::from_json(settings(options), text, "language model options");
  return options;
}

void store(const LanguageModel& model, train::Checkpoint& checkpoint) {
  for (nn::NamedArray& named : train::with_prefix(nn::values(nn::parameters(model)), "model"))
    checkpoint.arrays.push_back(std::move(named));
  checkpoint.metadata["model"] = to_json(model.options);
}

LanguageModel restore_language_model(const train::Checkpoint& checkpoint) {
  LanguageModel model(language_model_options_from_json(train::metadata_value(checkpoint, "model")), 0);
  std::vector<nn::NamedParameter> parameters = nn::parameters(model);
  nn::set_values(parameters, train::without_prefix(checkpoint.arrays, "model"));
  return model;
}

}  // namespace moxie::moe
