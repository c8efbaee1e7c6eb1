// SPDX-License-Identifier: Apache-2.0
// Dispatch, expert FFNs and combine in one op, against their composition.
#include "core/storage.h"
#include "moe/experts.h"
#include "tests/device.h"
#include "tests/moe/support.h"

using namespace moxie;
using namespace moxie::moe;
using namespace moxie::testing;

namespace {

struct Result {
  Array y, dx, dgate_up, ddown, dweights;
};

struct Sizes {
  int64_t tokens, width, hidden, experts, top_k;
  int64_t used;  // only the first experts are chosen
};

Array rounded(const Array& x) { return x.to(Dtype::bf16).to(Dtype::f32); }

// What the experts give for numbers that bf16 holds exactly, in `dtype` on `device`; twice, the second time added to
// the first gradients of the weights.
Result run(const Sizes& s, Device device, Dtype dtype, bool composed) {
  nn::Initializer init(3);
  Experts experts(s.experts, s.width, s.hidden, Activation::swiglu, init);
  experts.gate_up.set_value(rounded(experts.gate_up.value()));
  experts.down.set_value(rounded(experts.down.value()));
  nn::to(experts, device);
  std::vector<int32_t> picks;
  for (int64_t t = 0; t < s.tokens; ++t)
    for (int64_t k = 0; k < s.top_k; ++k) picks.push_back(static_cast<int32_t>((t * t + k * (t % 2 + 1)) % s.used));
  const Array chosen = integers(picks, {s.tokens, s.top_k}).to(device);
  const Tensor weights = leaf(random({s.tokens, s.top_k}, 4, 1, Dtype::f32).to(device));
  const Tensor scores(Array::full({s.tokens, s.experts}, 0, {Dtype::f32, device}));
  const Tensor x = leaf(rounded(random({s.tokens, s.width}, 5, 1, Dtype::f32)).to(dtype).to(device));
  const Array dy = rounded(random({s.tokens, s.width}, 6, 1, Dtype::f32)).to(dtype).to(device);
  const nn::Context context{.training = true, .dtype = dtype};
  const Routing routing = make_routing(scores, weights, chosen, s.experts);
  Result result;
  for (int pass = 0; pass < 2; ++pass) {
    const Tensor y = composed ? combine(experts(dispatch(x, routing), routing, context), routing)
                              : experts.combined(x, routing, context);
    y.backward(dy);
    result.y = y.value().to(Device::cpu());
  }
  const auto home = [](const Array& value) { return value.to(Device::cpu()).to(Dtype::f32); };
  result.dx = home(x.grad());
  result.dgate_up = home(experts.gate_up.grad());
  result.ddown = home(experts.down.grad());
  result.dweights = home(weights.grad());
  return result;
}

// |a - b| / |b|, of all numbers together.
double distance(const Array& a, const Array& b) {
  const Numbers x = a.to_vector<double>(), y = b.to_vector<double>();
  double difference = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    difference += (x[i] - y[i]) * (x[i] - y[i]);
    size += y[i] * y[i];
  }
  return std::sqrt(difference / (size > 0 ? size : 1));
}

const std::vector<Sizes> all_sizes = {
    {300, 64, 32, 6, 2, 4},   {77, 136, 72, 3, 3, 3},  {1, 8, 8, 5, 1, 1},
    {700, 128, 264, 4, 2, 4}, {40, 520, 152, 3, 2, 3},  // gradients of weights in uneven pieces
    {2400, 24, 16, 3, 2, 2}};                           // several runs of an expert's rows, none of the last's

}  // namespace

TEST_CASE("combined experts are dispatch, experts and combine") {
  for (const Device device : devices()) {
    for (const Sizes& sizes : all_sizes) {
      CAPTURE(device.name());
      CAPTURE(sizes.width);
      const Result one = run(sizes, device, Dtype::f32, false), parts = run(sizes, device, Dtype::f32, true);
      // On the CPU SwiGLU is fused: sums are cut elsewhere.
      const double most = device.is_cpu() ? 1e-6 : 0;
      CHECK(distance(one.y, parts.y) <= most);
      CHECK(distance(one.dx, parts.dx) <= most);
      CHECK(distance(one.dgate_up, parts.dgate_up) <= most);
      CHECK(distance(one.ddown, parts.ddown) <= most);
      CHECK(distance(one.dweights, parts.dweights) <= most);
    }
  }
}

