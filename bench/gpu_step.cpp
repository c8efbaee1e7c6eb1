// SPDX-License-Identifier: Apache-2.0
// Whole training steps on a GPU in bf16 with f32 masters: tokens/s, the share of the matmul peak (MFU), and what ERC
// costs. bench/gpu_step_torch.py runs the same models in PyTorch and prints the ratio.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "autograd/op_range.h"
#include "autograd/profile.h"
#include "bench/timing.h"
#include "core/storage.h"
#include "moe/language_model.h"
#include "nn/optimizer.h"
#include "nn/step_graph.h"
#include "nn/train/device.h"

namespace {

using namespace moxie;

struct ModelShape {
  moe::LanguageModelOptions options;
  int64_t time, batch;  // of one micro-batch
};

ModelShape shape_of(const std::string& name) {
  ModelShape shape;
  moe::LanguageModelOptions& o = shape.options;
  o.moe.router = {.kind = moe::RouterKind::linear, .bias = false};
  if (name == "tiny" || name == "small") {  // the demo's
    const bool tiny = name == "tiny";
    o.layers = tiny ? 4 : 8, o.width = tiny ? 128 : 256, o.heads = tiny ? 4 : 8;
    o.moe.router.experts = tiny ? 8 : 16, o.moe.router.top_k = 2, o.moe.hidden = o.width;
    shape.time = tiny ? 128 : 256, shape.batch = tiny ? 16 : 64;
  } else if (name == "dense124m") {  // GPT-2's smallest, with SwiGLU and RoPE
    o.vocabulary = 50304, o.layers = 12, o.width = 768, o.heads = 12, o.tie_embeddings = true;
    o.dense_layers = 12, o.dense_hidden = 2048;
    shape.time = 1024, shape.batch = 16;
  } else {  // arXiv 2512.23447, section 4.1
    check(name == "erc3b", "gpu_step: shape must be tiny, small, dense124m or erc3b, got '{}'", name);
    o.vocabulary = 50304, o.layers = 12, o.width = 1536, o.heads = 16, o.recompute = true;
    o.moe.router.experts = 64, o.moe.router.top_k = 8, o.moe.hidden = 768;
    o.moe.router.weighting = moe::Weighting::before_top_k;
    shape.time = 2048, shape.batch = 4;
  }
  return shape;
}

struct Tokens {
  Array from, to;
};

Tokens random_tokens(const ModelShape& shape, int64_t vocabulary, Device device) {
  std::mt19937 random(1);
  const auto draw = [&] {
    std::vector<int32_t> tokens(static_cast<size_t>(shape.batch * shape.time));
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % static_cast<unsigned>(vocabulary));
    return Array::from(tokens, {shape.batch, shape.time}, device);
  };
  return {draw(), draw()};
}

class Trainer final {
 public:
  Trainer(const ModelShape& shape, Dtype dtype, Device device, bool as_graph = false)
      : shape_(shape),
        dtype_(dtype),
        model_(shape.options, 1, device),
        optimizer_(nn::parameters(model_)),
        graph_(device, optimizer_),
        as_graph_(as_graph),
        tokens_(random_tokens(shape, shape.options.vocabulary, device)) {}

  // One optimizer step over `micro_batches` of the shape's batches. Waits for nothing on a GPU.
  void step(int64_t micro_batches = 1) {
    const auto number = static_cast<uint32_t>(steps_++);
    if (micro_batches != micro_batches_) graph_.forget();
    micro_batches_ = micro_batches;
    if (as_graph_) {
      norm_ = graph_.step(number, 1e-4, [&] { run_passes({.step_at = graph_.counter()}); });
    } else {
      run_passes({.step = number});
      norm_ = optimizer_.step(1e-4);
    }
  }
  // The last step's loss; waits for it. Throws where a gradient wasn't finite.
  double loss() const {
    norm_.value();
    return loss_.item();
  }
  // Seconds per step: the median of `rounds` rounds of `steps` steps.
  double seconds(int rounds, int steps, int64_t micro_batches) {
    std::vector<double> all;
    for (int round = -1; round < rounds; ++round) {  // the first is not counted
      const double ms = bench::milliseconds([&] {
        for (int i = 0; i < (round < 0 ? std::min(steps, 3) : steps); ++i) step(micro_batches);
        loss();
      });
      if (round >= 0) all.push_back(ms / 1000 / steps);
    }
    return bench::median(all);
  }
  void set_erc(bool on) {
    for (moe::Block& block : model_.blocks)
      if (block.moe) block.moe->options.erc = on;
    graph_.forget();
  }
  int64_t parameters() const { return nn::count(model_); }

 private:
  void run_passes(nn::Context context) {
    context.training = true, context.dtype = dtype_, context.seed = 1;
    for (int64_t part = 0; part < micro_batches_; ++part) {
      context.micro_batch = static_cast<uint32_t>(part);
      context.first_token = part * shape_.batch * shape_.time;
      const moe::Losses losses = model_.losses(tokens_.from, tokens_.to, context);
      losses.total(model_.options, micro_batches_).backward();
      loss_ = losses.cross_entropy.value();
    }
  }

  ModelShape shape_;
  Dtype dtype_;
  moe::LanguageModel model_;
  nn::AdamW optimizer_;
  nn::StepGraph graph_;
  bool as_graph_;
  Tokens tokens_;
  Array loss_;
  nn::GradientNorm norm_;
  int64_t steps_ = 0, micro_batches_ = 1;
};

