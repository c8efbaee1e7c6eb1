// SPDX-License-Identifier: Apache-2.0
// Times whole training steps of the language model: forward, backward, clipping and AdamW. With --export and --turns it
// is the moxie side of bench/compare_torch.py.
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "bench/shapes.h"
#include "bench/timing.h"
#include "core/kernels/random/fill.h"
#include "core/launch.h"
#include "core/parallel.h"
#include "core/storage.h"
#include "moe/language_model.h"
#include "nn/optimizer.h"
#include "nn/train/memory.h"

namespace {

using namespace moxie;

using bench::ModelShape;

// A long linear warm-up, so that two programs can be compared: now and then a token's scores are so near to each other
// that rounding decides on its expert, and AdamW's first steps at the full rate would blow that up.
constexpr double learning_rate = 1e-3;
constexpr int lr_warmup = 5000;
constexpr uint64_t seed = 1;

struct Settings {
  std::string shape = "tiny", router = "linear", dtype = "f32";
  int steps = 20, warmup = 3, threads = 0;
  int64_t batch = 0;
  bool erc = false, json = false, recompute = false;
  std::string export_folder;
  int exported_steps = 20;
  bool turns = false;
};

moe::LanguageModelOptions options_of(const ModelShape& shape, const Settings& settings) {
  moe::LanguageModelOptions options;
  options.layers = shape.layers, options.width = shape.width, options.heads = shape.heads;
  options.moe = {
      .router = {.kind = moe::router_kind_from_name(settings.router), .experts = shape.experts, .top_k = shape.top_k},
      .hidden = shape.hidden,
      .erc = settings.erc && !shape.dense};
  if (shape.dense) options.dense_layers = shape.layers;
  options.recompute = settings.recompute;
  return options;
}

nn::Context context_of(int step, Dtype dtype = Dtype::f32) {
  return {.training = true, .dtype = dtype, .seed = seed, .step = static_cast<uint32_t>(step)};
}

struct Batch {
  Array tokens, targets;
};

class Trainer final {
 public:
  Trainer(const ModelShape& shape, const Settings& settings)
      : shape_(shape),
        dtype_(settings.dtype == "bf16" ? Dtype::bf16 : Dtype::f32),
        model_(options_of(shape, settings), seed),
        optimizer_(nn::parameters(model_)),
        random_(seed) {}

  const moe::LanguageModel& model() const { return model_; }
  const nn::AdamW& optimizer() const { return optimizer_; }
  Dtype dtype() const { return dtype_; }

  // As many different batches as there are steps to be compared; they are used in turns.
  void draw_batches(int count) {
    for (int i = 0; i < count; ++i) {
      batches_.push_back(draw_batch());
    }
  }
  const std::vector<Batch>& batches() const { return batches_; }

  struct Result {
    double ms, cross_entropy, total;
  };
  Result step() {
    Result result{};
    result.ms = bench::milliseconds([&] {
      const Batch& batch = batches_[static_cast<size_t>(steps_) % batches_.size()];
      {
        const moe::Losses losses = model_.losses(batch.tokens, batch.targets, context_of(steps_, dtype_));
        const Tensor total = losses.total(model_.options);
        total.backward();
        result.cross_entropy = losses.cross_entropy.item(), result.total = total.item();
      }
      optimizer_.step(learning_rate * std::min(1.0, (steps_ + 1.0) / lr_warmup));
    });
    ++steps_;
    return result;
  }

 private:
  // Sequences that can be learned in part: three of four tokens follow from the one before, the others are drawn.
  Batch draw_batch() {
    std::vector<int32_t> tokens, targets;
    for (int64_t i = 0; i < shape_.batch; ++i) {
      int32_t token = static_cast<int32_t>(random_() % 256);
      for (int64_t t = 0; t < shape_.time; ++t) {
        tokens.push_back(token);
        token = random_() % 4 == 0 ? static_cast<int32_t>(random_() % 256) : (5 * token + 17) % 256;
        targets.push_back(token);
      }
    }
    const Shape shape{shape_.batch, shape_.time};
    return {Array::from(tokens, shape), Array::from(targets, shape)};
  }

