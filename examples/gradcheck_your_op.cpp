// SPDX-License-Identifier: Apache-2.0
// An op and a router of your own, in your own file: written, checked, found out when wrong, and trained.
// docs/walkthroughs/gradcheck_your_op.md
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "examples/walkthrough/walkthrough.h"
#include "moxie.h"

using namespace moxie;

namespace {

// y = sign(x) (sqrt(1 + |x|) - 1), row by row, with the verbs of a team (core/team.h).
template <class T> struct SignedRoot {
  const T* x;
  T* y;
  int64_t cols;
  template <class Team> void operator()(Team team, int64_t row) const {
    const T* in = x + row * cols;
    T* out = y + row * cols;
    team.each(cols, [=](int64_t i) { out[i] = std::copysign(std::sqrt(1 + std::abs(in[i])) - 1, in[i]); });
  }
};

// dx = dy / (2 sqrt(1 + |x|))
template <class T> struct SignedRootBackward {
  const T *x, *dy;
  T* dx;
  int64_t cols;
  bool accumulate;  // a gradient is there already: add to it
  T sign;           // 1; the planted error is -1
  template <class Team> void operator()(Team team, int64_t row) const {
    const T *in = x + row * cols, *up = dy + row * cols, half = sign / 2;
    T* out = dx + row * cols;
    team.each(cols, [=, add = accumulate](int64_t i) {
      const T g = half * up[i] / std::sqrt(1 + std::abs(in[i]));
      out[i] = add ? out[i] + g : g;
    });
  }
};

// The op: check, allocate, run, record.
Tensor signed_root(const Tensor& x, double sign = 1) {
  check(x.dtype() == Dtype::f32 || x.dtype() == Dtype::f64, "signed_root: needs f32 or f64, got {}",
        name_of(x.dtype()));
  const int64_t rows = x.shape().rows(), cols = x.shape().cols();
  const Array y = Array::empty(x.shape(), x.options());
  const auto in_type = [dtype = x.dtype()](auto run) { dtype == Dtype::f64 ? run(double{}) : run(float{}); };
  in_type([&]<class T>(T) { for_rows_cpu(SignedRoot<T>{x.value().data<T>(), y.data<T>(), cols}, rows, cols); });
  return record("signed_root", y, {x}, [=, x = x.value()](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    in_type([&]<class T>(T) {
      for_rows_cpu(SignedRootBackward<T>{x.data<T>(), dy[0].data<T>(), dx.data<T>(), cols, dx.accumulate, T(sign)},
                   rows, cols);
    });
  });
}

// x on another device, where its gradient comes back from: the op above computes on the CPU.
Tensor moved(const Tensor& x, Device device) {
  return record("moved", x.value().to(device), {x},
                [from = x.device()](auto dy, Grads& grads) { grads.give(0, dy[0].to(from)); });
}

// A router: each expert has a centre c, and its score is -|x - c|^2 / 2, without |x|^2, which all experts share. Made
// of moxie's ops, it needs no rule of its own.
moe::Routing nearest(const Tensor& x, const Tensor& centers) {
  const Tensor scores = linear(x, centers) - 0.5 * sum(centers * centers, 1);
  return moe::route(scores, /*bias=*/{}, /*top_k=*/2, moe::Weighting::after_top_k);
}

// Your router and your op around moxie's experts.
struct Model {
  nn::Parameter centers;  // [experts, width]
  moe::Experts experts;

