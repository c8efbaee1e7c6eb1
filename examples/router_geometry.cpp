// SPDX-License-Identifier: Apache-2.0
// Three routers on a plane of tokens with two numbers each: which expert gets which token, and what noise changes.
// docs/walkthroughs/router_geometry.md
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "autograd/ops.h"
#include "examples/walkthrough/walkthrough.h"
#include "moe/router.h"
#include "nn/train/plot.h"

using namespace moxie;

namespace {

constexpr int64_t experts = 5, side = 120;

// A row of the router per expert, by length and direction in degrees. The last is short and lies between two long ones.
constexpr std::array<std::array<double, 2>, experts> rows{{{1.6, 10}, {1.4, 110}, {1.5, 200}, {1.1, 290}, {0.6, 62}}};

struct Point {
  double x, y;
};
Point tip(size_t e) {
  const double angle = rows[e][1] * std::numbers::pi / 180;
  return {rows[e][0] * std::cos(angle), rows[e][0] * std::sin(angle)};
}

moe::Router router_of(moe::RouterKind kind, const moe::NoiseOptions& noise, Device device) {
  nn::Initializer init(1, device);
  moe::Router router(2, {.kind = kind, .experts = experts, .top_k = 1, .tau_expert = 0.5, .noise = noise}, init);
  std::vector<float> weight;
  for (size_t e = 0; e < experts; ++e)
    weight.insert(weight.end(), {static_cast<float>(tip(e).x), static_cast<float>(tip(e).y)});
  router.weight.set_value(Array::from(weight, {experts, 2}, device));
  return router;
}

// How often each token goes to each expert, [tokens][experts] from 0 to 1: a step of training is a draw of noise.
std::vector<std::array<double, experts>> shares(const moe::Router& router, const Tensor& tokens,
                                                const Arguments& arguments) {
  const bool noisy = router.options.noise.kind != moe::NoiseKind::none;
  const int64_t draws = noisy ? arguments.steps : 1;
  std::vector<std::array<double, experts>> result(static_cast<size_t>(tokens.dim(0)), {0});
  for (int64_t step = 0; step < draws; ++step) {
    const nn::Context context{.training = true, .seed = arguments.seed, .step = static_cast<uint32_t>(step)};
    const std::vector<int32_t> chosen = router(tokens, context).chosen.to_vector<int32_t>();
    for (size_t t = 0; t < chosen.size(); ++t)
      result[t][static_cast<size_t>(chosen[t])] += 1 / static_cast<double>(draws);
  }
  return result;
}

// The mean of the experts' colours.
train::Color mixed(const std::array<double, experts>& share) {
  double red = 0, green = 0, blue = 0;
  for (size_t e = 0; e < experts; ++e) {
    const train::Color pale = train::mix({255, 255, 255}, train::distinct_color(static_cast<int64_t>(e)), 0.75);
    red += share[e] * pale.red, green += share[e] * pale.green, blue += share[e] * pale.blue;
  }
  return train::rgb(red / 255, green / 255, blue / 255);
}

train::Image picture(const moe::Router& router, const std::string& noise, const Arguments& arguments) {
  train::Image image{
      .title = fmt::format("{}, {}", moe::name_of(router.options.kind), noise), .rows = side, .columns = side};
  image.width = image.height = 300;
  image.x_range = image.y_range = train::Range{-2, 2};
  const Tensor tokens = Tensor::from(train::pixel_centers(image), {side * side, 2}, arguments.device);
  std::array<double, experts> total{0};
  double undecided = 0;
  for (const auto& share : shares(router, tokens, arguments)) {
    image.pixels.push_back(mixed(share));
    for (size_t e = 0; e < experts; ++e) total[e] += share[e] * 100 / (side * side);
    undecided += *std::ranges::max_element(share) < 0.9 ? 100.0 / (side * side) : 0;
  }
  for (size_t e = 0; e < experts; ++e) {
    const Point r = tip(e);
    const train::Color color = train::distinct_color(static_cast<int64_t>(e));
    image.series.push_back({.x = {0, r.x}, .y = {0, r.y}, .color = color, .width = 2.2, .arrow = true});
    image.labels.push_back({r.x * (1 + 0.25 / rows[e][0]), r.y * (1 + 0.25 / rows[e][0]), std::to_string(e)});
  }
  fmt::print("{:32}", image.title);
  for (const double share : total) fmt::print("{:6.1f} %", share);
  fmt::print("{:9.1f} %\n", undecided);
  return image;
}

// The part of dz/dr along r, for a token and expert 0: does training change the row's length?
double slope_along_row(moe::RouterKind kind, Device device) {
  const moe::Router router = router_of(kind, {}, device);
  slice(router.scores(Tensor::from({0.8f, 1.0f}, {1, 2}, device), {.training = true}), 1, 0, 1).backward();
  const std::vector<double> dr = router.weight.grad().to_vector<double>();
  return (dr[0] * tip(0).x + dr[1] * tip(0).y) / rows[0][0];
}

void run(const Arguments& arguments) {
  const std::array kinds{moe::RouterKind::linear, moe::RouterKind::cosine, moe::RouterKind::perturbed_cosine};
  const std::array<std::pair<std::string, moe::NoiseOptions>, 3> noises{
      {{"no noise", {}},
       {"gaussian 0.2", {.kind = moe::NoiseKind::gaussian, .scale = 0.2}},
       {"jitter 0.5", {.kind = moe::NoiseKind::jitter, .scale = 0.5}}}};
  train::Figure figure{.columns = 3, .scale = 1.25};
  fmt::print("{:32}{:>7}{:>8}{:>8}{:>8}{:>8}{:>11}\n", "share of the plane, expert", 0, 1, 2, 3, 4, "undecided");
  for (const auto& [name, noise] : noises)
    for (const moe::RouterKind kind : kinds)
      figure.charts.push_back(picture(router_of(kind, noise, arguments.device), name, arguments));
  train::save_png(figure, arguments.out / "router_geometry.png");
  for (const moe::RouterKind kind : kinds)
    fmt::print("slope of a score along its row, {}: {:.4f}\n", moe::name_of(kind),
               std::abs(slope_along_row(kind, arguments.device)));
}

}  // namespace

int main(int argc, char** argv) {
  return walkthrough(argc, argv, "router_geometry", "Draws which expert a router gives each token of a plane.",
                     "draws of noise for each token", {.steps = 200}, run);
}
