// SPDX-License-Identifier: Apache-2.0
// The ERC loss of three experts in a plane, computed by hand: M before and after, and what each constraint pulls.
// docs/walkthroughs/erc_by_hand.md
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autograd/ops.h"
#include "examples/walkthrough/walkthrough.h"
#include "moe/erc.h"
#include "nn/init.h"
#include "nn/train/plot.h"

using namespace moxie;

namespace {

constexpr size_t n = 3, width = 2, hidden = 3;  // experts, numbers of a token, hidden units of an expert
constexpr double alpha = 0.8, pi = std::numbers::pi;
using Numbers = std::vector<double>;

// Router rows R [n, width], gate projections W [n, hidden, width] and the noise delta [n, width] as plain numbers.
struct ByHand {
  Numbers R, W, delta;
  Numbers dR = Numbers(n * width), dW = Numbers(n * hidden * width);

  // The proxy token of expert i, which is its row with noise; y, what hidden unit h of expert j makes of it; M = |y|.
  double proxy(size_t i, size_t k) const { return R[i * width + k] * delta[i * width + k]; }
  double y(size_t i, size_t j, size_t h) const {
    return proxy(i, 0) * W[(j * hidden + h) * width] + proxy(i, 1) * W[(j * hidden + h) * width + 1];
  }
  double M(size_t i, size_t j) const { return std::hypot(y(i, j, 0), y(i, j, 1), y(i, j, 2)); }

  // Carries the gradient of M[i, j] back to row i and to expert j: dy = dM y / M[i, j].
  void backward(size_t i, size_t j, double dM) {
    for (size_t h = 0; h < hidden; ++h)
      for (size_t k = 0; k < width; ++k) {
        const double dy = dM * y(i, j, h) / M(i, j);
        dR[i * width + k] += dy * W[(j * hidden + h) * width + k] * delta[i * width + k];
        dW[(j * hidden + h) * width + k] += dy * proxy(i, k);
      }
  }
  // The constraint M[a, b] <= alpha M[i, i], where i is a or b. Its part of the loss, whose gradient goes back.
  double constraint(size_t a, size_t b, size_t i) {
    const double excess = M(a, b) - alpha * M(i, i);
    if (excess <= 0) return 0;
    backward(a, b, 1.0 / (n * n)), backward(i, i, -alpha / (n * n));
    return excess / (n * n);
  }
};

train::Color color_of(size_t expert) { return train::distinct_color(static_cast<int64_t>(expert)); }

// All constraints one by one, whose sum must be the loss and the gradients of erc_loss(). Returns their pulls on rows.
std::vector<train::Series> by_hand(const Tensor& R, const Tensor& W, const Array& delta) {
  const ByHand start{R.to_vector<double>(), W.to_vector<double>(), delta.to_vector<double>()};
  ByHand all = start;
  std::vector<train::Series> pulls;
  double loss = 0;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j)
      for (const auto& [a, b] : {std::pair{i, j}, std::pair{j, i}}) {
        if (i == j) continue;
        ByHand alone = start;
        const double part = alone.constraint(a, b, i);
        loss += all.constraint(a, b, i);
        fmt::print("M[{},{}] = {:.2f} <= {} M[{},{}] = {:.2f}  {}\n", a, b, start.M(a, b), alpha, i, i,
                   alpha * start.M(i, i), part > 0 ? fmt::format("adds {:.4f} to the loss", part) : "holds");
        for (size_t k = 0; k < n * width; k += width) {
          const double x = start.R[k], y = start.R[k + 1], dx = -4 * alone.dR[k], dy = -4 * alone.dR[k + 1];
          if (dx != 0 || dy != 0)
            pulls.push_back({.x = {x, x + dx}, .y = {y, y + dy}, .color = color_of(i), .width = 2, .arrow = true});
        }
      }
  const Tensor erc = moe::erc_loss(R, W, hidden, delta, alpha);
  erc.backward();
  const auto far = [](const auto& a, const auto& b) {
    return max(abs(Tensor(a) - Tensor::from(b, a.shape(), a.device()))).item();
  };
  fmt::print("loss {:.4f} by hand; erc_loss() is {:.0e} away, dR {:.0e}, dW {:.0e}\n", loss,
             std::abs(loss - erc.item()), far(R.grad(), all.dR), far(W.grad(), all.dW));
  R.clear_grad(), W.clear_grad();
  return pulls;
}

