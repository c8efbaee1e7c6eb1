// SPDX-License-Identifier: Apache-2.0
// nn/ema.h: averages follow their formula, and come and go to the bit.
#include "nn/ema.h"

#include "tests/nn/support.h"

using namespace moxie;
using namespace moxie::nn;
using namespace moxie::testing;

namespace {

struct Model {
  Parameter weight, bias;
  static void visit(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
};
Model make_model(Dtype dtype = Dtype::f64) {
  return {.weight = Parameter(random({200, 150}, 1, 1, dtype)), .bias = Parameter(random({3}, 2, 1, dtype))};
}
void move(const Model& model, uint64_t step) {
  for (NamedParameter& named : parameters(model)) named.parameter.set_value(random(named.parameter.shape(), 50 + step));
}

}  // namespace

DEVICE_TEST_CASE("Ema: the average of the weights seen, with and without warm-up") {
  for (const bool warmup : {false, true}) {
    const Model model = make_model();
    Ema ema(parameters(model), {.decay = 0.15, .warmup = warmup});
    Numbers expected = model.bias.value().to_vector<double>();
    for (uint64_t step = 0; step < 5; ++step) {
      move(model, step);
      const auto t = static_cast<double>(step);
      const double decay = warmup ? std::min(0.15, (1 + t) / (10 + t)) : 0.15;
      CHECK(ema.decay() == doctest::Approx(decay).epsilon(1e-15));
      ema.update();
      const Numbers value = model.bias.value().to_vector<double>();
      for (size_t i = 0; i < 3; ++i) expected[i] = decay * expected[i] + (1 - decay) * value[i];
    }
    CHECK(ema.updates() == 5);
    const std::vector<NamedArray> state = ema.state();
    CHECK(state[0].name == "weight");
    CHECK(state[1].name == "bias");
    CHECK(difference(state[1].array, Array::from(expected, {3}, current_device())) < 1e-14);
  }
}

DEVICE_TEST_CASE("Ema: swapped in around an evaluation, and back to the bit") {
  for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
    const Model model = make_model(dtype);
    Ema ema(parameters(model), {.decay = 0.9});
    move(model, 1);
    ema.update();
    const Array weight = model.weight.value().clone(), average = ema.state()[0].array.clone();
    if (dtype == Dtype::f32) model.weight.as(Dtype::bf16);
    {
      const EmaScope scope(ema);
      CHECK(ema.swapped());
      CHECK(same_bits(model.weight.value(), average));
      if (dtype == Dtype::f32) CHECK(same_bits(model.weight.as(Dtype::bf16).value(), average.to(Dtype::bf16)));
    }
    CHECK_FALSE(ema.swapped());
    CHECK(same_bits(model.weight.value(), weight));
    CHECK(same_bits(ema.state()[0].array, average));
    if (dtype == Dtype::f32) CHECK(same_bits(model.weight.as(Dtype::bf16).value(), weight.to(Dtype::bf16)));
  }
}

DEVICE_TEST_CASE("Ema: weights that stand still are their own average") {
  const Model model = make_model(Dtype::f32);
  Ema ema(parameters(model));
  for (int i = 0; i < 20; ++i) ema.update();
  CHECK(same_bits(ema.state()[0].array, model.weight.value()));
}

DEVICE_TEST_CASE("Ema: a restored one goes on to the bit") {
  const Model model = make_model(Dtype::f32);
  Ema whole(parameters(model));
  std::vector<NamedArray> state;
  for (uint64_t step = 0; step < 3; ++step) move(model, step), whole.update();
  for (const NamedArray& named : whole.state()) state.push_back({named.name, named.array.clone()});
  Ema other(parameters(model));
  other.set_state(state, 3);
  for (uint64_t step = 3; step < 6; ++step) move(model, step), whole.update(), other.update();
  CHECK(same_bits(whole.state(), other.state()));
  CHECK(other.updates() == 6);
}

DEVICE_TEST_CASE("Ema: messages") {
  Model model = make_model();
  CHECK(refusal([&] { Ema(parameters(model), {.decay = 1}); }) == "Ema: decay must be in [0, 1), got 1");
  Ema ema(parameters(model));
  CHECK(refusal([&] { ema.set_state({}, 0); }) == "Ema: the state has no tensor 'weight'");
  CHECK(refusal([&] { ema.set_state(ema.state(), -1); }) == "Ema: updates must not be negative, got -1");
  ema.swap();
  CHECK(refusal([&] { ema.update(); }) == "Ema: the model has the averaged weights; swap them back before an update");
  CHECK(refusal([&] { ema.state(); }) == "Ema: the model has the averaged weights; swap them back before saving");
  ema.swap();
  model.bias.to(Dtype::f32);
  CHECK(refusal([&] { ema.update(); }) == "Ema: 'bias' was converted or moved; make a new Ema");
  CHECK(refusal([&] { Ema(parameters(model)); }) ==
        fmt::format("Ema: parameters must share dtype and device, 'weight' is f64 on {0}, 'bias' f32 on {0}",
                    current_device().name()));
}
