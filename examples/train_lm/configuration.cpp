// SPDX-License-Identifier: Apache-2.0
#include "examples/train_lm/configuration.h"

#include <algorithm>
#include <cmath>

#include "moe/language_model_config.h"

namespace moxie::train_lm {
namespace {

Dtype compute_dtype_from_name(std::string_view name) {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    if (name == name_of(dtype)) return dtype;
  throw_invalid_argument(fmt::format("dtype must be f32 or bf16, got '{}'", name));
}

std::vector<train::Setting> settings(Configuration& c) {
  std::vector<train::Setting> all{{"preset", &c.preset}};
  for (train::Setting& setting : train::nested("model", moe::settings(c.model))) all.push_back(std::move(setting));
  for (train::Setting& setting : std::vector<train::Setting>{
           {"data", &c.data},
           {"validation_share", &c.validation_share},
           {"context", &c.context},
           {"batch", &c.batch},
           {"micro_batches", &c.micro_batches},
           train::choice("optimizer", c.optimizer, nn::optimizer_kind_from_name),
           {"lr", &c.lr},
           {"warmup", &c.warmup},
           train::choice("decay", c.decay, nn::decay_from_name),
           {"final_lr_share", &c.final_lr_share},
           {"weight_decay", &c.weight_decay},
           {"clip", &c.clip},
           {"beta1", &c.beta1},
           {"beta2", &c.beta2},
           {"momentum", &c.momentum},
           train::choice("dtype", c.dtype, compute_dtype_from_name),
           {"seed", &c.seed},
           {"steps", &c.steps},
           {"minutes", &c.minutes},
           {"eval_every", &c.eval_every},
           {"eval_batches", &c.eval_batches},
           {"final_tokens", &c.final_tokens},
           {"sample_every", &c.sample_every},
           {"sample_bytes", &c.sample_bytes},
       })
    all.push_back(std::move(setting));
  return all;
}

// How large a learning rate and weight decay an optimizer needs, AdamW's being 1.
struct Steps {
  double lr = 1, weight_decay = 1;
};
Steps steps_of(nn::OptimizerKind optimizer) {
  switch (optimizer) {
    case nn::OptimizerKind::lion: return {1.0 / 3, 3};  // every element moves by the learning rate
    case nn::OptimizerKind::sgd: return {100, 0.01};    // steps shrink with the gradient
    case nn::OptimizerKind::adam: return {1, 0.001};    // decay is part of the gradient, which is small
    default: return {};                                 // muon matches AdamW's steps
  }
}

struct Size {
  int64_t layers, width, heads, experts, top_k, hidden, context, batch;
};

Configuration of_size(const std::string& name, const Size& size) {
  Configuration c;
  c.preset = name;
  c.model.layers = size.layers, c.model.width = size.width, c.model.heads = size.heads;
  c.model.moe.router.experts = size.experts, c.model.moe.router.top_k = size.top_k;
  c.model.moe.hidden = size.hidden, c.model.moe.erc = true;
  c.context = size.context, c.batch = size.batch;
  return c;
}

}  // namespace

nn::OptimizerOptions Configuration::optimizer_options() const {
  nn::OptimizerOptions options = nn::OptimizerOptions::defaults(optimizer);
  options.lr = lr, options.weight_decay = weight_decay, options.clip = clip;
  options.beta1 = beta1, options.beta2 = beta2, options.momentum = momentum;
  return options;
}

void set_optimizer(Configuration& c, nn::OptimizerKind optimizer) {
  const Steps before = steps_of(c.optimizer), after = steps_of(optimizer);
  const nn::OptimizerOptions defaults = nn::OptimizerOptions::defaults(optimizer);
  c.optimizer = optimizer;
  c.lr *= after.lr / before.lr;
  c.weight_decay *= after.weight_decay / before.weight_decay;
  c.beta1 = defaults.beta1, c.beta2 = defaults.beta2, c.momentum = defaults.momentum;
}

nn::Schedule Configuration::schedule() const {
  return {.peak = lr,
          .steps = std::max<int64_t>(steps, 1),
          .warmup = warmup,
          .decay = decay,
          .final_share = final_lr_share};
}

int64_t Configuration::eval_interval() const {
  if (steps == 0) return 0;
  return eval_every > 0 ? eval_every : std::max<int64_t>(1, (steps + 11) / 12);
}

int64_t Configuration::sample_interval() const {
  if (steps == 0 || sample_every == 0) return 0;
  return sample_every > 0 ? sample_every : std::max<int64_t>(1, (steps + 3) / 4);
}

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all{
      {"nano", "seconds: 2 layers, width 32, 4 experts top 2, hidden 32, 16 x 32 tokens; to try things out"},
      {"tiny", "minutes: 4 layers, width 128, 8 experts top 2, hidden 128, 16 x 128 tokens; the demo"},
      {"small", "hours: 8 layers, width 256, 16 experts top 2, hidden 256, 16 x 256 tokens"},
      {"fine", "hours: as small with 64 experts top 8, hidden 64: many small experts"},
      {"dense", "hours: as small without experts, hidden 512: the dense model of the same active size"},
  };
  return all;
}