  ModelShape shape_;
  Dtype dtype_;
  moe::LanguageModel model_;
  nn::AdamW optimizer_;
  std::mt19937 random_;
  std::vector<Batch> batches_;
  int steps_ = 0;
};

// The draws behind the ERC loss's noise, uniform in (-1, 1), of one step: [layers, experts, width].
Array erc_draws(const ModelShape& shape, int step) {
  const Array draws = Array::empty({shape.layers, shape.experts, shape.width});
  const int64_t numel = shape.experts * shape.width;
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const RandomKey key = context_of(step).at_layer(layer).key(nn::Purpose::erc_proxy, false);
    const FillUniform kernel{draws.data<float>() + layer * numel, numel, 1, key};
    for_rows(draws.device(), kernel, elementwise_rows(numel), elementwise_row);
  }
  return draws;
}

// One array [steps, ..] of the arrays of all steps.
template <class Of> Array stacked(int steps, Of&& of) {
  const Array first = of(0);
  const Array all = Array::empty(first.shape().inserted(0, steps), first.options());
  for (int i = 0; i < steps; ++i) all.rows(i, 1).reshape(first.shape()).copy_from(of(i));
  return all;
}

// Writes what another program needs to make the same steps: settings.json, model.safetensors and data.safetensors.
void write_exports(const std::string& folder, const ModelShape& shape, const Trainer& trainer, int steps) {
  const moe::LanguageModelOptions& options = trainer.model().options;
  const moe::RouterOptions& router = options.moe.router;
  const nn::AdamWOptions& adam = trainer.optimizer().options();
  nn::save(trainer.model(), folder + "/model.safetensors");
  const auto at = [&](int i) -> const Batch& { return trainer.batches()[static_cast<size_t>(i)]; };
  std::vector<nn::NamedArray> data{{"tokens", stacked(steps, [&](int i) { return at(i).tokens; })},
                                   {"targets", stacked(steps, [&](int i) { return at(i).targets; })}};
  if (options.moe.erc) data.push_back({"uniform", stacked(steps, [&](int i) { return erc_draws(shape, i); })});
  nn::write_safetensors(folder + "/data.safetensors", data);
  const nlohmann::json settings{{"layers", shape.layers},
                                {"width", shape.width},
                                {"heads", shape.heads},
                                {"experts", shape.experts},
                                {"top_k", shape.top_k},
                                {"hidden", shape.hidden},
                                {"time", shape.time},
                                {"batch", shape.batch},
                                {"dense", shape.dense},
                                {"dtype", name_of(trainer.dtype())},
                                {"perturbed", router.kind == moe::RouterKind::perturbed_cosine},
                                {"erc", options.moe.erc},
                                {"tau_expert", router.tau_expert},
                                {"tau_token", router.tau_token},
                                {"erc_alpha", options.moe.erc_alpha},
                                {"balance_weight", options.balance_weight},
                                {"epsilon", options.norm_epsilon},
                                {"rope_base", options.rope_base},
                                {"lr", learning_rate},
                                {"lr_warmup", lr_warmup},
                                {"beta1", adam.beta1},
                                {"beta2", adam.beta2},
                                {"adam_epsilon", adam.epsilon},
                                {"weight_decay", adam.weight_decay},
                                {"clip", adam.clip}};
  std::ofstream(folder + "/settings.json") << settings.dump(2) << '\n';
}

int64_t page_faults() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

double megabytes(int64_t bytes) { return static_cast<double>(bytes) / 1e6; }