TEST_CASE("fused experts on the CPU: the same bits for any number of threads, with all memory poisoned") {
  poison_new_memory(true);
  const int before = threads();
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    for (const Sizes& sizes : all_sizes) {
      CAPTURE(sizes.width);
      set_threads(1);
      const Result one = run(sizes, Device::cpu(), dtype, false);
      set_threads(3);
      const Result three = run(sizes, Device::cpu(), dtype, false);
      CHECK(same_bits(one.y.to(Dtype::f32), three.y.to(Dtype::f32)));
      CHECK(same_bits(one.dx, three.dx));
      CHECK(same_bits(one.dgate_up, three.dgate_up));
      CHECK(same_bits(one.ddown, three.ddown));
      CHECK(same_bits(one.dweights, three.dweights));
    }
  set_threads(before);
  poison_new_memory(false);
}

TEST_CASE(
    "fused experts: gradients of only some of the inputs are those of all, with several runs of an expert's rows") {
  const int64_t tokens = 2400, width = 8, hidden = 6, experts = 3, top_k = 2;
  std::vector<int32_t> picks;
  for (int64_t i = 0; i < tokens * top_k; ++i) picks.push_back(static_cast<int32_t>(i % 2));  // none for the last
  const Array chosen = Array::from(picks, {tokens, top_k}), dy = random({tokens, width}, 5);
  const Tensor scores = Tensor::zeros({tokens, experts}, {Dtype::f64});
  const std::vector<Array> values = {random({tokens, width}, 1), random({experts, 2 * hidden, width}, 2),
                                     random({experts, width, hidden}, 3), random({tokens, top_k}, 4)};
  const auto gradients = [&](const std::vector<bool>& wanted) {
    std::vector<Tensor> in;
    for (size_t i = 0; i < values.size(); ++i) in.push_back(wanted[i] ? leaf(values[i]) : Tensor(values[i]));
    expert_ffn(in[0], in[1], in[2], make_routing(scores, in[3], chosen, experts)).backward(dy);
    return in;
  };
  const std::vector<Tensor> all = gradients({true, true, true, true});
  for (size_t only = 0; only < values.size(); ++only) {
    CAPTURE(only);
    std::vector<bool> wanted(values.size());
    wanted[only] = true;
    CHECK(same_bits(gradients(wanted)[only].grad(), all[only].grad()));
  }
}

TEST_CASE("expert_ffn: weights that are bf16 themselves get bf16 gradients") {
  const auto bf16_leaf = [](const Shape& shape, uint64_t seed) { return leaf(random(shape, seed).to(Dtype::bf16)); };
  const Tensor x = bf16_leaf({40, 8}, 1), gate_up = bf16_leaf({2, 12, 8}, 2), down = bf16_leaf({2, 8, 6}, 3);
  const std::vector<int32_t> picks(40, 1);
  const Array chosen = Array::from(picks, {40, 1}), dy = random({40, 8}, 4).to(Dtype::bf16);
  const auto routing = [&](Dtype dtype) {
    return make_routing(Tensor::zeros({40, 2}, {dtype}), Tensor::full({40, 1}, 0.5, {dtype}), chosen, 2);
  };
  expert_ffn(x, gate_up, down, routing(Dtype::f32)).backward(dy);
  const auto wide = [](const Tensor& value) { return leaf(value.value().to(Dtype::f64)); };
  const Tensor exact_x = wide(x), exact_gate_up = wide(gate_up), exact_down = wide(down);
  expert_ffn(exact_x, exact_gate_up, exact_down, routing(Dtype::f64)).backward(dy.to(Dtype::f64));
  for (const auto& [got, wanted] :
       {std::pair(x, exact_x), std::pair(gate_up, exact_gate_up), std::pair(down, exact_down)}) {
    CHECK(got.grad().dtype() == Dtype::bf16);
    CHECK(distance(got.grad(), wanted.grad()) < 1.2e-2);
  }
}

TEST_CASE("fused experts on the CPU: gradients") {
  // Experts without a token, with one and with more than a block of rows.
  for (const Sizes& s : {Sizes{5, 3, 2, 4, 2, 3}, Sizes{1, 2, 3, 2, 1, 1}, Sizes{300, 3, 2, 2, 1, 1}}) {
    CAPTURE(s.tokens);
    nn::Initializer init(3);
    Experts experts(s.experts, s.width, s.hidden, Activation::swiglu, init);
    nn::to(experts, Dtype::f64);
    std::vector<int32_t> picks;
    for (int64_t t = 0; t < s.tokens; ++t)
      for (int64_t k = 0; k < s.top_k; ++k) picks.push_back(static_cast<int32_t>((t + k) % s.used));
    const Array chosen = Array::from(picks, {s.tokens, s.top_k});
    const Tensor scores = Tensor::zeros({s.tokens, s.experts}, {Dtype::f64});
    const Array gate_up = experts.gate_up.value(), down = experts.down.value();
    check_gradients(
        [&](std::span<const Tensor> in) {
          const Routing routing = make_routing(scores, in[1], chosen, s.experts);
          return expert_ffn(in[0], in[2], in[3], routing);
        },
        {leaf(random({s.tokens, s.width}, 1)), leaf(random({s.tokens, s.top_k}, 2)), leaf(gate_up), leaf(down)});
  }
}