Configuration preset(const std::string& name) {
  if (name == "nano") {
    Configuration c = of_size(name, {2, 32, 2, 4, 2, 32, 32, 16});
    c.warmup = 20;
    return c;
  }
  if (name == "tiny") return of_size(name, {4, 128, 4, 8, 2, 128, 128, 16});
  if (name == "small" || name == "fine") {
    Configuration c =
        of_size(name, name == "small" ? Size{8, 256, 8, 16, 2, 256, 256, 16} : Size{8, 256, 8, 64, 8, 64, 256, 16});
    c.lr = 1.5e-3, c.warmup = 200;
    return c;
  }
  if (name == "dense") {
    Configuration c = of_size(name, {8, 256, 8, 1, 1, 512, 256, 16});
    c.lr = 1.5e-3, c.warmup = 200;
    c.model.dense_layers = c.model.layers, c.model.moe.erc = false;
    return c;
  }
  std::string names;
  for (const Preset& known : presets()) names += (names.empty() ? "" : ", ") + std::string(known.name);
  throw_invalid_argument(fmt::format("there is no preset '{}', only {}", name, names));
}

void validate(const Configuration& c) {
  check(c.context >= 1 && c.batch >= 1 && c.micro_batches >= 1,
        "context, batch and micro_batches must be at least 1, got {}, {}, {}", c.context, c.batch, c.micro_batches);
  check(c.batch % c.micro_batches == 0, "batch must be a multiple of micro_batches, got {} and {}", c.batch,
        c.micro_batches);
  check(c.steps >= 0 && c.steps <= UINT32_MAX, "steps must be between 1 and {}, got {}", UINT32_MAX, c.steps);
  check(std::isfinite(c.minutes) && c.minutes >= 0, "minutes must not be negative, got {}", c.minutes);
  check(c.steps > 0 || c.minutes > 0, "how long? give --steps or --minutes above 0");
  check(std::isfinite(c.lr) && c.lr > 0, "lr must be positive, got {}", c.lr);
  check(c.warmup >= 0 && c.final_lr_share >= 0 && c.final_lr_share <= 1,
        "warmup must not be negative and final_lr_share in [0, 1], got {} and {}", c.warmup, c.final_lr_share);
  check(
      c.eval_every >= 0 && c.eval_batches >= 1 && c.final_tokens >= 0 && c.sample_every >= -1 && c.sample_bytes >= 0,
      "eval_every, final_tokens and sample_bytes must not be negative and eval_batches at least 1, got {}, {}, {}, {}",
      c.eval_every, c.final_tokens, c.sample_bytes, c.eval_batches);
  check(c.model.vocabulary == 256, "the byte tokenizer needs a vocabulary of 256, got {}", c.model.vocabulary);
  const moe::RouterOptions& router = c.model.moe.router;
  const std::pair<const char*, double> numbers[] = {{"tau_expert", router.tau_expert},
                                                    {"tau_token", router.tau_token},
                                                    {"scale", router.scale},
                                                    {"erc_alpha", c.model.moe.erc_alpha},
                                                    {"balance_weight", c.model.balance_weight},
                                                    {"z_weight", c.model.z_weight},
                                                    {"load_weight", c.model.load_weight},
                                                    {"weight_decay", c.weight_decay},
                                                    {"clip", c.clip}};
  for (const auto& [name, value] : numbers)
    check(std::isfinite(value) && value >= 0, "{} must not be negative, got {}", name, value);
}

std::string to_json(const Configuration& configuration) {
  Configuration copy = configuration;
  return train::to_json(settings(copy));
}

Configuration configuration_from_json(std::string_view text, const std::string& what, Configuration base) {
  train::from_json(settings(base), text, what);
  return base;
}

}  // namespace moxie::train_lm
