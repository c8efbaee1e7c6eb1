// SPDX-License-Identifier: Apache-2.0
// Six experts learn to paint a landscape from coordinates alone, and show which of them paints which part.
// docs/walkthroughs/image_experts.md
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "examples/walkthrough/walkthrough.h"
#include "moe/layer.h"
#include "nn/optimizer.h"
#include "nn/train/plot.h"

using namespace moxie;

namespace {

constexpr int64_t side = 96, width = 32, experts = 6, batch = 2048;

using Rgb = std::array<double, 3>;

Rgb blend(const Rgb& from, const Rgb& to, double share) {
  const double t = std::clamp(share, 0.0, 1.0);
  return {from[0] + t * (to[0] - from[0]), from[1] + t * (to[1] - from[1]), from[2] + t * (to[2] - from[2])};
}

// The landscape at x and y, each from -1 to 1: sea, meadow, mountains, sun, sky.
Rgb landscape(double x, double y) {
  const double shore = -0.62 + 0.03 * std::sin(7 * x), hill = -0.28 + 0.12 * std::sin(2.4 * x - 1.9);
  const double ridge = 0.12 + 0.16 * std::sin(3.1 * x + 0.4) + 0.07 * std::sin(8.3 * x);
  if (y < shore)
    return blend({0.05, 0.20, 0.35}, {0.90, 0.62, 0.45}, 0.35 + 0.35 * std::sin(38 * y + 4 * std::sin(3 * x)));
  if (y < hill) return blend({0.10, 0.28, 0.14}, {0.45, 0.62, 0.22}, (y - shore) / (hill - shore));
  if (y < ridge) return blend({0.45, 0.40, 0.56}, {0.20, 0.18, 0.38}, 2 * (y - hill));
  const double sun = std::hypot(x - 0.35, y - 0.55);
  if (sun < 0.19) return {1.00, 0.94, 0.72};
  return blend(blend({0.98, 0.60, 0.36}, {0.16, 0.28, 0.58}, (y - ridge) / 0.8), {1.0, 0.75, 0.45}, 0.5 - sun);
}

// Its colours at points [n, 2] -> [n, 3]
Tensor landscape(const Tensor& at) {
  std::vector<float> colors;
  const std::vector<double> p = at.to_vector<double>();
  for (size_t i = 0; i < p.size(); i += 2)
    for (const double c : landscape(p[i], p[i + 1])) colors.push_back(static_cast<float>(c));
  return Tensor::from(colors, {at.dim(0), 3}, at.device());
}

struct Painting {
  Tensor colors;  // [points, 3]
  moe::Routing routing;
};

// Waves over the plane, learnt; a router that gives each point to one expert; a colour.
struct Painter {
  nn::Linear waves, color;
  moe::MoeLayer layer;

  explicit Painter(nn::Initializer& init)
      : waves(2, width, init, {.bias = true, .gain = 4}),
        color(width, 3, init, true),
        layer(width,
              {.router = {.kind = moe::RouterKind::linear,
                          .experts = experts,
                          .top_k = 1,
                          .weighting = moe::Weighting::before_top_k},
               .hidden = 32},
              init) {}
  Painting operator()(const Tensor& at, const nn::Context& context) const {
    const auto [y, routing, erc] = layer(sin(waves(at, context)), context);
    return {sigmoid(color(y, context)), routing};
  }
  static void visit(auto& self, auto&& f) { f("waves", self.waves), f("color", self.color), f("layer", self.layer); }
};

train::Image picture(const std::string& title, const Tensor& colors) {
  train::Image image{.title = title, .width = 200, .height = 200, .rows = side, .columns = side};
  const std::vector<double> c = colors.to_vector<double>();
  for (size_t i = 0; i < c.size(); i += 3) image.pixels.push_back(train::rgb(c[i], c[i + 1], c[i + 2]));
  return image;
}

void run(const Arguments& arguments) {
  nn::Initializer init(arguments.seed, arguments.device);
  const Painter painter(init);
  nn::AdamW optimizer(nn::parameters(painter), {.lr = 1e-2, .weight_decay = 0});

  const train::Range plane{-1, 1};
  const Tensor at =
      Tensor::from(train::pixel_centers({.rows = side, .columns = side, .x_range = plane, .y_range = plane}),
                   {side * side, 2}, arguments.device);

  std::vector<train::Chart> paintings{picture("the landscape", landscape(at))}, maps, parts;
  train::LineChart errors{.title = "error", .x_label = "step", .width = 200, .height = 200, .log_y = true};
  errors.series = {{.color = train::distinct_color(7)}};
  maps.push_back(errors);
  const std::vector<int64_t> shown{0, arguments.steps / 64, arguments.steps / 16, arguments.steps / 4, arguments.steps};
  std::vector<double> squares;
  for (int64_t step = 0; step <= arguments.steps; ++step) {
    if (std::ranges::count(shown, step) > 0) {
      const Painting now = painter(at, {});
      paintings.push_back(picture(fmt::format("step {}", step), now.colors));
      train::Image map = picture("its experts", now.colors);
      const std::vector<int32_t> chosen = now.routing.chosen.to_vector<int32_t>();
      for (size_t i = 0; i < chosen.size(); ++i) map.pixels[i] = train::distinct_color(chosen[i]);
      maps.push_back(map);
    }
    const nn::Context context{.training = true, .seed = arguments.seed, .step = static_cast<uint32_t>(step)};
    const Tensor points(init.uniform({batch, 2}, 1));
    const Painting painting = painter(points, context);
    const Tensor error = mse_loss(painting.colors, landscape(points));
    const Tensor loss = error + 0.003 * moe::balance_loss(std::span(&painting.routing, 1));
    loss.backward();
    optimizer.step();
    if (arguments.reports(step))
      fmt::print("step {:4}  error {:.5f}  load {}\n", step, error.item(), fmt::join(painting.routing.load(), " "));
    auto& curve = std::get<train::LineChart>(maps[0]).series[0];
    curve.x.push_back(static_cast<double>(step)), curve.y.push_back(error.item());
  }
  const Painting last = painter(at, {});
  const std::vector<int32_t> owner = last.routing.chosen.to_vector<int32_t>();
  for (int32_t e = 0; e < experts; ++e) {
    const auto own = static_cast<double>(std::ranges::count(owner, e)) / static_cast<double>(owner.size());
    fmt::print("expert {} paints {:.0f} % of the landscape\n", e, 100 * own);
    train::Image part = picture(fmt::format("expert {}", e), last.colors);
    for (size_t i = 0; i < owner.size(); ++i)
      if (owner[i] != e) part.pixels[i] = train::mix({255, 255, 255}, train::distinct_color(e), 0.25);
    parts.push_back(part);
  }
  train::Figure figure{.columns = experts, .scale = 1.5};
  for (const auto* row : {&paintings, &maps, &parts})
    figure.charts.insert(figure.charts.end(), row->begin(), row->end());
  train::save_png(figure, arguments.out / "image_experts.png");
}

}  // namespace

int main(int argc, char** argv) {
  return walkthrough(argc, argv, "image_experts", "Six experts learn to paint a landscape; which paints which part?",
                     "steps of training", {.steps = 1000}, run);
}
