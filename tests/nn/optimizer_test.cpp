// SPDX-License-Identifier: Apache-2.0
// nn/optimizer.h: what all optimizers promise, whichever it is.
#include "nn/optimizer.h"

#include <limits>

#include "tests/nn/support.h"

using namespace moxie;
using namespace moxie::nn;
using namespace moxie::testing;
using moxie::test::contains;

namespace {

struct Model {
  Parameter weight, bias, experts;

  static void visit(auto& self, auto&& f) {
    f("weight", self.weight), f("bias", self.bias), f("experts", self.experts);
  }
};

Model make_model(Dtype dtype = Dtype::f32) {
  return {.weight = Parameter(random({40, 30}, 1, 1, dtype)),
          .bias = Parameter(random({40}, 2, 1, dtype), {.decay = false}),
          .experts = Parameter(random({3, 8, 5}, 3, 1, dtype), {.stacked = {4, 4}})};
}

void add_grads(const Model& model, uint64_t step, double scale = 1) {
  uint64_t seed = 100 * step;
  for (const NamedParameter& named : parameters(model))
    add_grad(named.parameter, random(named.parameter.shape(), ++seed, scale));
}

const std::vector<OptimizerKind> kinds{OptimizerKind::adamw, OptimizerKind::adam, OptimizerKind::sgd,
                                       OptimizerKind::lion, OptimizerKind::muon};

std::unique_ptr<Optimizer> make(OptimizerKind kind, const Model& model, double clip = 1) {
  OptimizerOptions options = OptimizerOptions::defaults(kind);
  options.clip = clip;
  return make_optimizer(parameters(model), options);
}

std::vector<NamedArray> copies(const std::vector<NamedArray>& arrays) {
  std::vector<NamedArray> result;
  for (const NamedArray& named : arrays) result.push_back({named.name, named.array.clone()});
  return result;
}

// A model of plain numbers, one per parameter.
struct Scalars {
  Parameter a, b, c;
  static void visit(auto& self, auto&& f) { f("a", self.a), f("b", self.b), f("c", self.c); }
};
Scalars make_scalars() {
  const auto one = [] { return Array::full({1}, 1, {Dtype::f64, current_device()}); };
  return {.a = Parameter(one()), .b = Parameter(one()), .c = Parameter(one(), {.decay = false})};
}
Numbers values_of(const Scalars& model) {
  return {model.a.value().item(), model.b.value().item(), model.c.value().item()};
}
// The values after one plain step at rate 1 with gradients of 0.25.
Numbers after_step(const std::vector<ParameterGroup>& groups, double weight_decay) {
  const Scalars model = make_scalars();
  Sgd optimizer(parameters(model), {.lr = 1, .momentum = 0, .weight_decay = weight_decay, .clip = 0}, groups);
  for (const NamedParameter& named : parameters(model))
    add_grad(named.parameter, Array::full({1}, 0.25, {Dtype::f32, current_device()}));
  optimizer.step();
  return values_of(model);
}

}  // namespace

DEVICE_TEST_CASE("optimizers: a resumed one goes on to the bit, for any number of threads") {
  const int before = threads();
  for (const OptimizerKind kind : kinds) {
    INFO(name_of(kind));
    const Model whole = make_model(), parted = make_model();
    const auto through = make(kind, whole);
    CHECK(std::string(through->name()) == name_of(kind));
    set_threads(2);
    for (uint64_t step = 0; step < 6; ++step) add_grads(whole, step), through->step();
    set_threads(1);
    std::vector<NamedArray> state;
    {
      const auto first = make(kind, parted);
      for (uint64_t step = 0; step < 3; ++step) add_grads(parted, step), first->step();
      state = copies(first->state());
    }
    const auto second = make(kind, parted);
    second->set_state(state, 3);
    for (uint64_t step = 3; step < 6; ++step) add_grads(parted, step), second->step();
    CHECK(second->steps() == 6);
    CHECK(same_bits(values(parameters(whole)), values(parameters(parted))));
    CHECK(same_bits(through->state(), second->state()));
    CHECK_FALSE(same_bits(values(parameters(whole)), values(parameters(make_model()))));
  }
  set_threads(before);
}