// The same small model on both devices: losses of some steps agree before anything is timed.
void verify(Device device, bool as_graph) {
  ModelShape shape = shape_of("tiny");
  shape.options.moe.erc = true;
  shape.batch = 2;
  const auto losses_on = [&](Device where) {
    std::vector<double> losses;
    Trainer trainer(shape, Dtype::f32, where, as_graph);
    for (int i = 0; i < 5; ++i) {
      trainer.step(2);
      losses.push_back(trainer.loss());
    }
    return losses;
  };
  const std::vector<double> wanted = losses_on(Device::cpu()), got = losses_on(device);
  for (size_t i = 0; i < wanted.size(); ++i)
    check(std::abs(got[i] - wanted[i]) <= 1e-3 * wanted[i], "gpu_step: loss {} of step {} on {}, {} on the CPU", got[i],
          i, device.name(), wanted[i]);
}

}  // namespace

int main(int argc, char** argv) try {
  std::string shape_name = "small", device_name = "cuda", dtype_name = "bf16";
  int rounds = 5, steps = 10;
  int64_t batch = 0, micro_batches = 1;
  double peak = 989;
  int profiled = 0;
  bool json = false, as_graph = false, with_nvtx = false, with_erc = false, erc_share = false, unverified = false;
  CLI::App app{"Times whole training steps of the language model on a GPU"};
  app.add_option("--shape", shape_name, "tiny, small, dense124m or erc3b")->capture_default_str();
  app.add_option("--device", device_name, "cuda, cuda:N or cpu")->capture_default_str();
  app.add_option("--dtype", dtype_name, "bf16 or f32")->capture_default_str()->check(CLI::IsMember({"bf16", "f32"}));
  app.add_option("--rounds", rounds, "timed rounds")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--steps", steps, "steps per round")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--batch", batch, "sequences per micro-batch; 0: the shape's own");
  app.add_option("--micro-batches", micro_batches, "per optimizer step")->check(CLI::PositiveNumber);
  app.add_option("--peak", peak, "TFLOP/s of the device's matmuls, for the MFU")->capture_default_str();
  app.add_flag("--cuda-graph", as_graph, "repeat steps as one CUDA graph");
  app.add_flag("--nvtx", with_nvtx, "name ops in the timeline of NVIDIA's profilers");
  app.add_flag("--erc", with_erc, "with the ERC loss");
  app.add_flag("--erc-share", erc_share, "time the step without and with the ERC loss, and print its share");
  app.add_option("--profile", profiled, "then time so many steps op by op, and print the table");
  app.add_flag("--unverified", unverified, "don't compare a small model with the CPU first");
  app.add_flag("--json", json, "one JSON object instead of a table");
  CLI11_PARSE(app, argc, argv);
  const Device device = train::device_from_name(device_name);
  std::optional<OpRanges> ranges;
  if (with_nvtx) ranges.emplace(nvtx());
  if (!unverified) verify(device, as_graph);

  ModelShape shape = shape_of(shape_name);
  if (batch > 0) shape.batch = batch;
  reset_peak_memory();
  Trainer trainer(shape, dtype_name == "bf16" ? Dtype::bf16 : Dtype::f32, device, as_graph);
  trainer.set_erc(with_erc && !erc_share);
  const double seconds = trainer.seconds(rounds, steps, micro_batches);
  const auto tokens = static_cast<double>(shape.batch * shape.time * micro_batches);
  const double flops = moe::training_flops(shape.options, shape.batch * shape.time * micro_batches, shape.time);
  nlohmann::ordered_json result{{"shape", shape_name},
                                {"device", device.name()},
                                {"dtype", dtype_name},
                                {"parameters", trainer.parameters()},
                                {"tokens", tokens},
                                {"recompute", shape.options.recompute},
                                {"cuda_graph", as_graph},
                                {"erc", with_erc && !erc_share},
                                {"ms", seconds * 1e3},
                                {"tokens_per_s", tokens / seconds},
                                {"tflops", flops / seconds * 1e-12},
                                {"mfu", flops / seconds * 1e-12 / peak},
                                {"memory_gb", static_cast<double>(memory_of(device).peak_bytes) * 1e-9},
                                {"loss", trainer.loss()}};
  if (erc_share) {
    trainer.set_erc(true);
    const double with = trainer.seconds(rounds, steps, micro_batches);
    result["erc_ms"] = (with - seconds) * 1e3;
    result["erc_share"] = (with - seconds) / seconds;
    // ERC's cost has no tokens in it. That of a longer step is its micro-batches' and once the optimizer's.
    trainer.set_erc(false);
    const double each =
        (trainer.seconds(rounds, steps, 2 * micro_batches) - seconds) / static_cast<double>(micro_batches);
    const double fixed = seconds - each * static_cast<double>(micro_batches);
    result["micro_batch_ms"] = each * 1e3;
    for (const double step_tokens : {65536.0, 524288.0, 3e6})
      result[fmt::format("erc_share_at_{:.0f}k_tokens", step_tokens / 1000)] =
          (with - seconds) / (fixed + each * step_tokens / static_cast<double>(shape.batch * shape.time));
  }
  if (profiled > 0) {
    check(!as_graph, "gpu_step: --profile times op by op, --cuda-graph repeats steps as a whole: take one of them");
    trainer.set_erc(with_erc || erc_share);
    const Profiler profiler(device);
    for (int i = 0; i < profiled; ++i) trainer.step(micro_batches);
    trainer.loss();
    fmt::print("{}\n", profiler.table());
  }
  if (json)
    fmt::print("{}\n", result.dump());
  else
    for (const auto& [key, value] : result.items()) fmt::print("{:>26}  {}\n", key, value.dump());
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
