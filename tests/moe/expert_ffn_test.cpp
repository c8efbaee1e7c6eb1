// SPDX-License-Identifier: Apache-2.0
// Dispatch, expert FFNs and combine in one op, against their composition.
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
    {300, 64, 32, 6, 2, 4}, {77, 136, 72, 3, 3, 3}, {1, 8, 8, 5, 1, 1}, {700, 128, 264, 4, 2, 4}};

}  // namespace

TEST_CASE("combined experts are dispatch, experts and combine") {
  for (const Device device : devices()) {
    for (const Sizes& sizes : all_sizes) {
      CAPTURE(device.name());
      CAPTURE(sizes.width);
      const Result one = run(sizes, device, Dtype::f32, false), parts = run(sizes, device, Dtype::f32, true);
      CHECK(distance(one.y, parts.y) == 0);
      CHECK(distance(one.dx, parts.dx) == 0);
      CHECK(distance(one.dgate_up, parts.dgate_up) == 0);
      CHECK(distance(one.ddown, parts.ddown) == 0);
      CHECK(distance(one.dweights, parts.dweights) == 0);
    }
  }
}

TEST_CASE("cuda: fused experts in bf16 are near the composition in f32, and twice the same") {
  MOXIE_NEEDS_CUDA();
  poison_new_memory(true);
  for (const Sizes& sizes : all_sizes) {
    CAPTURE(sizes.width);
    CAPTURE(sizes.hidden);
    const Result exact = run(sizes, Device::cpu(), Dtype::f32, true);
    const Result fused = run(sizes, Device::cuda(), Dtype::bf16, false),
                 again = run(sizes, Device::cuda(), Dtype::bf16, false);
    const Result parts = run(sizes, Device::cuda(), Dtype::bf16, true);
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