DEVICE_TEST_CASE("optimizers: the divisor undoes accumulation, and clipping is by the global norm") {
  for (const OptimizerKind kind : kinds) {
    INFO(name_of(kind));
    const Model once = make_model(Dtype::f64), twice = make_model(Dtype::f64), scaled = make_model(Dtype::f64);
    const auto a = make(kind, once, 0.5), b = make(kind, twice, 0.5), c = make(kind, scaled, 0);
    double squares = 0;
    add_grads(once, 7);
    for (const NamedParameter& named : parameters(once))
      for (const double value : named.parameter.grad().to_vector<double>()) squares += value * value;
    CHECK(grad_norm(parameters(once)) == doctest::Approx(std::sqrt(squares)).epsilon(1e-12));
    CHECK(a->step(0.01) == doctest::Approx(std::sqrt(squares)).epsilon(1e-12));
    for (int i = 0; i < 4; ++i) add_grads(twice, 7);
    CHECK(b->step(0.01, 4) == doctest::Approx(std::sqrt(squares)).epsilon(1e-12));
    add_grads(scaled, 7, 0.5 / std::sqrt(squares));
    CHECK(c->step(0.01) == doctest::Approx(0.5).epsilon(1e-6));
    for (const char* name : {"weight", "bias", "experts"}) {
      INFO(name);
      const auto find = [&](const Model& model) {
        for (NamedParameter& named : parameters(model))
          if (named.name == name) return named.parameter.value();
        return Array();
      };
      CHECK(difference(find(twice), find(once)) < 1e-12);
      CHECK(difference(find(scaled), find(once)) < 1e-6);
    }
    CHECK_FALSE(once.weight.grad().defined());
  }
}

DEVICE_TEST_CASE("optimizers: what is frozen or has no gradient stays; the copy in bf16 follows") {
  for (const OptimizerKind kind : kinds) {
    INFO(name_of(kind));
    Model model = make_model();
    const auto optimizer = make(kind, model);
    const Array bias = model.bias.value().clone(), weight = model.weight.value().clone(),
                experts = model.experts.value().clone();
    add_grads(model, 1);
    model.bias.freeze();
    model.experts.clear_grad();
    model.weight.as(Dtype::bf16);
    optimizer->step();
    CHECK(same_bits(model.bias.value(), bias));
    CHECK(same_bits(model.experts.value(), experts));
    CHECK_FALSE(same_bits(model.weight.value(), weight));
    CHECK(same_bits(model.weight.as(Dtype::bf16).value(), model.weight.value().to(Dtype::bf16)));
    CHECK(optimizer->step() == 0);  // without any gradient it still counts
    CHECK(optimizer->steps() == 2);
  }
  AdamW none({});
  CHECK(none.step() == 0);
}

DEVICE_TEST_CASE("optimizers: a gradient that isn't finite changes nothing") {
  for (const OptimizerKind kind : kinds) {
    INFO(name_of(kind));
    const Model model = make_model();
    const auto optimizer = make(kind, model);
    add_grads(model, 1), optimizer->step();
    const std::vector<NamedArray> state = copies(optimizer->state()), value = copies(values(parameters(model)));
    add_grads(model, 2);
    std::vector<float> numbers = model.bias.grad().to_vector<float>();
    numbers[3] = std::numeric_limits<float>::infinity();
    model.bias.grad().copy_from(Array::from(numbers, model.bias.shape(), current_device()));
    CHECK(contains(test::message_of<std::runtime_error>([&] { optimizer->step().value(); }),
                   "the gradient's norm is inf at step 1; lower the learning rate or look for NaN in the data"));
    CHECK(optimizer->steps() == (current_device().is_cpu() ? 1 : 2));  // nobody had looked at the norm yet
    CHECK(same_bits(optimizer->state(), state));
    CHECK(same_bits(values(parameters(model)), value));
    CHECK(
        contains(refusal([&] { optimizer->step(-1); }), "lr must not be negative and divisor positive, got -1 and 1"));
    CHECK(contains(refusal([&] { optimizer->step(1, 0); }), "got 1 and 0"));
  }
}

DEVICE_TEST_CASE("optimizers: every one lowers a loss") {
  for (const OptimizerKind kind : kinds) {
    INFO(name_of(kind));
    const Model model = make_model(Dtype::f64);
    OptimizerOptions options = OptimizerOptions::defaults(kind);
    options.lr = kind == OptimizerKind::lion ? 0.01 : 0.1, options.weight_decay = 0;
    const auto optimizer = make_optimizer(parameters(model), options);
    const auto loss = [&] {  // |w|^2 / 2
      double sum = 0;
      for (const NamedParameter& named : parameters(model))
        for (const double value : named.parameter.value().to_vector<double>()) sum += value * value / 2;
      return sum;
    };
    const double first = loss();
    for (int step = 0; step < 30; ++step) {
      for (const NamedParameter& named : parameters(model)) add_grad(named.parameter, named.parameter.value().clone());
      optimizer->step();
    }
    CHECK(loss() < 0.9 * first);
  }
}

