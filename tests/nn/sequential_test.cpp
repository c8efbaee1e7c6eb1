// SPDX-License-Identifier: Apache-2.0
// nn/sequential.h: composition names its parameters and computes what it says.
#include "nn/sequential.h"

#include "nn/layers.h"
#include "tests/nn/support.h"

using namespace moxie;
using namespace moxie::nn;
using namespace moxie::testing;

namespace {

auto make_net(uint64_t seed) {
  Initializer init(seed, current_device());
  Sequential net{Linear(6, 8, init, true),
                 relu,
                 Residual{Sequential{RmsNorm(8), Linear(8, 8, init)}},
                 Dropout(0.5),
                 [](const Tensor& x) { return 2 * x; },
                 Linear(8, 2, init)};
  to(net, current_device());  // the norm's weight is not drawn
  return net;
}

}  // namespace

DEVICE_TEST_CASE("Sequential: one layer after the other") {
  const auto net = make_net(1);
  const Tensor x(random({5, 6}, 2, 1, Dtype::f32));
  const Context context{};
  const auto& [first, activation, branch, dropout, twice, last] = net.layers;
  const Tensor hidden = relu(first(x, context));
  const auto& [norm, inner] = branch.layer.layers;
  const Tensor expected = last(2 * (hidden + inner(norm(hidden, context), context)), context);
  CHECK(same_bits(net(x, context).value(), expected.value()));
  const Context training{.training = true, .seed = 3};
  CHECK_FALSE(same_bits(net(x, training).value(), expected.value()));
}

DEVICE_TEST_CASE("Sequential: parameters are named by place, and drawn in the order of the braces") {
  auto net = make_net(1);
  std::vector<std::string> names;
  for (const NamedParameter& named : parameters(net)) names.push_back(named.name);
  CHECK(names == std::vector<std::string>{"0.weight", "0.bias", "2.0.weight", "2.1.weight", "5.weight"});
  Initializer init(1, current_device());
  for (const Shape& shape : {Shape{8, 6}, Shape{8, 8}, Shape{2, 8}}) {
    const double deviation = 1 / std::sqrt(static_cast<double>(shape[1]));
    const Array drawn = init.normal(shape, deviation);
    for (const NamedParameter& named : parameters(net))
      if (named.parameter.shape() == shape) CHECK(same_bits(named.parameter.value(), drawn));
  }
  to(net, Dtype::f64);
  CHECK(std::get<0>(net.layers).weight.value().dtype() == Dtype::f64);
  CHECK(count(net) == 48 + 8 + 8 + 64 + 16);
}

DEVICE_TEST_CASE("Sequential: trains, saves and loads as any module") {
  const test::TemporaryFolder folder;
  const auto net = make_net(1);
  auto other = make_net(2);
  save(net, folder / "net");
  load(other, folder / "net");
  CHECK(same_bits(values(parameters(net)), values(parameters(other))));
  const Tensor x(random({5, 6}, 2, 1, Dtype::f32));
  mean(net(x, Context{})).backward();
  for (const NamedParameter& named : parameters(net)) {
    INFO(named.name);
    CHECK(named.parameter.grad().defined());
  }
}

DEVICE_TEST_CASE("Residual: around a function and around a layer") {
  const Residual of_function{relu};
  const Tensor x = Tensor::from({-1, 2}, {2}, current_device());
  CHECK(of_function(x, Context{}).to_vector<double>() == Numbers{-1, 4});
  CHECK(parameters(of_function).empty());
  Initializer init(1, current_device());
  const Residual of_layer{Linear(2, 2, init)};
  CHECK(parameters(of_layer)[0].name == "weight");
}
