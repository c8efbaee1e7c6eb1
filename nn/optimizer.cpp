// SPDX-License-Identifier: Apache-2.0
#include "nn/optimizer.h"

namespace moxie::nn {

const char* name_of(OptimizerKind kind) {
  switch (kind) {
    case OptimizerKind::adamw: return "adamw";
    case OptimizerKind::adam: return "adam";
    case OptimizerKind::sgd: return "sgd";
    case OptimizerKind::lion: return "lion";
    case OptimizerKind::muon: return "muon";
  }
  return "?";
}

OptimizerKind optimizer_kind_from_name(std::string_view name) {
  for (const OptimizerKind kind :
       {OptimizerKind::adamw, OptimizerKind::adam, OptimizerKind::sgd, OptimizerKind::lion, OptimizerKind::muon})
    if (name == name_of(kind)) return kind;
  throw_invalid_argument(fmt::format("optimizer: must be adamw, adam, sgd, lion or muon, got '{}'", name));
}

OptimizerOptions OptimizerOptions::defaults(OptimizerKind kind) {
  OptimizerOptions o{.kind = kind};
  const auto take = [&](const auto& own) { o.lr = own.lr, o.weight_decay = own.weight_decay, o.clip = own.clip; };
  const auto take_betas = [&](const auto& own) { o.beta1 = own.beta1, o.beta2 = own.beta2; };
  const auto take_momentum = [&](const auto& own) { o.momentum = own.momentum, o.nesterov = own.nesterov; };
  switch (kind) {
    case OptimizerKind::adamw: take(AdamWOptions()), take_betas(AdamWOptions()); break;
    case OptimizerKind::adam: take(AdamOptions()), take_betas(AdamOptions()); break;
    case OptimizerKind::sgd: take(SgdOptions()), take_momentum(SgdOptions()); break;
    case OptimizerKind::lion: take(LionOptions()), take_betas(LionOptions()); break;
    case OptimizerKind::muon:
      take(MuonOptions()), take_betas(MuonOptions()), take_momentum(MuonOptions());
      o.muon_scale = MuonOptions().scale, o.adamw_lr_scale = MuonOptions().adamw_lr_scale;
      break;
  }
  return o;
}

std::unique_ptr<Optimizer> make_optimizer(std::vector<NamedParameter> parameters, const OptimizerOptions& o,
                                          const std::vector<ParameterGroup>& groups) {
  switch (o.kind) {
    case OptimizerKind::adam: {
      const AdamOptions options{o.lr, o.beta1, o.beta2, o.epsilon, o.weight_decay, o.clip};
      return std::make_unique<Adam>(std::move(parameters), options, groups);
    }
    case OptimizerKind::sgd: {
      const SgdOptions options{o.lr, o.momentum, o.nesterov, o.weight_decay, o.clip};
      return std::make_unique<Sgd>(std::move(parameters), options, groups);
    }
    case OptimizerKind::lion: {
      const LionOptions options{o.lr, o.beta1, o.beta2, o.weight_decay, o.clip};
      return std::make_unique<Lion>(std::move(parameters), options, groups);
    }
    case OptimizerKind::muon: {
      const MuonOptions options{.lr = o.lr,
                                .momentum = o.momentum,
                                .nesterov = o.nesterov,
                                .weight_decay = o.weight_decay,
                                .clip = o.clip,
                                .scale = o.muon_scale,
                                .adamw_lr_scale = o.adamw_lr_scale,
                                .beta1 = o.beta1,
                                .beta2 = o.beta2,
                                .epsilon = o.epsilon};
      return std::make_unique<Muon>(std::move(parameters), options, groups);
    }
    default: break;
  }
  const AdamWOptions options{o.lr, o.beta1, o.beta2, o.epsilon, o.weight_decay, o.clip};
  return std::make_unique<AdamW>(std::move(parameters), options, groups);
}

}  // namespace moxie::nn
