// SPDX-License-Identifier: Apache-2.0
// A program outside of moxie: an op of its own, checked, and a model that uses it, trained.
#include "moxie.h"

using namespace moxie;

// The arithmetic of one row, written against the verbs of a team (core/team.h).
struct SignedSquare {  // y = x |x|
  const double* x;
  double* y;
  int64_t cols;
  template <class Team> void operator()(Team team, int64_t row) const {
    const double* in = x + row * cols;
    double* out = y + row * cols;
    team.each(cols, [=](int64_t i) { out[i] = in[i] * (in[i] < 0 ? -in[i] : in[i]); });
  }
};

// The op: check, allocate, run, record. Its gradient, 2 |x| dy, is made of moxie's own ops.
Tensor signed_square(const Tensor& x) {
  check(x.dtype() == Dtype::f64, "signed_square: needs f64, got {}", name_of(x.dtype()));
  const int64_t rows = x.shape().rows(), cols = x.shape().cols();
  const Array y = Array::empty(x.shape(), x.options());
  for_rows_cpu(SignedSquare{x.value().data<double>(), y.data<double>(), cols}, rows, cols);
  return record("signed_square", y, {x}, [x = x.value()](std::span<const Array> dy, Grads& grads) {
    const Tensor magnitude = relu(Tensor(x)) + relu(-Tensor(x));
    grads.give(0, (2.0 * magnitude * Tensor(dy[0])).value());
  });
}

// A model: members, operator(), and visit, which names them.
struct Model {
  nn::Linear in, out;
  explicit Model(nn::Initializer& init) : in(4, 16, init, true), out(16, 1, init, true) {}
  Tensor operator()(const Tensor& x, const nn::Context& context) const {
    return out(signed_square(in(x, context)), context);
  }
  static void visit(auto& self, auto&& f) { f("in", self.in), f("out", self.out); }
};

int main() {
  nn::Initializer init(/*seed=*/1);
  const std::vector<Tensor> point = {Tensor(init.normal({3, 5}, 1).to(Dtype::f64)).set_requires_grad()};
  const auto checked = gradcheck([](std::span<const Tensor> x) { return signed_square(x[0]); }, point);
  fmt::print("moxie {}: the op's gradient is {}\n", library_version, checked ? "right" : checked.message);

  Model model(init);
  nn::to(model, Dtype::f64);
  nn::AdamW optimizer(nn::parameters(model), {.lr = 1e-2, .weight_decay = 0});
  const Tensor x(init.normal({256, 4}, 1).to(Dtype::f64));
  const Tensor wanted = sum(x * x, -1, /*keep=*/true);
  double first = 0, last = 0;
  for (uint32_t step = 0; step < 200; ++step) {
    const Tensor error = model(x, {.training = true, .dtype = Dtype::f64, .step = step}) - wanted;
    const Tensor loss = mean(error * error);
    loss.backward();
    optimizer.step();
    (step == 0 ? first : last) = loss.item();
  }
  fmt::print("error before {:.2f}, after {:.4f}\n", first, last);
  return checked && last < 0.05 * first ? 0 : 1;
}