DEVICE_TEST_CASE("parameter groups: a learning rate and weight decay of their own") {
  const double plain = 1 - 0.25;
  CHECK(after_step({}, 0.5) == Numbers{plain - 0.5, plain - 0.5, plain});
  const ParameterGroup by_name{.name = "named", .parameters = {"a"}, .lr_scale = 2},
      by_rule{.name = "rule", .where = [](const NamedParameter&p) { return p.name > "a"; }, .weight_decay = 0.125},
      rest{.name = "others", .rest = true, .lr_scale = 0.5};
  CHECK(after_step({by_name, by_rule}, 0.5) == Numbers{1 - 2 * 0.75, plain - 0.125, plain});
  CHECK(after_step({rest, by_name}, 0) == Numbers{0.5, 1 - 0.125, 1 - 0.125});
  const ParameterGroup still{.name = "still", .parameters = {"b", "c"}, .lr_scale = 0};
  CHECK(after_step({still, rest}, 0) == Numbers{1 - 0.125, 1, 1});
  for (const OptimizerKind kind : kinds) {  // each scales its learning rate by group
    INFO(name_of(kind));
    const Model model = make_model();
    const Array weight = model.weight.value().clone(), bias = model.bias.value().clone();
    const auto optimizer = make_optimizer(
        parameters(model), OptimizerOptions::defaults(kind),
        {{.name = "still", .parameters = {"weight", "bias"}, .lr_scale = 0}, {.name = "rest", .rest = true}});
    add_grads(model, 1);
    optimizer->step();
    CHECK(same_bits(model.weight.value(), weight));
    CHECK(same_bits(model.bias.value(), bias));
    CHECK_FALSE(same_bits(model.experts.value(), make_model().experts.value()));
  }
}

DEVICE_TEST_CASE("parameter groups: messages") {
  const auto message = [](const std::vector<ParameterGroup>& groups) {
    return refusal([&] { after_step(groups, 0); });
  };
  const ParameterGroup a{.name = "one", .parameters = {"a"}};
  const ParameterGroup all{.name = "all", .where = [](const NamedParameter&) { return true; }};
  const ParameterGroup rest{.name = "rest", .rest = true};
  CHECK(message({a}) == "Sgd: parameter 'b' is in no group; a group with rest = true takes all that are left");
  CHECK(message({a, all}) == "Sgd: parameter 'a' is in two groups, 'one' and 'all'");
  CHECK(message({{.name = "wrong", .parameters = {"a", "bb"}}, rest}) ==
        "Sgd: group 'wrong' names 'bb', but there is no such parameter");
  CHECK(message({{.name = "empty"}, rest}) ==
        "Sgd: group 'empty' takes nothing; give it the names of parameters, a function `where`, or rest = true");
  CHECK(message({{.name = "both", .parameters = {"a"}, .rest = true}}) ==
        "Sgd: group 'both' takes the rest, so it can't have names or a function `where`");
  CHECK(message({rest, {.name = "more", .rest = true}}) == "Sgd: groups 'rest' and 'more' both take the rest");
  CHECK(message({{.name = "g", .rest = true, .lr_scale = -1}}) ==
        "Sgd: lr_scale and weight_decay of group 'g' must not be negative, got -1 and 0");
  CHECK(contains(message({{.name = "g", .rest = true, .weight_decay = -2}}), "got 1 and -2"));
}

