// SPDX-License-Identifier: Apache-2.0
#include "examples/train_lm/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "examples/train_lm/describe.h"
#include "examples/train_lm/plots.h"
#include "examples/train_lm/text.h"
#include "nn/atomic_file.h"
#include "nn/train/interrupt.h"
#include "nn/train/metrics.h"
#include "nn/train/progress.h"
#include "nn/train/tokenizer.h"

namespace moxie::train_lm {
namespace {

using Json = nlohmann::ordered_json;

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The mean of the last values: one step's loss says little.
double mean_of_last(const std::vector<double>& values, size_t count) {
  const size_t used = std::min(values.size(), count);
  double sum = 0;
  for (size_t i = values.size() - used; i < values.size(); ++i) sum += values[i];
  return used == 0 ? 0 : sum / static_cast<double>(used);
}

Json layers_of(const Run& run, const Evaluation& evaluation) {
  const double alpha = run.configuration.model.moe.erc_alpha;
  const std::vector<int64_t> before = violations(run.coupling_before, alpha);
  // Without validation text, the last steps' loads tell as much.
  const Loads& loads = evaluation.loads.empty() && !run.load.rows().empty() ? run.load.rows().back() : evaluation.loads;
  Json layers = Json::array();
  size_t index = 0;
  for (size_t block = 0; block < run.model.blocks.size(); ++block) {
    if (!run.model.blocks[block].moe) continue;
    const moe::LoadMetrics load = moe::load_metrics(loads.at(index));
    Json layer{{"layer", block},
               {"load", load.load},
               {"max_over_mean", load.max_over_mean},
               {"dead_experts", load.dead},
               {"routing_entropy", load.routing_entropy}};
    if (!before.empty()) {
      const moe::CouplingMetrics after = moe::coupling_metrics(*run.model.blocks[block].moe, alpha);
      layer["erc_violations_before"] = before[index];
      layer["erc_violations_after"] = after.violations;
      layer["log_diagonal"] = after.log_diagonal;
      layer["log_off_diagonal"] = after.log_off_diagonal;
      layer["epsilon"] = after.epsilon;
    }
    layers.push_back(layer);
    ++index;
  }
  return layers;
}

Json summary_of(const Run& run, const Evaluation& evaluation, const train::Metrics& metrics) {
  const Configuration& c = run.configuration;
  const ModelSize size = size_of(run.model);
  double milliseconds = 0;
  for (const double value : metrics.column("step_ms")) milliseconds += value;
  return {{"steps", run.step},
          {"seed", c.seed},
          {"preset", c.preset},
          {"router", c.model.dense_layers < c.model.layers ? moe::describe(c.model.moe.router) : "none"},
          {"erc", c.model.moe.erc},
          {"erc_alpha", c.model.moe.erc_alpha},
          {"parameters", size.parameters},
          {"active_parameters", size.active},
          {"data", run.data.identity()},
          {"tokens_seen", run.step * c.tokens_per_step()},
          {"epochs", static_cast<double>(run.step) / run.data.steps_per_epoch(c.batch, c.context)},
          {"initial_validation_loss", run.initial_validation_loss},
          {"validation_loss", evaluation.loss},
          {"validation_bits_per_byte", evaluation.bits()},
          {"validation_tokens", evaluation.tokens},
          {"validation_complete", evaluation.complete()},
          {"train_loss", mean_of_last(metrics.column("loss"), 50)},
          {"step_ms", median(metrics.column("step_ms"))},
          {"tokens_per_s", median(metrics.column("tokens_per_s"))},
          {"gflop_per_s", median(metrics.column("gflop_per_s"))},
          {"seconds_in_steps", milliseconds / 1000},
          {"layers", layers_of(run, evaluation)}};
}

void print_layers(const Json& layers, double alpha) {
  if (layers.empty()) return;
  const bool coupled = layers[0].contains("erc_violations_after");
  fmt::print("\nlayer  max/mean load  dead experts  routing entropy{}\n",
             coupled ? fmt::format("  ERC violations (alpha {})", alpha) : "");
  for (const Json& layer : layers) {
    fmt::print("{:>5}  {:>13.2f}  {:>12}  {:>15.3f}", layer["layer"].get<int>(), layer["max_over_mean"].get<double>(),
               layer["dead_experts"].get<int>(), layer["routing_entropy"].get<double>());
    if (coupled) {
      fmt::print("  {} before, {} after", layer["erc_violations_before"].get<int>(),
                 layer["erc_violations_after"].get<int>());
    }
    fmt::print("\n");
  }
}

}  // namespace

std::string words_of(const Evaluation& evaluation, const Configuration& c) {
  if (evaluation.tokens == 0) return "not measured, there is no validation text";
  const std::string part =
      evaluation.complete()
          ? fmt::format("the whole held-out text, {} windows of {} bytes", evaluation.windows, c.context)
          : fmt::format("{} of the held-out text's {} windows of {} bytes, evenly spread", evaluation.windows,
                        evaluation.all_windows, c.context);
  return fmt::format("{:.4f} nats per byte, {:.4f} bits per byte ({})", evaluation.loss, evaluation.bits(), part);
}

bool report(const Run& run, const Files& files) {
  const Configuration& c = run.configuration;
  const auto evaluation = evaluate(run, final_batches(c), [] { return !train::interrupted(); });
  if (!evaluation) return false;
  fmt::print("\nvalidation loss {}\n", words_of(*evaluation, c));
  const train::Metrics metrics = train::read_metrics(files.path("metrics.csv"));
  const Json summary = summary_of(run, *evaluation, metrics);
  print_layers(summary["layers"], c.model.moe.erc_alpha);
  std::fflush(stdout);

  const std::string prompt = prompt_of(run), text = continue_text(run, prompt, c.sample_bytes);
  if (train::interrupted()) return false;
  nn::write_file(files.path("sample.txt"), prompt + text + "\n");
  fmt::print("\n{}|{}\n", train::printable(prompt), train::printable(text));
  std::fflush(stdout);

  const std::vector<Picture> pictures = draw_pictures(run, *evaluation, metrics, files);
  nn::write_file(files.path("summary.json"), summary.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  fmt::print("\n{:<34} what the model wrote (after the prompt)\n", files.path("sample.txt"));
  for (const Picture& picture : pictures) fmt::print("{:<34} {}\n", picture.path, picture.subject);
  fmt::print("{:<34} these results; metrics.csv, metrics.jsonl and load.csv have every step\n",
             files.path("summary.json"));
  fmt::print("{:<34} the model: sample_lm --checkpoint {}\n", files.checkpoint(), files.folder);
  return true;
}

}  // namespace moxie::train_lm
