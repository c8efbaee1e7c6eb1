// SPDX-License-Identifier: Apache-2.0
// Steps that a GPU repeats as one graph are those op by op, to the bit: whatever changes from step to step is seen.
#include "nn/step_graph.h"

#include "autograd/profile.h"
#include "moe/language_model.h"
#include "nn/optimizer.h"
#include "tests/moe/support.h"

using namespace moxie;
using namespace moxie::moe;
using namespace moxie::testing;

namespace {

struct Case {
  nn::OptimizerKind optimizer = nn::OptimizerKind::adamw;
  NoiseOptions noise = {};
  double dropout = 0;
  bool recompute = false;
  Dtype dtype = Dtype::f32;
  int64_t parts = 1;  // micro-batches
  int64_t steps = 10;
};

LanguageModelOptions options_of(const Case& c) {
  LanguageModelOptions options{.layers = 2, .width = 64, .heads = 2, .dropout = c.dropout, .recompute = c.recompute};
  options.moe = {.router = {.experts = 8, .top_k = 2, .noise = c.noise}, .hidden = 64, .erc = true};
  if (c.noise.kind == NoiseKind::learned) options.load_weight = 0.1;
  return options;
}

constexpr int64_t batch = 4, time = 24;

// Other tokens in every step.
Array tokens_of(int64_t step, uint32_t stream, Device device) {
  std::vector<int32_t> values(static_cast<size_t>(batch * time));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<int32_t>(
        random_bits({.seed = 5, .stream = stream, .step = static_cast<uint32_t>(step)}, i / 2) % 256);
  return Array::from(values, {batch, time}, device);
}

double rate_of(int64_t step) { return 1e-3 / static_cast<double>(1 + step); }

struct Outcome {
  std::vector<double> losses, norms;
  std::vector<Array> parameters, state;
  int64_t steps = 0;
};

class Trainer final {
 public:
  Trainer(const Case& c, Device device)
      : case_(c),
        device_(device),
        model_(options_of(c), 1),
        optimizer_((nn::to(model_, device),
                    nn::make_optimizer(nn::parameters(model_), nn::OptimizerOptions::defaults(c.optimizer)))),
        from_(Array::zeros({batch, time}, {Dtype::i32, device})),
        to_(from_.clone()) {}

  // The loss of each part, summed, and the gradient's norm.
  Outcome op_by_op() {
    Outcome outcome;
    for (int64_t step = 0; step < case_.steps; ++step) {
      set_tokens(step);
      passes({.step = static_cast<uint32_t>(step)});
      outcome.norms.push_back(optimizer_->step(rate_of(step), 2));
      outcome.losses.push_back(loss_.item());
    }
    return finished(outcome);
  }
  // Results are read after all steps.
  Outcome as_graph() {
    nn::StepGraph graph(device_, *optimizer_);
    Outcome outcome;
    std::vector<nn::GradientNorm> norms;
    std::vector<Array> losses;
    for (int64_t step = 0; step < case_.steps; ++step) {
      set_tokens(step);
      norms.push_back(graph.step(
          static_cast<uint32_t>(step), rate_of(step), [&] { passes({.step_at = graph.counter()}); }, 2));
      losses.push_back(loss_.clone());
      CHECK(graph.recorded() == (device_.is_cuda() && step >= 2));
    }
    CHECK(passes_ == (device_.is_cuda() ? 3 : case_.steps));
    for (const nn::GradientNorm& norm : norms) outcome.norms.push_back(norm);
    for (const Array& loss : losses) outcome.losses.push_back(loss.item());
    return finished(outcome);
  }

 private:
  void set_tokens(int64_t step) {
    from_.copy_from(tokens_of(step, 1, device_));
    to_.copy_from(tokens_of(step, 2, device_));
  }
  void passes(nn::Context context) {
    ++passes_;
    context.training = true, context.dtype = case_.dtype, context.seed = 1;
    const int64_t rows = batch / case_.parts;
    Tensor sum;
    for (int64_t part = 0; part < case_.parts; ++part) {
      context.micro_batch = static_cast<uint32_t>(part), context.first_token = part * rows * time;
      const Tensor total = model_.losses(from_.rows(part * rows, rows), to_.rows(part * rows, rows), context)
                               .total(model_.options, case_.parts);
      total.backward();
      sum = sum.defined() ? sum + total.detach() : total.detach();
    }
    loss_ = sum.value();
  }
  Outcome finished(Outcome outcome) {
    for (const nn::NamedParameter& named : nn::parameters(model_))
      outcome.parameters.push_back(named.parameter.value());
    for (const nn::NamedArray& named : optimizer_->state()) outcome.state.push_back(named.array);
    outcome.steps = optimizer_->steps();
    return outcome;
  }

