// SPDX-License-Identifier: Apache-2.0
// The optimizers against PyTorch's, 20 steps on given gradients (tests/fixtures/optimizers.py).
#include "nn/optimizer.h"
#include "nn/schedule.h"
#include "tests/fixture.h"
#include "tests/nn/support.h"

using namespace moxie;
using namespace moxie::nn;
using namespace moxie::testing;

namespace {

struct Model {
  Parameter tall, wide, experts, bias, table;

  static void visit(auto& self, auto&& f) {
    f("tall", self.tall), f("wide", self.wide), f("experts", self.experts), f("bias", self.bias),
        f("table", self.table);
  }
};

const std::vector<std::string> names{"tall", "wide", "experts", "bias", "table"};

Model make_model(const Fixture& fixture, Dtype dtype) {
  const auto start = [&](const std::string& name) { return fixture["start." + name].clone().to(dtype); };
  return {.tall = Parameter(start("tall")),
          .wide = Parameter(start("wide")),
          .experts = Parameter(start("experts"), {.stacked = {3, 2}}),
          .bias = Parameter(start("bias"), {.decay = false}),
          .table = Parameter(start("table"), {.table = true})};
}

void follow(const std::string& name, Dtype dtype, double tolerance, auto&& make) {
  static const Fixture fixture("optimizers.safetensors");
  INFO(name, " in ", name_of(dtype));
  const Model model = make_model(fixture, dtype);
  const std::vector<NamedParameter> all = parameters(model);
  const std::unique_ptr<Optimizer> optimizer = make(parameters(model));
  for (int64_t step = 0; step < 20; ++step) {
    double squares = 0;
    for (const NamedParameter& named : all) {
      const Array grad = fixture["grads." + named.name].rows(step, 1).reshape(named.parameter.shape());
      add_grad(named.parameter, grad);
      for (const double value : grad.to_vector<double>()) squares += value * value;
    }
    CHECK(optimizer->step() == doctest::Approx(std::sqrt(squares)).epsilon(1e-6));
    if (step != 0 && step != 1 && step != 19) continue;
    for (const NamedParameter& named : all) {
      INFO(named.name, " after step ", step + 1);
      CHECK(difference(named.parameter.value(), fixture[fmt::format("{}.{}.{}", name, named.name, step + 1)]) <=
            tolerance);
    }
  }
  CHECK(optimizer->steps() == 20);
}

// `make(parameters)` makes the optimizer that case `name` describes.
template <class Kind, class Options> void compare(const std::string& name, const Options& options) {
  const auto make = [&](std::vector<NamedParameter> all) -> std::unique_ptr<Optimizer> {
    return std::make_unique<Kind>(std::move(all), options);
  };
  follow(name, Dtype::f64, 1e-10, make);
  follow(name, Dtype::f32, 1e-5, make);
}

}  // namespace

DEVICE_TEST_CASE("optimizers: SGD as PyTorch's") {
  compare<Sgd>("sgd", SgdOptions{.lr = 0.1, .momentum = 0, .clip = 0});
  compare<Sgd>("sgd_momentum", SgdOptions{.lr = 0.1, .momentum = 0.9, .clip = 0});
  compare<Sgd>("sgd_nesterov", SgdOptions{.lr = 0.1, .momentum = 0.8, .nesterov = true, .clip = 0});
  compare<Sgd>("sgd_decay", SgdOptions{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.3, .clip = 0});
}

DEVICE_TEST_CASE("optimizers: Adam and AdamW as PyTorch's") {
  compare<Adam>("adam", AdamOptions{.lr = 0.02, .clip = 0});
  compare<Adam>("adam_decay", AdamOptions{.lr = 0.02, .beta1 = 0.8, .beta2 = 0.99, .weight_decay = 0.3, .clip = 0});
  compare<AdamW>("adamw", AdamWOptions{.lr = 0.02, .clip = 0});
  compare<AdamW>("adamw_clip", AdamWOptions{.lr = 0.02, .clip = 9});
}

DEVICE_TEST_CASE("optimizers: Lion as in the paper") {
  compare<Lion>("lion", LionOptions{.lr = 0.02, .weight_decay = 0.5, .clip = 0});
}

DEVICE_TEST_CASE("optimizers: Muon as PyTorch's, on each expert's halves") {
  compare<Muon>("muon", MuonOptions{.lr = 0.02, .clip = 9});
  compare<Muon>("muon_original",
                MuonOptions{.lr = 0.02, .momentum = 0.9, .nesterov = false, .clip = 0, .scale = MuonScale::original});
}

DEVICE_TEST_CASE("schedules: one cycle as PyTorch's OneCycleLR") {
  const Fixture fixture("optimizers.safetensors");
  const Numbers expected = fixture["one_cycle"].to_vector<double>();
  const Schedule schedule{
      .peak = 0.1, .steps = 20, .warmup = 6, .decay = Decay::one_cycle, .final_share = 0.04 / 4, .initial_share = 0.04};
  for (int64_t step = 0; step < 20; ++step)
    CHECK(schedule.at(step) == doctest::Approx(expected[static_cast<size_t>(step)]).epsilon(1e-12));
  CHECK(schedule.at(1000) == doctest::Approx(expected.back()).epsilon(1e-12));
}
