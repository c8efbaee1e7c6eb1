// SPDX-License-Identifier: Apache-2.0
// Times whole training steps of the language model: forward, backward, clipping and AdamW.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "bench/timing.h"
#include "core/parallel.h"
#include "core/storage.h"
#include "moe/language_model.h"
#include "nn/optimizer.h"
#include "nn/train/memory.h"

namespace {

using namespace moxie;

struct ModelShape {
  int64_t layers, width, heads, experts, top_k, hidden, time, batch;
  bool dense;
};

// The shapes that the peers were measured at.
const std::map<std::string, ModelShape> shapes = {
    {"tiny", {4, 128, 4, 8, 2, 128, 128, 16, false}},
    {"small", {8, 256, 8, 16, 2, 256, 256, 16, false}},
    {"fine", {8, 256, 8, 64, 8, 64, 256, 16, false}},
    {"dense", {8, 256, 8, 1, 1, 512, 256, 16, true}},
};

moe::LanguageModelOptions options_of(const ModelShape& shape, moe::RouterKind router, bool erc) {
  moe::LanguageModelOptions options;
  options.layers = shape.layers, options.width = shape.width, options.heads = shape.heads;
  options.moe = {
      .router = {.kind = router, .experts = shape.experts, .top_k = shape.top_k}, .hidden = shape.hidden, .erc = erc};
  if (shape.dense) options.dense_layers = shape.layers;
  return options;
}

Array random_tokens(int64_t batch, int64_t time, std::mt19937& random) {
  std::vector<int32_t> tokens(static_cast<size_t>(batch * time));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 256);
  return Array::from(tokens, {batch, time});
}

}  // namespace

int main(int argc, char** argv) try {
  std::string shape_name = "tiny", router_name = "linear";
  int steps = 20, warmup = 3, thread_count = 0;
  int64_t batch = 0;
  bool erc = false, json = false, recompute = false;
  CLI::App app{"Times whole training steps of the language model"};
  app.add_option("--shape", shape_name, "tiny, small, fine or dense")->capture_default_str();
  app.add_option("--router", router_name, "linear, cosine or perturbed_cosine")->capture_default_str();
  app.add_flag("--erc", erc, "with the ERC loss");
  app.add_option("--steps", steps, "timed steps")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--warmup", warmup, "steps before the clock starts")->capture_default_str();
  app.add_option("--batch", batch, "sequences per step; 0: the shape's own");
  app.add_option("--threads", thread_count, "0: all");
  app.add_flag("--recompute", recompute, "recompute activations");
  app.add_flag("--json", json, "one JSON object instead of a table");
  CLI11_PARSE(app, argc, argv);
  if (thread_count > 0) set_threads(thread_count);
  check(shapes.contains(shape_name), "bench_train_step: shape must be tiny, small, fine or dense, got '{}'",
        shape_name);
  const ModelShape shape = shapes.at(shape_name);
  if (batch == 0) batch = shape.batch;

  moe::LanguageModelOptions options = options_of(shape, moe::router_kind_from_name(router_name), erc);
  options.recompute = recompute;
  const moe::LanguageModel model(options, 1);
  nn::AdamW optimizer(nn::parameters(model));
  std::mt19937 random(1);
  const Array tokens = random_tokens(batch, shape.time, random), targets = random_tokens(batch, shape.time, random);

  std::vector<double> milliseconds;
  double loss_value = 0;
  int64_t system_calls = 0;
  for (int step = 0; step < warmup + steps; ++step) {
    if (step == warmup) system_calls = cpu_memory().system_calls;
    const auto start = std::chrono::steady_clock::now();
    const nn::Context context{.training = true, .seed = 1, .step = static_cast<uint32_t>(step)};
    {
      const moe::Losses losses = model.losses(tokens, targets, context);
      const Tensor total = losses.total(model.options);
      total.backward();
      loss_value = losses.cross_entropy.item();
    }
    optimizer.step(1e-3);
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
    if (step >= warmup) milliseconds.push_back(elapsed.count());
  }
  const double ms = bench::median(milliseconds);
  const auto step_tokens = static_cast<double>(batch * shape.time);
  const nlohmann::json result{{"shape", shape_name},
                              {"router", options.dense_layers > 0 ? "none" : router_name},
                              {"erc", erc},
                              {"threads", threads()},
                              {"parameters", nn::count(model)},
                              {"ms", ms},
                              {"tokens_per_s", step_tokens / ms * 1e3},
                              {"gflops", moe::training_flops(options, batch * shape.time, shape.time) / ms * 1e-6},
                              {"peak_rss_mb", static_cast<double>(train::peak_resident_bytes()) / 1e6},
                              {"new_memory_calls", cpu_memory().system_calls - system_calls},
                              {"loss", loss_value}};
  if (json)
    fmt::print("{}\n", result.dump());
  else
    for (const auto& [key, value] : result.items()) fmt::print("{:>18}  {}\n", key, value.dump());
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
