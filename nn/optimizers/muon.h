// SPDX-License-Identifier: Apache-2.0
// Muon: momentum whose steps are made nearly orthogonal, matrix by matrix; AdamW for everything that is no matrix.
#pragma once
#include <string_view>

#include "nn/optimizers/newton_schulz.h"
#include "nn/optimizers/slots.h"

namespace moxie::nn {

// How long the step of a matrix [out, in] is, which is orthogonal before.
enum class MuonScale {
  match_adamw,  // 0.2 sqrt(max(out, in)): as long as AdamW's usual ones, so both share a learning rate
  original      // sqrt(max(1, out / in))
};
const char* name_of(MuonScale scale);
// Throws std::invalid_argument for a name other than match_adamw, original.
MuonScale muon_scale_from_name(std::string_view name);

struct MuonOptions {
  double lr = 1e-3;
  double momentum = 0.95;
  bool nesterov = true;
  double weight_decay = 0.1;  // decoupled
  double clip = 1.0;          // largest global norm of the gradient; 0: no clipping
  MuonScale scale = MuonScale::match_adamw;
  NewtonSchulz iteration = {};
  // Which parameters are matrices, in place of is_muon_matrix.
  std::function<bool(const NamedParameter&)> matrices = {};
  // The others get AdamW at `adamw_lr_scale` times the learning rate, and the same weight decay.
  double adamw_lr_scale = 1;
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
};

// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon; weight decay and match_adamw: Liu et al. 2025, arXiv
// 2502.16982): m = momentum m + (1 - momentum) g, u = m, or for Nesterov's momentum m + (1 - momentum) g,
// w = w (1 - lr weight_decay) - lr scale NewtonSchulz(u), computed in the parameter's dtype. Every expert of a
// parameter [experts, out, in] is a matrix of its own, and so is each of those that ParameterOptions::stacked names
// (the gate and up halves, the queries, keys and values of attention); the scale is that of each. It keeps "momentum"
// for matrices, "mean" and "variance" for the others. A step uses the memory of the gradients.
class Muon final : public Optimizer {
 public:
  // Throws std::invalid_argument also where `matrices` takes a parameter that is neither [out, in] nor [.., out, in].
  explicit Muon(std::vector<NamedParameter> parameters, const MuonOptions& options = {},
                const std::vector<ParameterGroup>& groups = {});

  const MuonOptions& options() const { return options_; }
  const char* name() const override { return "muon"; }
  double lr() const override { return options_.lr; }
  int64_t steps() const override { return slots_.steps(); }
  void advance(double lr) override { slots_.advance(rates(lr, slots_.steps() + 1)); }
  std::vector<NamedArray> state() const override { return slots_.state(); }
  void set_state(const std::vector<NamedArray>& arrays, int64_t steps) override { slots_.set_state(arrays, steps); }

 private:
  GradientNorm update(double lr, double divisor) override;
  Rates rates(double lr, int64_t step) const;
  template <class T> void orthogonalize(const OptimizerSlot& slot) const;
  MuonOptions options_;
  OptimizerSlots slots_;
  UploadedList matrices_, others_;
};

// Whether Muon takes a parameter as a matrix or a batch of matrices: [out, in] or [experts, out, in], and no table
// (embeddings, the output head).
bool is_muon_matrix(const NamedParameter& named);

}  // namespace moxie::nn
