// SPDX-License-Identifier: Apache-2.0
// What a GPU and the CPU must agree in: routing, whole training runs, checkpoints.
#include "moe/language_model_config.h"
#include "nn/optimizer.h"
#include "nn/train/checkpoint.h"
#include "tests/moe/support.h"
#include "tests/temporary_folder.h"

using namespace moxie;
using namespace moxie::moe;
using namespace moxie::testing;

namespace {

// The demo's smallest model that has everything: the perturbed cosine router and the ERC loss.
LanguageModelOptions tiny_options() {
  LanguageModelOptions options{.layers = 4, .width = 128, .heads = 4};
  options.moe = {.router = {.experts = 8, .top_k = 2}, .hidden = 128, .erc = true};
  return options;
}

struct Tokens {
  Array from, to;
};
Tokens tokens_on(Device device, int64_t batch, int64_t time, int64_t vocabulary = 256) {
  std::vector<int32_t> values(static_cast<size_t>(batch * (time + 1)));
  for (size_t i = 0; i < values.size(); ++i)  // something to learn: half of the tokens repeat
    values[i] = static_cast<int32_t>(random_bits({.seed = 3}, i / 2) % static_cast<uint32_t>(vocabulary));
  const size_t count = static_cast<size_t>(batch * time);
  const std::span<const int32_t> all(values);
  return {Array::from(all.first(count), {batch, time}, device),
          Array::from(all.subspan(1, count), {batch, time}, device)};
}

struct Training {
  LanguageModelOptions options = tiny_options();
  Dtype master = Dtype::f32, compute = Dtype::f32;
  int64_t steps = 20, batch = 2, time = 48;
};

// A model that was drawn on the CPU, and moved.
LanguageModel model_on(Device device, const Training& t) {
  LanguageModel model(t.options, 1);
  nn::to(model, t.master);
  nn::to(model, device);
  return model;
}

struct Outcome {
  std::vector<double> losses, norms;
  std::vector<Array> parameters;
};
Outcome train_on(Device device, const Training& t) {
  const LanguageModel model = model_on(device, t);
  nn::AdamW optimizer(nn::parameters(model));
  const Tokens tokens = tokens_on(device, t.batch, t.time, t.options.vocabulary);
  Outcome outcome;
  for (int64_t step = 0; step < t.steps; ++step) {
    const nn::Context context{.training = true, .dtype = t.compute, .seed = 1, .step = static_cast<uint32_t>(step)};
    const Tensor total = model.losses(tokens.from, tokens.to, context).total(t.options);
    total.backward();
    outcome.norms.push_back(optimizer.step(1e-3));
    outcome.losses.push_back(total.item());
  }
  for (const nn::NamedParameter& named : nn::parameters(model)) outcome.parameters.push_back(named.parameter.value());
  return outcome;
}

// The largest difference of losses and gradient norms, relative.
double distance(const Outcome& a, const Outcome& b) {
  double worst = 0;
  for (size_t i = 0; i < a.losses.size(); ++i) {
    worst = std::max(worst, std::abs(a.losses[i] - b.losses[i]) / std::abs(b.losses[i]));
    worst = std::max(worst, std::abs(a.norms[i] - b.norms[i]) / b.norms[i]);
    if (std::isnan(a.losses[i])) return HUGE_VAL;
  }
  return worst;
}

void check_same(const Outcome& a, const Outcome& b) {
  CHECK(a.losses == b.losses);
  CHECK(a.norms == b.norms);
  for (size_t i = 0; i < a.parameters.size(); ++i) CHECK(same_bits(a.parameters[i], b.parameters[i]));
}

}  // namespace

TEST_CASE("CPU and GPU route every token alike whose choice isn't a near tie") {
  MOXIE_NEEDS_CUDA();
  for (const RouterKind kind : {RouterKind::linear, RouterKind::cosine, RouterKind::perturbed_cosine})
    for (const Weighting weighting : {Weighting::after_top_k, Weighting::before_top_k}) {
      constexpr int64_t tokens = 3000, width = 96, experts = 64, top_k = 8;
      const auto routing_on = [&](Device device) {
        nn::Initializer init(1);
        Router router(width, {.kind = kind, .experts = experts, .top_k = top_k, .weighting = weighting}, init);
        nn::to(router, device);
        return router(Tensor(random({tokens, width}, 2, 1, Dtype::f32).to(device)), {});
      };
      const Routing cpu = routing_on(Device::cpu()), gpu = routing_on(Device::cuda());
      INFO(name_of(kind), " ", name_of(weighting));
      const std::vector<float> scores = cpu.scores.to_vector<float>();
      const std::vector<int32_t> wanted = cpu.chosen.to_vector<int32_t>(), got = gpu.chosen.to_vector<int32_t>();
      int64_t compared = 0;
      for (int64_t token = 0; token < tokens; ++token) {
        std::vector<float> row(scores.begin() + token * experts, scores.begin() + (token + 1) * experts);
        std::sort(row.begin(), row.end(), std::greater<>());
        bool clear = true;  // the order of the chosen too
        for (size_t j = 0; j < top_k; ++j) clear = clear && row[j] - row[j + 1] > 1e-4f;
        if (!clear) continue;
        ++compared;
        for (int64_t j = 0; j < top_k; ++j) {
          const auto i = static_cast<size_t>(token * top_k + j);
          if (got[i] != wanted[i]) CHECK_MESSAGE(false, "token ", token, " choice ", j);
        }
      }
      CHECK(compared > tokens / 2);
      CHECK(difference(gpu.scores.value(), cpu.scores.value()) < 1e-5);
      CHECK(gpu.load().size() == static_cast<size_t>(experts));
    }
}