// Reads counts of steps, one a line, and answers each with one JSON line; "reset" begins the peak of memory anew.
void serve(Trainer& trainer) {
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "reset") {
      std::ofstream("/proc/self/clear_refs") << "5";
      continue;
    }
    std::vector<double> ms, cross_entropy, total;
    const int64_t faults = page_faults();
    for (int count = std::stoi(line); count > 0; --count) {
      const Trainer::Result result = trainer.step();
      ms.push_back(result.ms), cross_entropy.push_back(result.cross_entropy), total.push_back(result.total);
    }
    const nlohmann::json answer{{"ms", ms},
                                {"cross_entropy", cross_entropy},
                                {"total", total},
                                {"peak_mb", megabytes(train::peak_resident_bytes())},
                                {"page_faults", page_faults() - faults}};
    fmt::print("{}\n", answer.dump());
    std::fflush(stdout);
  }
}

void measure(Trainer& trainer, const ModelShape& shape, const Settings& settings) {
  std::vector<double> milliseconds;
  for (int step = 0; step < settings.warmup; ++step) trainer.step();
  const int64_t system_calls = cpu_memory().system_calls, faults = page_faults();
  Trainer::Result last{};
  for (int step = 0; step < settings.steps; ++step) milliseconds.push_back((last = trainer.step()).ms);
  const moe::LanguageModelOptions& options = trainer.model().options;
  const double ms = bench::median(milliseconds);
  const int64_t tokens = shape.batch * shape.time;
  const nlohmann::json result{{"shape", settings.shape},
                              {"router", shape.dense ? "none" : settings.router},
                              {"erc", options.moe.erc},
                              {"dtype", settings.dtype},
                              {"threads", threads()},
                              {"parameters", nn::count(trainer.model())},
                              {"ms", ms},
                              {"tokens_per_s", static_cast<double>(tokens) / ms * 1e3},
                              {"gflops", moe::training_flops(options, tokens, shape.time) / ms * 1e-6},
                              {"peak_rss_mb", megabytes(train::peak_resident_bytes())},
                              {"new_memory_calls", cpu_memory().system_calls - system_calls},
                              {"page_faults", page_faults() - faults},
                              {"loss", last.cross_entropy}};
  if (settings.json)
    fmt::print("{}\n", result.dump());
  else
    for (const auto& [key, value] : result.items()) fmt::print("{:>18}  {}\n", key, value.dump());
}

}  // namespace

int main(int argc, char** argv) try {
  Settings settings;
  CLI::App app{"Times whole training steps of the language model"};
  app.add_option("--shape", settings.shape, bench::shape_names())->capture_default_str();
  app.add_option("--router", settings.router, "linear, cosine or perturbed_cosine")->capture_default_str();
  app.add_flag("--erc", settings.erc, "with the ERC loss");
  app.add_option("--dtype", settings.dtype, "f32 or bf16, of activations and matmuls")
      ->capture_default_str()
      ->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--steps", settings.steps, "timed steps")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--warmup", settings.warmup, "steps before the clock starts")->capture_default_str();
  app.add_option("--batch", settings.batch, "sequences per step; 0: the shape's own");
  app.add_option("--threads", settings.threads, "0: all");
  app.add_flag("--recompute", settings.recompute, "recompute activations");
  app.add_flag("--json", settings.json, "one JSON object instead of a table");
  app.add_option("--export", settings.export_folder, "write weights, data and settings there for another program");
  app.add_option("--export-steps", settings.exported_steps, "batches to write, which --turns uses as well")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_flag("--turns", settings.turns, "make as many steps as each line of the input says, answer with a JSON line");
  CLI11_PARSE(app, argc, argv);
  if (settings.threads > 0) set_threads(settings.threads);
  const ModelShape shape = bench::shape_named(settings.shape, settings.batch);
  const bool compared = settings.turns || !settings.export_folder.empty();
  Trainer trainer(shape, settings);
  trainer.draw_batches(compared ? settings.exported_steps : 1);
  if (!settings.export_folder.empty()) write_exports(settings.export_folder, shape, trainer, settings.exported_steps);
  if (settings.turns)
    serve(trainer);
  else if (settings.export_folder.empty())
    measure(trainer, shape, settings);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