DEVICE_TEST_CASE("optimizers: states that don't fit are refused and change nothing") {
  const Model model = make_model();
  Lion optimizer(parameters(model));
  add_grads(model, 1), optimizer.step();
  const std::vector<NamedArray> good = copies(optimizer.state());
  CHECK(good.size() == 3);
  CHECK(good[0].name == "weight.momentum");
  const auto message = [&](auto&& change) {
    std::vector<NamedArray> arrays = copies(good);
    for (const NamedArray& named : arrays) named.array.fill(7);
    change(arrays);
    const std::string text = refusal([&] { optimizer.set_state(arrays, 9); });
    CHECK(same_bits(optimizer.state(), good));
    CHECK(optimizer.steps() == 1);
    return text;
  };
  CHECK(message([](auto& arrays) { arrays.pop_back(); }) == "Lion: the state has no tensor 'experts.momentum'");
  CHECK(message([](auto& arrays) {
          arrays.push_back({"bias.variance", Array::zeros({40}, {Dtype::f32, current_device()})});
        }) == "Lion: the state has a tensor 'bias.variance', which belongs to nothing here");
  CHECK(message([](auto& arrays) {
          arrays[1].array = Array::zeros({41}, {Dtype::f32, current_device()});
        }) == "Lion: tensor 'bias.momentum' is f32 [41] in the state and f32 [40] here");
  CHECK(message([](auto& arrays) { arrays[1].array = arrays[1].array.to(Dtype::f64); }) ==
        "Lion: tensor 'bias.momentum' is f64 [40] in the state and f32 [40] here");
  CHECK(contains(refusal([&] { AdamW(parameters(model)).set_state(good, 1); }), "no tensor 'weight.mean'"));
  CHECK(refusal([&] { optimizer.set_state(good, -1); }) == "Lion: steps must not be negative, got -1");
  CHECK(Sgd(parameters(model), {.momentum = 0}).state().empty());
}

DEVICE_TEST_CASE("optimizers: names, and messages of the constructors") {
  for (const OptimizerKind kind : kinds) CHECK(optimizer_kind_from_name(name_of(kind)) == kind);
  CHECK(refusal([] { optimizer_kind_from_name("adan"); }) ==
        "optimizer: must be adamw, adam, sgd, lion or muon, got 'adan'");
  CHECK(refusal([] { muon_scale_from_name("none"); }) == "Muon: scale must be match_adamw or original, got 'none'");
  for (const MuonScale scale : {MuonScale::match_adamw, MuonScale::original})
    CHECK(muon_scale_from_name(name_of(scale)) == scale);
  CHECK(refusal([] { AdamW({}, {.lr = -1}); }) ==
        "AdamW: lr, weight_decay and clip must not be negative and epsilon positive, got -1, 0.1, 1, 1e-08");
  CHECK(refusal([] { Adam({}, {.beta1 = 1}); }) == "Adam: betas must be in [0, 1), got 1 and 0.999");
  CHECK(refusal([] { Sgd({}, {.clip = -1}); }) ==
        "Sgd: lr, weight_decay and clip must not be negative, got 0.1, 0, -1");
  CHECK(refusal([] { Sgd({}, {.momentum = 1}); }) == "Sgd: momentum must be in [0, 1), got 1");
  CHECK(refusal([] { Sgd({}, {.momentum = 0, .nesterov = true}); }) == "Sgd: nesterov needs a momentum above 0");
  CHECK(refusal([] { Lion({}, {.weight_decay = -1}); }) ==
        "Lion: lr, weight_decay and clip must not be negative, got 0.0001, -1, 1");
  CHECK(refusal([] { Lion({}, {.beta2 = -0.5}); }) == "Lion: betas must be in [0, 1), got 0.9 and -0.5");
  CHECK(refusal([] { Muon({}, {.adamw_lr_scale = -1}); }) ==
        "Muon: lr, weight_decay, clip and adamw_lr_scale must not be negative, got 0.001, 0.1, 1, -1");
  CHECK(refusal([] { Muon({}, {.momentum = 2}); }) == "Muon: momentum must be in [0, 1), got 2");
  CHECK(refusal([] { Muon({}, {.iteration = {.iterations = 0}}); }) ==
        "Muon: iterations must be at least 1 and epsilons positive, got 0, 1e-07 and 1e-08");
  CHECK(refusal([] { Muon({}, {.beta1 = 2}); }) == "Muon: betas must be in [0, 1), got 2 and 0.95");

  const Model model = make_model();
  const auto with = [&](const char* name, Parameter parameter) {
    std::vector<NamedParameter> all = parameters(model);
    all.push_back({name, std::move(parameter)});
    return refusal([&] { AdamW(std::move(all)); });
  };
  CHECK(with("more", Parameter(Array::zeros({1}, {Dtype::f64, current_device()}))) ==
        fmt::format("AdamW: parameters must share dtype and device, 'weight' is f32 on {0}, 'more' f64 on {0}",
                    current_device().name()));
  CHECK(with("more", Parameter()) == "AdamW: parameter 'more' is not initialised; give it a value first");
  CHECK(with("bias", Parameter(Array::zeros({1}, {Dtype::f32, current_device()}))) ==
        "AdamW: two parameters have the name 'bias'");
  CHECK(with("again", model.bias.tie()) == "AdamW: 'bias' and 'again' are the same parameter");
}