TEST_CASE("50 steps of training in f64 are the CPU's to 1e-8, and the same bits twice") {
  MOXIE_NEEDS_CUDA();
  const Training training{.master = Dtype::f64, .compute = Dtype::f64, .steps = 50, .time = 24};
  const Outcome cpu = train_on(Device::cpu(), training), gpu = train_on(Device::cuda(), training);
  CHECK(distance(gpu, cpu) < 1e-8);
  CHECK(gpu.losses.back() < 0.9 * gpu.losses.front());
  check_same(gpu, train_on(Device::cuda(), training));
}

TEST_CASE("20 steps of training in f32 are the CPU's to 1e-4, with recomputation too, and the same bits twice") {
  MOXIE_NEEDS_CUDA();
  Training training;
  const Outcome cpu = train_on(Device::cpu(), training), gpu = train_on(Device::cuda(), training);
  CHECK(distance(gpu, cpu) < 1e-4);
  check_same(gpu, train_on(Device::cuda(), training));
  training.options.recompute = true;
  check_same(train_on(Device::cuda(), training), gpu);
}

TEST_CASE("training in bf16 on a GPU stays near the CPU's, and is the same bits twice") {
  MOXIE_NEEDS_CUDA();
  const Training training{.compute = Dtype::bf16, .steps = 8};
  const Outcome cpu = train_on(Device::cpu(), training), gpu = train_on(Device::cuda(), training);
  for (size_t i = 0; i < cpu.losses.size(); ++i) CHECK(gpu.losses[i] == doctest::Approx(cpu.losses[i]).epsilon(0.02));
  check_same(gpu, train_on(Device::cuda(), training));
}

TEST_CASE("a large vocabulary, whose logits never exist whole, on both devices") {
  MOXIE_NEEDS_CUDA();
  Training training{.steps = 3};
  training.options.vocabulary = 5000;
  training.options.layers = 1;
  const Outcome cpu = train_on(Device::cpu(), training), gpu = train_on(Device::cuda(), training);
  CHECK(distance(gpu, cpu) < 1e-5);
}

TEST_CASE("checkpoints written on one device load on the other, to the bit") {
  MOXIE_NEEDS_CUDA();
  const test::TemporaryFolder folder;
  const std::string path = folder.path() + "/checkpoint.safetensors";
  for (const Device first : {Device::cpu(), Device::cuda()}) {
    const Device second = first.is_cpu() ? Device::cuda() : Device::cpu();
    INFO("from ", first.name(), " to ", second.name());
    const Training training;
    const LanguageModel written = model_on(first, training);
    nn::AdamW optimizer(nn::parameters(written));
    const Tokens tokens = tokens_on(first, 2, 16);
    written.losses(tokens.from, tokens.to, {.training = true}).total(training.options).backward();
    optimizer.step();
    train::Checkpoint checkpoint;
    store(written, checkpoint);
    for (nn::NamedArray& named : train::with_prefix(optimizer.state(), "optimizer"))
      checkpoint.arrays.push_back(std::move(named));
    train::save_checkpoint(path, checkpoint);

    const train::Checkpoint loaded = train::load_checkpoint(path);
    LanguageModel read = restore_language_model(loaded);
    nn::to(read, second);
    nn::AdamW other(nn::parameters(read));
    other.set_state(train::without_prefix(loaded.arrays, "optimizer"), 1);
    const auto values = nn::values(nn::parameters(written)), again = nn::values(nn::parameters(read));
    REQUIRE(values.size() == again.size());
    for (size_t i = 0; i < values.size(); ++i) {
      CHECK(again[i].array.device() == second);
      CHECK(same_bits(values[i].array, again[i].array));
    }
    const auto state = optimizer.state(), state_again = other.state();
    for (size_t i = 0; i < state.size(); ++i) CHECK(same_bits(state[i].array, state_again[i].array));
  }
}