// The rows, and for each direction how far an expert's curve is from the origin: M of a token of length 1.
train::Image plane(const std::string& title, const Tensor& R, const Tensor& W,
                   const std::vector<train::Series>& pulls) {
  train::Image image{.title = title, .width = 330, .height = 320, .rows = 1, .columns = 1, .pixels = {{255, 255, 255}}};
  image.x_range = image.y_range = train::Range{-1.7, 1.7};
  ByHand token{Numbers(n * width), W.to_vector<double>(), Numbers(n * width, 1)};
  const Numbers rows = R.to_vector<double>();
  for (size_t e = 0; e < n; ++e) {
    train::Series lobe{.color = color_of(e), .width = 1.2};
    for (double angle = 0; angle < 2.01 * pi; angle += pi / 60) {
      token.R = {std::cos(angle), std::sin(angle), 0, 0, 0, 0};
      lobe.x.push_back(token.R[0] * token.M(0, e)), lobe.y.push_back(token.R[1] * token.M(0, e));
    }
    if (pulls.empty()) image.series.push_back(lobe);
    const double x = rows[e * width], y = rows[e * width + 1];
    image.series.push_back({.x = {0, x}, .y = {0, y}, .color = color_of(e)});
    if (pulls.empty()) image.series.back().width = 3.5, image.series.back().arrow = true;
    image.labels.push_back({0.5 * x, 0.5 * y, std::to_string(e)});
  }
  image.series.insert(image.series.end(), pulls.begin(), pulls.end());
  return image;
}

train::HeatMap matrix(const std::string& title, const Array& M) {
  train::HeatMap map{.title = title, .x_label = "expert j", .y_label = "row i", .width = 330, .height = 320};
  map.rows = map.columns = n, map.values = M.to_vector<double>(), map.square = map.print_values = true;
  return map;
}

void run(const Arguments& arguments) {
  nn::Initializer init(arguments.seed, arguments.device);
  const Tensor R = Tensor(init.normal({n, width}, 0.8).to(Dtype::f64)).set_requires_grad();
  const Tensor W = Tensor(init.normal({n, hidden, width}, 0.5).to(Dtype::f64)).set_requires_grad();
  const auto noise = [&](uint32_t step) { return moe::erc_noise(R.value(), {.seed = arguments.seed, .step = step}); };
  const auto M = [&] { return moe::erc_matrix(R.value(), W.value(), hidden); };

  train::Figure figure{.columns = 3, .scale = 1.5, .share_colors = true};
  figure.charts = {plane("before", R, W, {}), plane("before: what pulls at the rows", R, W, by_hand(R, W, noise(0)))};
  const train::HeatMap before = matrix("M before", M());
  train::LineChart chart{.title = "M", .x_label = "step", .width = 330, .height = 320};
  chart.series = {{.name = "smallest M[i,i]", .color = color_of(3)}, {.name = "largest other", .color = color_of(7)}};
  for (int64_t step = 0; step < arguments.steps; ++step) {
    const Tensor loss = moe::erc_loss(R, W, hidden, noise(static_cast<uint32_t>(step)), alpha);
    loss.backward();
    for (const Tensor& leaf : {R, W})  // plain gradient descent
      leaf.value().copy_from((leaf.detach() - 0.1 * Tensor(leaf.grad())).value()), leaf.clear_grad();
    const Numbers now = M().to_vector<double>();
    double own = now[0], other = now[1];
    for (size_t k = 0; k < n * n; ++k) k % (n + 1) == 0 ? own = std::min(own, now[k]) : other = std::max(other, now[k]);
    for (train::Series& series : chart.series) series.x.push_back(static_cast<double>(step + 1));
    chart.series[0].y.push_back(own), chart.series[1].y.push_back(other);
    if (arguments.reports(step))
      fmt::print("step {:4}  loss {:.4f}  violations {:2}  smallest M[i,i] {:.2f}  largest other {:.2f}\n", step,
                 loss.item(), moe::erc_violations(M(), alpha), own, other);
  }
  figure.charts.insert(figure.charts.end(), {plane("after", R, W, {}), before, matrix("M after", M()), chart});
  train::save_png(figure, arguments.out / "erc_by_hand.png");
}

}  // namespace

int main(int argc, char** argv) {
  return walkthrough(argc, argv, "erc_by_hand", "The ERC loss of three experts, constraint by constraint.",
                     "steps of gradient descent", {.steps = 300, .seed = 8}, run);
}
