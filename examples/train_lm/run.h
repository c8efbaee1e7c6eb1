// SPDX-License-Identifier: Apache-2.0
// A run: model, optimizer, data and everything else that changes from step to step, and its way to disk and back.
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "examples/train_lm/configuration.h"
#include "examples/train_lm/load_history.h"
#include "moe/metrics.h"
#include "nn/step_graph.h"
#include "nn/train/checkpoint.h"
#include "nn/train/data.h"

namespace moxie::train_lm {

// The coupling matrix M of every MoE layer: [experts, experts], row-major.
using Couplings = std::vector<std::vector<double>>;

// What a step's passes leave on the device.
struct Part {
  // Cross entropy, balance, z, load loss, ERC: those that were computed.
  std::array<Array, 5> losses;
  std::vector<Array> offsets;  // of the slots, one per MoE layer
};

// Steps as one graph, with the arrays that it reads and those that it writes.
struct GraphOfSteps {
  nn::StepGraph steps;
  Array tokens, targets;
  std::vector<Part> parts = {};
};

struct Run {
  Configuration configuration;
  train::TextData data;
  moe::LanguageModel model;
  std::unique_ptr<nn::Optimizer> optimizer;
  int64_t step = 0;  // optimizer steps done
  double initial_validation_loss = 0;
  Couplings coupling_before;  // at step 0; empty where M isn't defined
  LoadHistory load;
  std::unique_ptr<GraphOfSteps> graph;  // null: steps are made op by op

  // A new run with freshly drawn parameters, the same on every device. Throws std::invalid_argument for impossible
  // options and data too short.
  explicit Run(const Configuration& wanted, Device device = Device::cpu());
  // The run of a checkpoint, going on where it was saved, on any device. `data` is where its data lies now, if it was
  // moved. Throws std::invalid_argument for what is no checkpoint of train_lm, and where the text is not the one it was
  // trained on.
  Run(const train::Checkpoint& checkpoint, const std::optional<std::string>& moved_data, Device device = Device::cpu());

  // From now on steps are repeated as one graph; the numbers are the same.
  void use_graph();
  train::Checkpoint checkpoint() const;
  int64_t experts() const { return configuration.model.moe.router.experts; }
};

// What one optimizer step did.
struct StepResult {
  int64_t step = 0;               // counting from 1
  double loss = 0;                // cross entropy, mean over the tokens, nats
  double balance = 0, z = 0;      // NaN without MoE layers
  double load_loss = 0, erc = 0;  // NaN where they aren't computed
  double gradient_norm = 0, learning_rate = 0;
  Loads loads{};             // of the whole step
  double max_over_mean = 0;  // of the layer with the most uneven load; NaN without MoE layers
  int64_t dead = 0;          // experts without an assignment in this step, over all layers
};

// A step that was asked of the device, whose numbers are still there.
struct PendingStep {
  int64_t step = 0;
  double learning_rate = 0;
  std::vector<Part> parts = {};
  nn::GradientNorm norm = {};

  // Waits for the step. Throws std::runtime_error where the gradient isn't finite; this step and those that were
  // started after it then changed nothing.
  StepResult read() const;
};

// Starts one step and counts it; on the CPU it is done then, and std::runtime_error is thrown already where the
// gradient isn't finite. On a GPU nothing waits.
PendingStep start_step(Run& run);

// M of the model's MoE layers as they are now; empty where M isn't defined.
Couplings couplings(const moe::LanguageModel& model);
// ERC constraints that M violates at `alpha`, of the 2 n (n - 1) of each layer.
std::vector<int64_t> violations(const Couplings& couplings, double alpha);
std::optional<int64_t> total_violations(const Run& run);

// The files of a run.
struct Files {
  std::string folder;
  std::string path(const std::string& name) const;
  std::string checkpoint() const { return path("checkpoint.safetensors"); }
};

// Writes config.json.
void save_configuration(const Run& run, const Files& files);
// Saves the checkpoint and load.csv.
void save(const Run& run, const Files& files);
train::Checkpoint load_run_checkpoint(const Files& files);

}  // namespace moxie::train_lm
