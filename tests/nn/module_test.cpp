// SPDX-License-Identifier: Apache-2.0
// nn/module.h: what follows from visit.
#include "nn/module.h"

#include <doctest/doctest.h>

#include "autograd/ops.h"
#include "tests/device.h"
#include "tests/temporary_folder.h"

using namespace moxie;
using namespace moxie::nn;
using namespace moxie::testing;
using namespace moxie::test;

namespace {

Parameter filled(const Shape& shape, double value) {
  return Parameter(Array::full(shape, value, {Dtype::f32, current_device()}));
}

struct Layer {
  Parameter weight;
  std::optional<Parameter> bias;

  static void visit(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
};

struct Block {
  Layer layer;
  std::vector<Parameter> experts;

  static void visit(auto& self, auto&& f) { f("layer", self.layer), f("experts", self.experts); }
};

// Everything a member can be: a parameter, a module, a vector of modules, an optional module, a tied parameter.
struct Model {
  Parameter embedding;
  std::vector<Block> blocks;
  std::optional<Layer> extra;
  Parameter head;

  static void visit(auto& self, auto&& f) {
    f("embedding", self.embedding), f("blocks", self.blocks), f("extra", self.extra), f("head", self.head);
  }
};

Model make_model(double first) {
  Model model{.embedding = filled({4, 2}, first), .blocks = {}, .extra = std::nullopt, .head = {}};
  for (int i = 0; i < 2; ++i) {
    Block block{.layer = {.weight = filled({2, 2}, first + 1 + i), .bias = std::nullopt}, .experts = {}};
    block.experts.push_back(filled({3}, first + 10 + i));
    block.experts.push_back(filled({3}, first + 20 + i));
    model.blocks.push_back(std::move(block));
  }
  model.blocks[1].layer.bias = filled({2}, first + 5);
  model.head = model.embedding.tie();
  return model;
}

const std::vector<std::string> names{"embedding",          "blocks.0.layer.weight", "blocks.0.experts.0",
                                     "blocks.0.experts.1", "blocks.1.layer.weight", "blocks.1.layer.bias",
                                     "blocks.1.experts.0", "blocks.1.experts.1"};

std::vector<std::string> names_of(const std::vector<NamedParameter>& all) {
  std::vector<std::string> result;
  for (const NamedParameter& named : all) result.push_back(named.name);
  return result;
}

std::vector<double> numbers_of(const Model& model) {
  std::vector<double> all;
  for (const NamedParameter& named : parameters(model)) {
    const std::vector<double> values = named.parameter.value().to_vector<double>();
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

}  // namespace

static_assert(!std::is_copy_constructible_v<Model>);

DEVICE_TEST_CASE("module: names join by dots, vectors count, absent members are absent, tied ones come once") {
  const Model model = make_model(1);
  CHECK(names_of(parameters(model)) == names);
  CHECK(count(model) == 8 + 2 * (4 + 3 + 3) + 2);
  std::vector<std::string> visited;
  for_each_parameter(model, [&](const std::string& name, const Parameter&) { visited.push_back(name); });
  std::vector<std::string> with_head = names;
  with_head.push_back("head");
  CHECK(visited == with_head);
  Model more = make_model(1);
  more.extra = Layer{.weight = filled({1}, 0), .bias = std::nullopt};
  CHECK(names_of(parameters(more)).back() == "extra.weight");
}

DEVICE_TEST_CASE("module: parameters are handles on the module's own") {
  const Model model = make_model(1);
  std::vector<NamedParameter> all = parameters(model);
  CHECK(all[0].parameter.is_tied_to(model.embedding));
  CHECK(all[0].parameter.is_tied_to(model.head));
  all[0].parameter.set_value(Array::full({4, 2}, 42, {Dtype::f32, current_device()}));
  CHECK(model.head.value().to_vector<double>() == std::vector<double>(8, 42));
}

DEVICE_TEST_CASE("module: freeze and clear gradients through a visit") {
  Model model = make_model(1);
  for_each_parameter(model, [](const std::string& name, Parameter& parameter) {
    if (name.find("experts") != std::string::npos) parameter.freeze();
  });
  CHECK(model.blocks[0].experts[1].frozen());
  CHECK_FALSE(model.blocks[0].layer.weight.frozen());
  model.embedding.as(Dtype::f32).backward(Array::full({4, 2}, 1, {Dtype::f32, current_device()}));
  CHECK(model.head.grad().defined());
  clear_grads(model);
  CHECK_FALSE(model.head.grad().defined());
}

DEVICE_TEST_CASE("module: to converts every parameter and keeps ties") {
  Model model = make_model(1);
  const std::vector<double> before = numbers_of(model);
  to(model, Dtype::f64);
  for (const NamedParameter& named : parameters(model)) CHECK(named.parameter.value().dtype() == Dtype::f64);
  CHECK(model.head.is_tied_to(model.embedding));
  CHECK(numbers_of(model) == before);
  to(model, Device::cpu());
  CHECK(numbers_of(model) == before);
}

DEVICE_TEST_CASE("module: save and load bring every number back, tied ones once") {
  const TemporaryFolder folder;
  const Model saved = make_model(1);
  save(saved, folder / "model.safetensors");
  const Safetensors file = read_safetensors(folder / "model.safetensors");
  REQUIRE(file.arrays.size() == names.size());
  for (size_t i = 0; i < names.size(); ++i) CHECK(file.arrays[i].name == names[i]);
  Model loaded = make_model(100);
  CHECK(loaded.blocks[0].layer.weight.as(Dtype::bf16).to_vector<double>()[0] == 101);
  load(loaded, folder / "model.safetensors");
  CHECK(numbers_of(loaded) == numbers_of(saved));
  CHECK(loaded.head.value().to_vector<double>() == saved.embedding.value().to_vector<double>());
  CHECK(loaded.blocks[0].layer.weight.as(Dtype::bf16).to_vector<double>()[0] == 2);  // the copy follows
}

DEVICE_TEST_CASE("module: a load that fails says why and changes nothing") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  const std::vector<NamedArray> good = values(parameters(make_model(1)));
  Model model = make_model(100);
  const std::vector<double> before = numbers_of(model);
  const auto message = [&](const std::vector<NamedArray>& arrays) {
    write_safetensors(path, arrays);
    return message_of<std::invalid_argument>([&] { load(model, path); });
  };
  std::vector<NamedArray> arrays = good;
  arrays.pop_back();
  CHECK(message(arrays) == "load: the file has no tensor 'blocks.1.experts.1', which the model needs");
  arrays = good;
  arrays.push_back({"spare", Array::zeros({1}, {Dtype::f32, current_device()})});
  CHECK(contains(message(arrays), "the file has 9 tensors, the model 8 parameters; first unknown: 'spare'"));
  arrays = good;
  arrays.back().array = Array::zeros({4}, {Dtype::f32, current_device()});
  CHECK(message(arrays) == "load: tensor 'blocks.1.experts.1' is f32 [4] in the file and f32 [3] in the model");
  arrays.back().array = Array::zeros({3}, {Dtype::f64, current_device()});
  CHECK(message(arrays) == "load: tensor 'blocks.1.experts.1' is f64 [3] in the file and f32 [3] in the model");
  const std::string cut = folder.write("cut", contents_of(path).substr(0, 600));
  CHECK(contains(message_of<std::invalid_argument>([&] { load(model, cut); }), "truncated"));
  CHECK(contains(message_of<std::runtime_error>([&] { load(model, folder / "none"); }), "No such file"));
  CHECK(numbers_of(model) == before);
  CHECK(message(good) == "");
  CHECK(numbers_of(model) == numbers_of(make_model(1)));
}

DEVICE_TEST_CASE("module: a parameter that is not initialised is named, not taken for a tied one") {
  Model model = make_model(1);
  model.blocks[0].layer.bias = Parameter();
  model.blocks[1].experts[0] = Parameter();
  CHECK(message_of<std::invalid_argument>([&] { parameters(model); }) ==
        "parameters: 'blocks.0.layer.bias' is not initialised; give it a value first");
  model.blocks[0].layer.bias = std::nullopt;
  CHECK(message_of<std::invalid_argument>([&] { count(model); }) ==
        "parameters: 'blocks.1.experts.0' is not initialised; give it a value first");
  int seen = 0;
  for_each_parameter(model, [&](const std::string&, const Parameter&) { ++seen; });
  CHECK(seen == 9);
}
