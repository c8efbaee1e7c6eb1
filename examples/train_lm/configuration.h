// SPDX-License-Identifier: Apache-2.0
// What a run is: everything that decides its numbers. It is stored with the run, which goes on with it.
#pragma once
#include <string>
#include <vector>

#include "moe/language_model.h"
#include "nn/optimizer.h"
#include "nn/schedule.h"
#include "nn/train/settings.h"

namespace moxie::train_lm {

struct Configuration {
  std::string preset = "tiny";
  moe::LanguageModelOptions model;

  std::string data;  // a file or a folder
  double validation_share = 0.05;
  int64_t context = 128;      // tokens per sequence
  int64_t batch = 16;         // sequences per optimizer step
  int64_t micro_batches = 1;  // parts in which they are computed

  nn::OptimizerKind optimizer = nn::OptimizerKind::adamw;
  double lr = 3e-3;
  int64_t warmup = 50;  // steps
  nn::Decay decay = nn::Decay::cosine;
  double final_lr_share = 0.1;
  double weight_decay = 0.1;
  double clip = 1;
  double beta1 = 0.9, beta2 = 0.95;  // adamw, adam, lion, and muon's AdamW
  double momentum = 0.9;             // sgd, muon
  Dtype dtype = Dtype::f32;          // of activations and matmul operands
  uint64_t seed = 1;

  int64_t steps = 0;   // 0: not known yet, to be found from `minutes`
  double minutes = 0;  // 0: `steps` decides

  int64_t eval_every = 0;          // steps between validations; 0: a twelfth of the run
  int64_t eval_batches = 8;        // of each validation on the way
  int64_t final_tokens = 1 << 18;  // at most so many tokens in the last validation; 0: all
  int64_t sample_every = -1;       // steps between samples on the way; 0: none, -1: a quarter of the run
  int64_t sample_bytes = 500;      // of the sample at the end

  int64_t tokens_per_step() const { return batch * context; }
  nn::OptimizerOptions optimizer_options() const;
  nn::Schedule schedule() const;
  // The intervals with "0: a twelfth" and so on resolved; 0 for "never" and while the number of steps isn't known.
  int64_t eval_interval() const;
  int64_t sample_interval() const;
};

struct Preset {
  const char* name;
  const char* description;
};
const std::vector<Preset>& presets();
// The configuration of a preset; all but "dense" have the perturbed cosine router and the ERC loss with alpha 1. Throws
// std::invalid_argument naming the presets where there is none of this name.
Configuration preset(const std::string& name);

// In `--minutes` runs the first steps are timed before the number of steps is known, so their learning rate must not
// depend on it: the warm-up is at least this long.
inline constexpr int64_t timed_steps = 23;

// Changes the optimizer, and the learning rate, weight decay, betas and momentum with it, from what suits the old one
// to what suits the new one.
void set_optimizer(Configuration& configuration, nn::OptimizerKind optimizer);

// Throws std::invalid_argument naming the first impossible value. What the model and the optimizer check themselves is
// left to them.
void validate(const Configuration& configuration);

std::string to_json(const Configuration& configuration);
// Values that the text leaves out are those of `base`.
Configuration configuration_from_json(std::string_view text, const std::string& what, Configuration base = {});

}  // namespace moxie::train_lm