TEST_CASE("fused experts keep x and what lies before the activation, and nothing else of the slots' size") {
  const Sizes s{64, 32, 16, 4, 2, 4};
  nn::Initializer init(3);
  const Experts experts(s.experts, s.width, s.hidden, Activation::swiglu, init);
  std::vector<int32_t> picks;
  for (int64_t i = 0; i < s.tokens * s.top_k; ++i) picks.push_back(static_cast<int32_t>(i % s.experts));
  const Tensor weights = leaf(random({s.tokens, s.top_k}, 4, 1, Dtype::f32));
  const Routing routing =
      make_routing(Tensor::zeros({s.tokens, s.experts}), weights, Array::from(picks, {s.tokens, s.top_k}), s.experts);
  const Tensor x = leaf(random({s.tokens, s.width}, 5, 1, Dtype::f32));
  const int64_t before = cpu_memory().live_bytes;
  const Tensor y = experts.combined(x, routing, {.training = true});
  const int64_t slots = s.tokens * s.top_k, size = static_cast<int64_t>(sizeof(float));
  CHECK(cpu_memory().live_bytes - before == (slots * 2 * s.hidden + s.tokens * s.width) * size);
}

TEST_CASE("fused experts in bf16 are near the composition in f32, and twice the same") {
  poison_new_memory(true);
  for (const Device device : devices())
    for (const Sizes& sizes : all_sizes) {
      CAPTURE(device.name());
      CAPTURE(sizes.width);
      CAPTURE(sizes.hidden);
      const Result exact = run(sizes, Device::cpu(), Dtype::f32, true);
      const Result fused = run(sizes, device, Dtype::bf16, false), again = run(sizes, device, Dtype::bf16, false);
      const Result parts = run(sizes, device, Dtype::bf16, true);
      const auto near = [](const Array& got, const Array& composed, const Array& wanted) {
        const double error = distance(got, wanted);
        CHECK(error < 1.2e-2);
        CHECK(error <= 1.5 * distance(composed, wanted) + 1e-4);  // fusing rounds less, not more
      };
      near(fused.y, parts.y, exact.y);
      near(fused.dx, parts.dx, exact.dx);
      near(fused.dgate_up, parts.dgate_up, exact.dgate_up);
      near(fused.ddown, parts.ddown, exact.ddown);
      near(fused.dweights, parts.dweights, exact.dweights);
      CHECK(distance(again.y, fused.y) == 0);
      CHECK(distance(again.dx, fused.dx) == 0);
      CHECK(distance(again.dgate_up, fused.dgate_up) == 0);
      CHECK(distance(again.ddown, fused.ddown) == 0);
      CHECK(distance(again.dweights, fused.dweights) == 0);
    }
  poison_new_memory(false);
}

TEST_CASE("expert_ffn: errors") {
  const auto zeros = [](const Shape& shape, Dtype dtype = Dtype::f32) { return Tensor::zeros(shape, {dtype}); };
  const Routing routing =
      make_routing(zeros({2, 3}), zeros({2, 1}), Array::from(std::vector<int32_t>{0, 2}, {2, 1}), 3);
  CHECK(message_of([&] {
          expert_ffn(zeros({3, 4}), zeros({3, 10, 4}), zeros({3, 4, 5}), routing);
        }) == "expert_ffn: x must be [tokens = 2, width], got [3, 4]");
  CHECK(
      message_of([&] {
        expert_ffn(zeros({2, 4}), zeros({3, 5, 4}), zeros({3, 4, 5}), routing);
      }) ==
      "expert_ffn: for 3 experts of width 4 and swiglu the weights must be [experts, projections * hidden, width] and "
      "[experts, width, hidden], got [3, 5, 4] and [3, 4, 5]");
  CHECK(message_of([&] {
          expert_ffn(zeros({2, 4}), zeros({3, 10, 4}), zeros({3, 4, 5}, Dtype::f64), routing);
        }) == "expert_ffn: x is f32 and down is f64; convert one with cast");
}
