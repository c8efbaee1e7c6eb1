// SPDX-License-Identifier: Apache-2.0
// The MoE layer against a loop over tokens, the dense network, and differences; when the ERC loss is computed.
#include "moe/layer.h"

#include "tests/moe/support.h"

namespace moxie::moe {
namespace {

using namespace moxie::testing;

const nn::Context precise{.dtype = Dtype::f64};
constexpr Activation activations[] = {Activation::swiglu, Activation::gelu, Activation::relu};

MoeLayer make_layer(int64_t width, const MoeOptions& options, uint64_t seed = 1, Dtype dtype = Dtype::f64) {
  nn::Initializer init(seed, current_device());
  MoeLayer layer(width, options, init);
  nn::to(layer, dtype);
  if (layer.router.bias) layer.router.bias->set_value(random({options.router.experts}, seed + 20));
  return layer;
}

// y of one token after another by elementary ops, for the assignments that `layer` chose.
Tensor token_by_token(const MoeLayer& layer, const Tensor& x, const Tensor& router, const Tensor& bias,
                      const Tensor& gate_up, const Tensor& down, const Array& chosen) {
  const RouterOptions& options = layer.options.router;
  const auto norm = [](const Tensor& rows, double tau) { return sqrt(sum(rows * rows, 1, true)) + tau; };
  const Tensor z = matmul(x, router, {.transpose_y = true}) / norm(x, options.tau_token) /
                   transpose(norm(router, options.tau_expert), 0, 1);
  Tensor exponentials = exp(z + bias);
  if (options.weighting == Weighting::before_top_k) exponentials = exponentials / sum(exponentials, 1, true);
  Tensor weights = gather(exponentials, 1, chosen);
  if (options.weighting != Weighting::before_top_k) weights = weights / sum(weights, 1, true);
  const std::vector<int32_t> experts = chosen.to_vector<int32_t>();
  const int64_t hidden = layer.experts.hidden;
  std::vector<Tensor> rows;
  for (int64_t t = 0; t < x.dim(0); ++t) {
    Tensor y;
    for (int64_t j = 0; j < options.top_k; ++j) {
      const int64_t e = experts[static_cast<size_t>(t * options.top_k + j)];
      const auto matrix = [e](const Tensor& w) { return reshape(slice(w, 0, e, 1), {w.dim(1), w.dim(2)}); };
      const Tensor projected = matmul(slice(x, 0, t, 1), matrix(gate_up), {.transpose_y = true});
      Tensor units;
      if (layer.experts.activation == Activation::swiglu)
        units = silu(slice(projected, 1, 0, hidden)) * slice(projected, 1, hidden, hidden);
      else
        units = layer.experts.activation == Activation::gelu ? gelu(projected) : relu(projected);
      const Tensor term = slice(slice(weights, 0, t, 1), 1, j, 1) * matmul(units, matrix(down), {.transpose_y = true});
      y = y.defined() ? y + term : term;
    }
    rows.push_back(y);
  }
  return concat(rows, 0);
}

DEVICE_TEST_CASE("the layer equals a loop over tokens and their experts, values and all gradients") {
  for (const Activation activation : activations)
    for (const Weighting weighting :
         {Weighting::after_top_k, Weighting::before_top_k, Weighting::before_top_k_renormalized})
      for (const auto& [experts, top_k] : {std::pair<int64_t, int64_t>(5, 2), {4, 4}, {3, 1}, {12, 3}}) {
        INFO(fmt::format("{} {} {} {}", name_of(activation), name_of(weighting), experts, top_k));
        const MoeLayer layer = make_layer(6, {.router = {.experts = experts, .top_k = top_k, .weighting = weighting},
                                              .hidden = 5,
                                              .activation = activation});
        const Array value = random({9, 6}, 1), dy = random({9, 6}, 2);
        const Tensor x = leaf(value);
        const MoeOutput output = layer(x, precise);
        output.y.backward(dy);
        CHECK_FALSE(output.erc.defined());
        const Tensor x2 = leaf(value), router = leaf(layer.router.weight.value()),
                     bias = leaf(layer.router.bias->value());
        const Tensor gate_up = leaf(layer.experts.gate_up.value()), down = leaf(layer.experts.down.value());
        const Tensor y2 = token_by_token(layer, x2, router, bias, gate_up, down, output.routing.chosen);
        y2.backward(dy);
        CHECK(difference(output.y, y2) < 1e-13);
        CHECK(difference(x.grad(), x2.grad()) < 1e-12);
        CHECK(difference(layer.router.weight.grad(), router.grad(), 1e-2) < 1e-12);
        CHECK(difference(layer.router.bias->grad(), bias.grad(), 1e-2) < 1e-12);
        CHECK(difference(layer.experts.gate_up.grad(), gate_up.grad()) < 1e-12);
        CHECK(difference(layer.experts.down.grad(), down.grad()) < 1e-12);
      }
}

DEVICE_TEST_CASE("one expert equals the dense feed-forward network, values and gradients") {
  for (const Activation activation : activations) {
    const MoeLayer layer = make_layer(6, {.router = {.experts = 1, .top_k = 1}, .hidden = 7, .activation = activation});
    nn::Initializer init(3, current_device());
    nn::FeedForward dense(6, 7, activation, init);
    nn::to(dense, Dtype::f64);
    dense.up.weight.set_value(layer.experts.gate_up.value().reshape(dense.up.weight.shape()));
    dense.down.weight.set_value(layer.experts.down.value().reshape(dense.down.weight.shape()));
    const Array value = random({10, 6}, 1), dy = random({10, 6}, 2);
    const Tensor x1 = leaf(value), x2 = leaf(value);
    const Tensor y1 = layer(x1, precise).y, y2 = dense(x2, precise);
    y1.backward(dy), y2.backward(dy);
    CHECK(difference(y1, y2) < 1e-14);
    CHECK(difference(x1.grad(), x2.grad()) < 1e-13);
    CHECK(difference(layer.experts.gate_up.grad().reshape(dense.up.weight.shape()), dense.up.weight.grad()) < 1e-13);
    CHECK(difference(layer.experts.down.grad().reshape(dense.down.weight.shape()), dense.down.weight.grad()) < 1e-13);
    CHECK(all_zero(layer.router.weight.grad()));  // the only weight is 1, whatever the score
  }
}

DEVICE_TEST_CASE("experts without tokens get zero gradients, one with all of them gets everything") {
  nn::Initializer init(1, current_device());
  Experts experts(4, 6, 5, Activation::swiglu, init);
  nn::to(experts, Dtype::f64);
  Numbers z;
  for (int t = 0; t < 8; ++t) z.insert(z.end(), {0, 1, 9, 2});
  const Routing routing = route(Tensor(Array::from(z, {8, 4}, current_device())), {}, 1, Weighting::after_top_k);
  poison_new_memory(true);
  for (int pass = 1; pass <= 2; ++pass) {
    const Tensor x = leaf(random({8, 6}, 1));
    combine(experts(dispatch(x, routing), routing, precise), routing).backward(random({8, 6}, 2));
    for (const nn::Parameter* weight : {&experts.gate_up, &experts.down})
      for (int64_t e = 0; e < 4; ++e) CHECK(all_zero(weight->grad().rows(e, 1)) == (e != 2));
  }
  poison_new_memory(false);
}

DEVICE_TEST_CASE("an empty batch goes through the layer, forward and backward") {
  const MoeLayer layer = make_layer(6, {.router = {.experts = 4, .top_k = 2}, .hidden = 5});
  const Tensor x = leaf(random({0, 6}, 1));
  const MoeOutput output = layer(x, precise);
  CHECK(output.y.shape() == Shape({0, 6}));
  CHECK(output.routing.load() == std::vector<int64_t>(4));
  output.y.backward(random({0, 6}, 2));
  CHECK(x.grad().shape() == Shape({0, 6}));
  for (const nn::NamedParameter& named : nn::parameters(layer)) {
    INFO(named.name);
    REQUIRE(named.parameter.grad().defined());
    CHECK(all_zero(named.parameter.grad()));
  }
}

DEVICE_TEST_CASE("in bf16 the layer is near f32, with the same routing") {
  for (const Activation activation : activations) {
    const MoeLayer layer =
        make_layer(32, {.router = {.experts = 8, .top_k = 3}, .hidden = 24, .activation = activation}, 1, Dtype::f32);
    const Array value = random({50, 32}, 1, 1, Dtype::bf16), dy = random({50, 32}, 2, 1, Dtype::bf16);
    std::vector<std::vector<Array>> results;
    std::vector<Array> chosen;
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      const Tensor x = leaf(value.to(dtype));
      nn::clear_grads(layer);
      const MoeOutput output = layer(x, {.dtype = dtype});
      CHECK(output.y.dtype() == dtype);
      CHECK(output.routing.weights.dtype() == Dtype::f32);
      output.y.backward(dy.to(dtype));
      results.push_back({output.y.value(), x.grad()});
      chosen.push_back(output.routing.chosen);
      for (const nn::NamedParameter& named : nn::parameters(layer)) {
        CHECK(named.parameter.grad().dtype() == Dtype::f32);
        results.back().push_back(named.parameter.grad().clone());
      }
    }
    CHECK(same_bits(chosen[0], chosen[1]));
    for (size_t i = 0; i < results[0].size(); ++i) CHECK(difference(results[1][i], results[0][i]) < 0.03);
  }
}

DEVICE_TEST_CASE("the ERC loss is computed in training, in the first micro-batch, from a key of seed, step and layer") {
  const MoeLayer layer =
      make_layer(6, {.router = {.experts = 4, .top_k = 2}, .hidden = 5, .erc = true, .erc_alpha = 0.7});
  const Tensor x(random({3, 6}, 1)), more(random({48, 6}, 2));
  nn::Context context{.training = true, .dtype = Dtype::f64, .seed = 5, .step = 6, .layer = 7};
  const MoeOutput output = layer(x, context);
  REQUIRE(output.erc.defined());
  const Array router = layer.router.weight.value(),
              delta = erc_noise(router, context.key(nn::Purpose::erc_proxy, false));
  CHECK(output.erc.item() == erc_loss(Tensor(router), layer.experts.gate_up.as(Dtype::f64), 5, delta, 0.7).item());
  CHECK(layer(more, context).erc.item() == output.erc.item());  // not of the batch
  for (auto change : {+[](nn::Context& c) { c.seed = 9; }, +[](nn::Context& c) { c.step = 9; },
                      +[](nn::Context& c) { c.layer = 9; }}) {
    nn::Context other = context;
    change(other);
    CHECK(layer(x, other).erc.item() != output.erc.item());
  }
  context.micro_batch = 1;
  CHECK_FALSE(layer(x, context).erc.defined());
  context.micro_batch = 0, context.training = false;
  CHECK_FALSE(layer(x, context).erc.defined());
  const MoeLayer without = make_layer(6, {.router = {.experts = 4, .top_k = 2}, .hidden = 5});
  CHECK_FALSE(without(x, {.training = true, .dtype = Dtype::f64}).erc.defined());
}

DEVICE_TEST_CASE("ERC in bf16 is computed from the f32 parameters; experts without a gate use their whole projection") {
  const MoeLayer layer =
      make_layer(16, {.router = {.experts = 4, .top_k = 2}, .hidden = 8, .activation = Activation::gelu, .erc = true},
                 1, Dtype::f32);
  const Array x = random({3, 16}, 1, 1, Dtype::f32);
  const nn::Context wide{.training = true}, narrow{.training = true, .dtype = Dtype::bf16};
  const Tensor a = layer(Tensor(x), wide).erc, b = layer(Tensor(x.to(Dtype::bf16)), narrow).erc;
  if (current_device().is_cpu())
    CHECK(a.item() == b.item());
  else
    CHECK(a.item() == doctest::Approx(b.item()).epsilon(2e-3));  // TF32
  b.backward();
  CHECK(layer.router.weight.grad().dtype() == Dtype::f32);
  // M by hand: all 8 rows of the projection count.
  const Numbers r = layer.router.weight.value().to_vector<double>(),
                w = layer.experts.gate_up.value().to_vector<double>();
  double squares = 0;
  for (size_t row = 0; row < 8; ++row) {
    double dot = 0;
    for (size_t k = 0; k < 16; ++k) dot += r[16 + k] * w[(2 * 8 + row) * 16 + k];
    squares += dot * dot;
  }
  CHECK(layer.coupling().to_vector<double>()[1 * 4 + 2] == doctest::Approx(std::sqrt(squares)).epsilon(1e-5));
}

DEVICE_TEST_CASE("ERC adds to the gradient that the tokens gave, exactly once") {
  const MoeOptions options{.router = {.experts = 4, .top_k = 2}, .hidden = 5, .erc = true};
  const MoeLayer both = make_layer(6, options), apart = make_layer(6, options);
  const nn::Context context{.training = true, .dtype = Dtype::f64};
  const Array x = random({7, 6}, 1);
  const MoeOutput output = both(Tensor(x), context);
  (sum(output.y * output.y) + output.erc).backward();
  const MoeOutput first = apart(Tensor(x), context);
  sum(first.y * first.y).backward();
  apart(Tensor(x), context).erc.backward();
  for (size_t i = 0; i < nn::parameters(both).size(); ++i) {
    INFO(nn::parameters(both)[i].name);
    CHECK(difference(nn::parameters(both)[i].parameter.grad(), nn::parameters(apart)[i].parameter.grad()) < 1e-13);
  }
}

}  // namespace
}  // namespace moxie::moe