  Case case_;
  Device device_;
  LanguageModel model_;
  std::unique_ptr<nn::Optimizer> optimizer_;
  Array from_, to_, loss_;
  int64_t passes_ = 0;
};

void check_same(const Case& c, Device device) {
  Trainer a(c, device), b(c, device);
  const Outcome wanted = a.op_by_op(), got = b.as_graph();
  CHECK(got.losses == wanted.losses);
  CHECK(got.norms == wanted.norms);
  CHECK(got.steps == wanted.steps);
  CHECK(wanted.losses[0] != wanted.losses[3]);
  REQUIRE(got.parameters.size() == wanted.parameters.size());
  for (size_t i = 0; i < got.parameters.size(); ++i) CHECK(same_bits(got.parameters[i], wanted.parameters[i]));
  REQUIRE(got.state.size() == wanted.state.size());
  for (size_t i = 0; i < got.state.size(); ++i) CHECK(same_bits(got.state[i], wanted.state[i]));
}

}  // namespace

TEST_CASE("steps as a graph are those op by op, with each optimizer") {
  for (const Device device : devices())
    for (const nn::OptimizerKind kind : {nn::OptimizerKind::adamw, nn::OptimizerKind::adam, nn::OptimizerKind::sgd,
                                         nn::OptimizerKind::lion, nn::OptimizerKind::muon}) {
      INFO(device.name(), " ", name_of(kind));
      check_same({.optimizer = kind}, device);
    }
}

TEST_CASE("steps as a graph draw each step's own random numbers") {
  for (const Device device : devices()) {
    for (const NoiseKind kind : {NoiseKind::jitter, NoiseKind::gaussian, NoiseKind::gumbel, NoiseKind::learned}) {
      INFO(device.name(), " ", name_of(kind));
      check_same({.noise = {.kind = kind, .scale = 0.1}, .dropout = 0.1}, device);
    }
  }
}

TEST_CASE("steps as a graph in bf16, with recomputation, and of several micro-batches") {
  for (const Device device : devices()) {
    INFO(device.name());
    check_same({.dtype = Dtype::bf16}, device);
    check_same({.dropout = 0.1, .recompute = true}, device);
    check_same({.dropout = 0.1, .parts = 2}, device);
    check_same({.dtype = Dtype::bf16, .parts = 4}, device);
  }
}

TEST_CASE("a graph of steps is recorded anew after forget, and works beside steps and evaluation op by op") {
  for (const Device device : devices()) {
    INFO(device.name());
    const auto losses = [&](bool as_graph) {
      nn::Initializer init(3);
      nn::Linear layer(16, 8, init);
      nn::to(layer, device);
      nn::AdamW optimizer(nn::parameters(layer));
      nn::StepGraph graph(device, optimizer);
      const Array x = Array::full({4, 16}, 0.5, {Dtype::f32, device}), loss = Array::zeros({}, x.options());
      const auto passes = [&] {
        const Tensor y = layer(Tensor(x), {.training = true}), total = sum(y * y);
        total.backward();
        loss.copy_from(total.value());  // one place, whoever computes it
      };
      std::vector<double> all;
      for (uint32_t i = 0; i < 12; ++i) {
        if (i == 7) graph.forget();
        x.fill(0.1 * i);
        if (as_graph && i != 5) {
          graph.step(i, 1e-2, passes);
        } else {
          passes();
          optimizer.step(1e-2);
        }
        all.push_back(loss.item());
        const NoGrad no_grad;
        all.push_back(sum(layer(Tensor(x), {})).item());
      }
      CHECK(optimizer.steps() == 12);
      CHECK(graph.recorded() == (as_graph && device.is_cuda()));
      return all;
    };
    CHECK(losses(true) == losses(false));
  }
}

TEST_CASE("what a graph of steps can't repeat is named") {
  MOXIE_NEEDS_CUDA();
  const Device device = Device::cuda();
  nn::Initializer init(3);
  nn::Linear layer(16, 8, init);
  nn::to(layer, device);
  nn::AdamW optimizer(nn::parameters(layer));
  const Array x = Array::full({4, 16}, 0.5, {Dtype::f32, device});
  const auto fails_with = [&](const char* what, const std::function<void(const Tensor&)>& f) {
    nn::StepGraph graph(device, optimizer);
    const auto passes = [&] {
      const Tensor total = sum(layer(Tensor(x), {.training = true}));
      total.backward();
      f(total);
    };
    graph.step(0, 1e-3, passes);
    graph.step(1, 1e-3, passes);
    std::string message;
    try {
      graph.step(2, 1e-3, passes);
    } catch (const std::invalid_argument& error) {
      message = error.what();
    }
    INFO(message);
    CHECK(message.find(std::string("Graph: a recording can't have ").append(what)) == 0);
    CHECK(!is_recording(device));
    CHECK(!graph.recorded());
  };
  fails_with("a copy to the host, such as item or to_vector", [](const Tensor& loss) { loss.item(); });
  fails_with("a copy from the host", [&](const Tensor&) { Array::from(std::vector<float>{1}, {1}, device); });
  fails_with("a Profiler's marks", [&](const Tensor&) { const Profiler profiler(device); });
  CHECK(sum(layer(Tensor(x), {})).item() == sum(layer(Tensor(x), {})).item());
}