  explicit Model(nn::Initializer& init)
      : centers(init.uniform({6, 2}, 1.5)), experts(6, 2, 16, Activation::swiglu, init) {}
  Tensor operator()(const Tensor& x, const nn::Context& context) const {
    const moe::Routing routing = nearest(x, centers.as(x.dtype()));
    const Tensor y = moe::combine(experts(moe::dispatch(x, routing), routing, context), routing);
    return moved(signed_root(moved(y, Device::cpu())), y.device());
  }
  static void visit(auto& self, auto&& f) { f("centers", self.centers), f("experts", self.experts); }
};

void check_gradients(nn::Initializer& init) {
  const auto leaf = [&](const Shape& shape) {
    return Tensor(init.normal(shape, 1).to(Dtype::f64).to(Device::cpu())).set_requires_grad();
  };
  const auto report = [](const char* what, const GradcheckResult& result) {
    fmt::print("{}: {}\n", what, result ? "right" : "WRONG\n  " + result.message);
  };
  const std::vector<Tensor> x{leaf({4, 6})}, tokens_and_centers{leaf({5, 3}), leaf({4, 3})};
  report("signed_root", gradcheck([](auto in) { return signed_root(in[0]); }, x));
  report("signed_root with a wrong sign", gradcheck([](auto in) { return signed_root(in[0], -1); }, x));
  report("nearest", gradcheck([](auto in) { return nearest(in[0], in[1]).weights; }, tokens_and_centers));
}

// The slope of the op as its rule says, as differences say, and as the wrong rule says.
train::LineChart slopes() {
  train::LineChart chart{.title = "signed_root and its slope", .x_label = "x", .width = 400, .height = 320};
  chart.series = {{.name = "y"}, {.name = "dy/dx by the rule"}, {.name = "by differences"}, {.name = "wrong sign"}};
  for (double at = -3.9; at < 4; at += 0.3) {
    const Tensor x = Tensor::scalar(at, {Dtype::f64}).set_requires_grad();
    const Tensor y = signed_root(x);
    y.backward();
    const auto value = [](double v) { return signed_root(Tensor::scalar(v, {Dtype::f64})).item(); };
    const std::array ys{y.item(), x.grad().item(), (value(at + 1e-4) - value(at - 1e-4)) / 2e-4, -x.grad().item()};
    for (size_t i = 0; i < ys.size(); ++i) chart.series[i].x.push_back(at), chart.series[i].y.push_back(ys[i]);
  }
  for (size_t i = 0; i < 4; ++i) chart.series[i].color = train::distinct_color(std::array{7, 0, 1, 3}[i]);
  chart.series[2].line = false, chart.series[3].dashed = true;
  return chart;
}

// Which expert is first for each point, and the centres.
train::Image cells(const Model& model, const std::string& title) {
  train::Image image{.title = title, .width = 320, .height = 320, .rows = 160, .columns = 160};
  image.x_range = image.y_range = train::Range{-2, 2};
  const Tensor at =
      Tensor::from(train::pixel_centers(image), {image.rows * image.columns, 2}, model.centers.value().device());
  const moe::Routing routing = nearest(at, model.centers.as(Dtype::f32));
  for (const double expert : slice(Tensor(routing.chosen), 1, 0, 1).to_vector<double>())
    image.pixels.push_back(train::mix({255, 255, 255}, train::distinct_color(static_cast<int64_t>(expert)), 0.6));
  const std::vector<double> c = model.centers.value().to_vector<double>();
  for (size_t e = 0; 2 * e < c.size(); ++e) image.labels.push_back({c[2 * e], c[2 * e + 1], std::to_string(e)});
  return image;
}

void run(const Arguments& arguments) {
  nn::Initializer init(arguments.seed, arguments.device);
  check_gradients(init);

  const Model model(init);
  train::Figure figure{.columns = 3, .charts = {slopes(), cells(model, "nearest: before")}, .scale = 1.5};
  nn::AdamW optimizer(nn::parameters(model), {.lr = 2e-2, .weight_decay = 0});
  for (int64_t step = 0; step < arguments.steps; ++step) {
    const Tensor x(init.uniform({512, 2}, 2));
    const Tensor error = mse_loss(model(x, {.training = true}), sin(3.0 * x));
    error.backward();
    optimizer.step();
    if (arguments.reports(step)) fmt::print("step {:4}  error {:.4f}\n", step, error.item());
  }
  figure.charts.push_back(cells(model, fmt::format("nearest: after {} steps", arguments.steps)));
  train::save_png(figure, arguments.out / "gradcheck_your_op.png");
}

}  // namespace

int main(int argc, char** argv) {
  return walkthrough(argc, argv, "gradcheck_your_op", "An op and a router of your own, checked and trained.",
                     "steps of training", {.steps = 500}, run);
}
