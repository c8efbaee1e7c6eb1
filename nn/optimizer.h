// SPDX-License-Identifier: Apache-2.0
// The optimizers, and one by name.
#pragma once
#include <memory>
#include <string_view>

#include "nn/optimizers/adam.h"
#include "nn/optimizers/lion.h"
#include "nn/optimizers/muon.h"
#include "nn/optimizers/sgd.h"

namespace moxie::nn {

enum class OptimizerKind { adamw, adam, sgd, lion, muon };
const char* name_of(OptimizerKind kind);
// Throws std::invalid_argument for a name other than adamw, adam, sgd, lion, muon.
OptimizerKind optimizer_kind_from_name(std::string_view name);

// Options of any optimizer, for programs that choose one when they run; what it doesn't have is not looked at.
struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adamw;
  double lr = 1e-3;
  double weight_decay = 0.1;
  double clip = 1.0;
  double beta1 = 0.9, beta2 = 0.95;  // adamw, adam, lion, and muon's AdamW
  double epsilon = 1e-8;             // adamw, adam, and muon's AdamW
  double momentum = 0.9;             // sgd, muon
  bool nesterov = false;             // sgd, muon
  MuonScale muon_scale = MuonScale::match_adamw;
  double adamw_lr_scale = 1;  // muon

  // Those with which the optimizer comes.
  static OptimizerOptions defaults(OptimizerKind kind);
};

// Throws what its constructor throws.
std::unique_ptr<Optimizer> make_optimizer(std::vector<NamedParameter> parameters, const OptimizerOptions& options,
                                          const std::vector<ParameterGroup>& groups = {});

}  // namespace moxie::nn
