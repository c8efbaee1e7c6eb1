// SPDX-License-Identifier: Apache-2.0
// Tiny Mixtral, OLMoE and Qwen3-MoE models against transformers: the same weights give the same logits, losses and
// gradients. docs/moe/transformers.md has the mapping of options and names in words; tests/fixtures/transformers_moe.py
// made the numbers.
#include "moe/language_model.h"
#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

struct Peer {
  std::string name;
  LanguageModelOptions options;
};

std::vector<Peer> peers() {
  LanguageModelOptions shared{.vocabulary = 64, .layers = 2, .width = 32, .heads = 4};
  shared.balance = BalanceNormalization::hf;
  shared.moe.router = {.kind = RouterKind::linear, .top_k = 2, .bias = false};
  LanguageModelOptions mixtral = shared, olmoe = shared, qwen3 = shared;
  mixtral.kv_heads = 2, mixtral.rope_base = 1e6, mixtral.balance_weight = 0.02;
  mixtral.moe.hidden = 16, mixtral.moe.router.experts = 4;
  mixtral.moe.router.weighting = Weighting::after_top_k;
  olmoe.qk_norm = nn::QkNorm::whole, olmoe.clip_qkv = 1.25, olmoe.balance_weight = 0.01;
  olmoe.moe.hidden = 12, olmoe.moe.router.experts = 8;
  olmoe.moe.router.weighting = Weighting::before_top_k;
  qwen3.layers = 3, qwen3.dense_layers = 1, qwen3.dense_hidden = 20, qwen3.kv_heads = 2, qwen3.head_dim = 12;
  qwen3.qk_norm = nn::QkNorm::per_head, qwen3.attention_bias = true;
  qwen3.rope_base = 5e5, qwen3.norm_epsilon = 1e-6, qwen3.balance_weight = 0.03;
  qwen3.moe.hidden = 10, qwen3.moe.router.experts = 6;
  qwen3.moe.router.weighting = Weighting::before_top_k_renormalized;
  return {{"mixtral", mixtral}, {"olmoe", olmoe}, {"qwen3_moe", qwen3}};
}

// The tensors of transformers whose rows, one after another, are moxie's parameter `name`.
std::vector<std::string> sources(const std::string& name) {
  if (name == "embedding.weight") return {"model.embed_tokens.weight"};
  if (name == "norm.weight") return {"model.norm.weight"};
  if (name == "head") return {"lm_head.weight"};
  const size_t number = name.find('.') + 1, part = name.find('.', number) + 1;
  const std::string layer = "model.layers." + name.substr(number, part - number), rest = name.substr(part);
  const std::map<std::string, std::vector<std::string>> parts{
      {"attention_norm.weight", {"input_layernorm.weight"}},
      {"attention.qkv.weight", {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"}},
      {"attention.qkv.bias", {"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"}},
      {"attention.output.weight", {"self_attn.o_proj.weight"}},
      {"attention.output.bias", {"self_attn.o_proj.bias"}},
      {"attention.q_norm.weight", {"self_attn.q_norm.weight"}},
      {"attention.k_norm.weight", {"self_attn.k_norm.weight"}},
      {"feed_forward_norm.weight", {"post_attention_layernorm.weight"}},
      {"moe.router.weight", {"mlp.gate.weight"}},
      {"moe.experts.gate_up", {"mlp.experts.gate_up_proj"}},
      {"moe.experts.down", {"mlp.experts.down_proj"}},
      {"dense.up.weight", {"mlp.gate_proj.weight", "mlp.up_proj.weight"}},
      {"dense.down.weight", {"mlp.down_proj.weight"}},
  };
  std::vector<std::string> names;
  for (const std::string& source : parts.at(rest)) names.push_back(layer + source);
  return names;
}

// The sources of a parameter in the fixture, as one tensor in the parameter's shape.
Array joined(const Fixture& fixture, const std::string& prefix, const nn::NamedParameter& named) {
  std::vector<Tensor> rows;
  for (const std::string& source : sources(named.name))
    rows.push_back(cast(Tensor(fixture[prefix + source]), Dtype::f64));
  const Array whole = concat(rows, 0).value();
  REQUIRE(whole.shape() == named.parameter.shape());
  return whole;
}

LanguageModel model_of(const Fixture& fixture, const Peer& peer, Dtype dtype) {
  LanguageModel model(peer.options, 1, current_device());
  nn::to(model, dtype);
  for (nn::NamedParameter& named : nn::parameters(model)) named.parameter.set_value(joined(fixture, "weight.", named));
  return model;
}

// What follows each token; nothing follows the last.
Array next_tokens(const Array& tokens) {
  std::vector<int32_t> next = tokens.to_vector<int32_t>();
  const auto time = static_cast<size_t>(tokens.dim(1));
  for (size_t i = 0; i < next.size(); ++i) next[i] = (i + 1) % time == 0 ? -100 : next[i + 1];
  return integers(next, tokens.shape());
}

DEVICE_TEST_CASE("Mixtral, OLMoE and Qwen3-MoE of transformers: logits, balance loss and every gradient in f64") {
  for (const Peer& peer : peers()) {
    INFO(peer.name);
    const Fixture fixture(peer.name + ".safetensors");
    const LanguageModel model = model_of(fixture, peer, Dtype::f64);
    const nn::Context context{.training = true, .dtype = Dtype::f64};
    const Array tokens = fixture["tokens"];
    CHECK(difference(model(tokens, context).value(), fixture["logits"]) < 1e-10);
    const Losses losses = model.losses(tokens, next_tokens(tokens), context);
    const Tensor total = losses.total(model.options);
    CHECK(losses.balance.item() == doctest::Approx(fixture["balance"].item()).epsilon(1e-10));
    CHECK(total.item() == doctest::Approx(fixture["loss"].item()).epsilon(1e-10));
    total.backward();
    for (const nn::NamedParameter& named : nn::parameters(model)) {
      INFO(named.name);
      CHECK(difference(named.parameter.grad(), joined(fixture, "grad.", named)) < 1e-10);
    }
  }
}

DEVICE_TEST_CASE("every weight of the transformers models has its place") {
  for (const Peer& peer : peers()) {
    const Fixture fixture(peer.name + ".safetensors");
    const LanguageModel model(peer.options, 1, current_device());
    size_t used = 0;
    for (const nn::NamedParameter& named : nn::parameters(model)) used += sources(named.name).size();
    CHECK(used == fixture.count("weight."));
  }
}

DEVICE_TEST_CASE("Mixtral, OLMoE and Qwen3-MoE of transformers: logits in f32 and bf16") {
  for (const Peer& peer : peers()) {
    INFO(peer.name);
    const Fixture fixture(peer.name + ".safetensors");
    const LanguageModel model = model_of(fixture, peer, Dtype::f32);
    const Array tokens = fixture["tokens"], logits = fixture["logits"];
    CHECK(difference(model(tokens, {}).value(), logits) < 1e-5);
    CHECK(difference(model(tokens, {.dtype = Dtype::bf16}).value(), logits) < 0.1);
  }
}

}  // namespace
}  // namespace moxie::moe
