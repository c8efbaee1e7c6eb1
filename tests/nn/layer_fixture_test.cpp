// SPDX-License-Identifier: Apache-2.0
// Every layer and schedule against PyTorch (and transformers): tests/fixtures/layers.py made the numbers.
#include "nn/attention.h"
#include "nn/schedule.h"
#include "tests/fixture.h"
#include "tests/nn/support.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

// The layer's output for the stored weights, and every gradient of the stored cotangent.
template <class Input, class Layer, class Apply>
void compare(const Fixture& fixture, const std::string& name, Layer& layer, Dtype dtype, const Apply& apply) {
  CAPTURE(name);
  CAPTURE(name_of(dtype));
  const double tolerance = dtype == Dtype::f64 ? 1e-10 : 1e-5;
  const auto stored = [&](const std::string& what) { return fixture[name + "." + what]; };
  nn::to(layer, dtype);
  std::vector<nn::NamedParameter> all = nn::parameters(layer);
  CHECK(all.size() == fixture.count(name + ".weight."));
  for (nn::NamedParameter& named : all) named.parameter.set_value(stored("weight." + named.name).to(dtype));
  Input x;
  if constexpr (std::is_same_v<Input, Tensor>)
    x = Tensor(stored("x").to(dtype).clone()).set_requires_grad();
  else
    x = stored("x");
  const Tensor y = apply(layer, x, nn::Context{.dtype = dtype});
  CHECK(difference(y.value(), stored("y")) < tolerance);
  y.backward(stored("dy").to(dtype));
  if constexpr (std::is_same_v<Input, Tensor>) CHECK(difference(x.grad(), stored("dx")) < tolerance);
  for (const nn::NamedParameter& named : all) {
    CAPTURE(named.name);
    CHECK(difference(named.parameter.grad(), stored("grad." + named.name)) < tolerance);
  }
}

template <class Layer> void compare(const Fixture& fixture, const std::string& name, Layer layer) {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32})
    compare<Tensor>(fixture, name, layer, dtype,
                    [](const Layer& l, const Tensor& x, const nn::Context& context) { return l(x, context); });
}

constexpr int64_t width = 8, hidden = 6;

}  // namespace

TEST_CASE("layers as in PyTorch: linear, embedding, norms, dropout, feed-forward") {
  const Fixture fixture("layers.safetensors");
  nn::Initializer init(1);
  compare(fixture, "linear", nn::Linear(width, hidden, init, true));
  compare(fixture, "linear_plain", nn::Linear(width, hidden, init));
  compare(fixture, "rms_norm", nn::RmsNorm(width));
  compare(fixture, "layer_norm", nn::LayerNorm(width));
  compare(fixture, "layer_norm_plain", nn::LayerNorm(width, 1e-3, false));
  compare(fixture, "dropout", nn::Dropout(0.5));
  compare(fixture, "feed_forward_swiglu", nn::FeedForward(width, hidden, Activation::swiglu, init));
  compare(fixture, "feed_forward_gelu", nn::FeedForward(width, hidden, Activation::gelu, init));
  compare(fixture, "feed_forward_relu", nn::FeedForward(width, hidden, Activation::relu, init));
  nn::Embedding embedding(5, width, init);
  for (const Dtype dtype : {Dtype::f64, Dtype::f32})
    compare<Array>(fixture, "embedding", embedding, dtype,
                   [](const nn::Embedding& l, const Array& x, const nn::Context& context) { return l(x, context); });
}

TEST_CASE("attention as in PyTorch and transformers: heads, rotation, norms, windows, softcaps, masks") {
  const Fixture fixture("layers.safetensors");
  struct Case {
    std::string name;
    nn::AttentionOptions options;
  };
  using nn::QkNorm;
  for (const Case& c :
       {Case{"multihead", {.bias = true, .rope_base = 0, .causal = false}},
        Case{"multihead_causal", {.bias = true, .rope_base = 0}}, Case{"rope", {}},
        Case{"rope_base", {.bias = true, .rope_base = 100}}, Case{"grouped", {.heads = 4, .kv_heads = 2}},
        Case{"one_kv_head", {.heads = 4, .kv_heads = 1, .causal = false}},
        Case{"norm_per_head", {.kv_heads = 1, .qk_norm = QkNorm::per_head}},
        Case{"norm_whole", {.qk_norm = QkNorm::whole}}, Case{"clip", {.clip_qkv = 0.8}}, Case{"window", {.window = 3}},
        Case{"softcap", {.softcap = 0.7}}, Case{"mask", {.causal = false}},
        Case{"everything",
             {.heads = 4, .kv_heads = 2, .qk_norm = QkNorm::per_head, .bias = true, .window = 4, .softcap = 1.5}}}) {
    nn::Initializer init(1);
    nn::AttentionOptions options = c.options;
    options.width = width, options.head_dim = 4;
    if (options.heads == 0) options.heads = 2;
    nn::Attention layer(options, init);
    const Array mask = fixture.has(c.name + ".mask") ? fixture[c.name + ".mask"] : Array();
    for (const Dtype dtype : {Dtype::f64, Dtype::f32})
      compare<Tensor>(fixture, c.name, layer, dtype,
                      [&](const nn::Attention& l, const Tensor& x, const nn::Context& context) {
                        return l(x, context, nullptr, mask);
                      });
  }
}

TEST_CASE("attention with a cache, window, softcap and mask, in pieces of any size, equals the whole") {
  nn::Initializer init(3);
  const nn::Attention layer({.width = 8, .heads = 4, .kv_heads = 2, .window = 5, .softcap = 2}, init);
  const int64_t time = 13;
  const Tensor x(random({2, time, 8}, 1, 1, Dtype::f32));
  std::vector<uint8_t> seen;
  for (int64_t i = 0; i < 2 * time * time; ++i) seen.push_back(i % 3 != 0);
  const Array mask = Array::from(seen, {2, 1, time, time});
  const Tensor whole = layer(x, {}, nullptr, mask);
  for (const std::vector<int64_t>& pieces : {std::vector<int64_t>{13}, {1, 1, 2, 9}, {7, 1, 1, 1, 3}}) {
    nn::KeyValueCache cache;
    int64_t first = 0;
    for (const int64_t count : pieces) {
      const Tensor rows = slice(Tensor(mask.to(Dtype::f32)), 2, first, count);
      const Array part_mask = greater(slice(rows, 3, 0, first + count), 0.5);
      const Tensor part = layer(slice(x, 1, first, count), {.first_position = first}, &cache, part_mask);
      CHECK(difference(part.value(), slice(whole, 1, first, count).value()) < 1e-5);
      first += count;
    }
  }
}

TEST_CASE("schedules as in PyTorch and transformers") {
  const Fixture fixture("layers.safetensors");
  for (const nn::Decay decay :
       {nn::Decay::cosine, nn::Decay::linear, nn::Decay::constant, nn::Decay::wsd_linear, nn::Decay::wsd_sqrt}) {
    CAPTURE(name_of(decay));
    const nn::Schedule schedule{
        .peak = 0.5, .steps = 20, .warmup = 5, .decay = decay, .final_share = 0.1, .decay_share = 0.4};
    const std::vector<double> rates = fixture[std::string("schedule.") + name_of(decay)].to_vector<double>();
    REQUIRE(rates.size() == 20);
    for (size_t step = 0; step < rates.size(); ++step) {
      CAPTURE(step);
      CHECK(schedule.at(static_cast<int64_t>(step)) == doctest::Approx(rates[step]).epsilon(1e-12));
    }
  }
}
