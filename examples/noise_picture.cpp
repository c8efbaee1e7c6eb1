// SPDX-License-Identifier: Apache-2.0
// Draws how each kind of router noise changes which experts are selected as its scale grows: noise.png for one token,
// noise_changes.png for many. docs/moe/noise.md shows and explains both.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>

#include "moe/router.h"
#include "nn/train/device.h"
#include "nn/train/plot.h"

using namespace moxie;

namespace {

constexpr int64_t width = 32, draws = 4000;
const nn::Context training{.training = true, .seed = 1};
Device device;  // where it is computed

std::vector<double> normal_numbers(int64_t count, uint64_t seed) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<double>(normal_at({.seed = seed}, static_cast<uint64_t>(i))));
  return values;
}

Array f32(const std::vector<double>& values, const Shape& shape) {
  return Array::from(values, shape).to(Dtype::f32).to(device);
}

// One token, `draws` times: each draws its own noise.
const std::vector<double> token = normal_numbers(width, 1);
Tensor copies() {
  std::vector<double> rows;
  for (int64_t i = 0; i < draws; ++i) rows.insert(rows.end(), token.begin(), token.end());
  return Tensor(f32(rows, {draws, width}));
}

// Rows whose scores with the token are `scores`, each with a random part beside it.
Array rows_with(const std::vector<double>& scores) {
  double squares = 0;
  for (const double x : token) squares += x * x;
  std::vector<double> rows;
  for (size_t e = 0; e < scores.size(); ++e) {
    std::vector<double> row = normal_numbers(width, 10 + e);
    double dot = 0;
    for (size_t i = 0; i < row.size(); ++i) dot += row[i] * token[i];
    for (size_t i = 0; i < row.size(); ++i) rows.push_back(row[i] / 6 + (scores[e] - dot / 6) / squares * token[i]);
  }
  return f32(rows, {static_cast<int64_t>(scores.size()), width});
}

moe::Router router_of(const moe::RouterOptions& options, const Array& rows) {
  nn::Initializer init(1, device);
  moe::Router router(width, options, init);
  router.weight.set_value(rows);
  return router;
}

// A chart of the share of the draws in which each expert is selected. `select` gives the load at a scale.
template <class Select>
train::StackedArea chart_of(const std::string& title, const std::string& label, double largest, int64_t points,
                            const std::vector<std::string>& experts, Select select) {
  train::StackedArea chart{.title = title, .x_label = label, .width = 330, .height = 240};
  for (const std::string& name : experts) chart.bands.push_back({.name = name});
  for (int64_t p = 0; p < points; ++p) {
    chart.x.push_back(largest * static_cast<double>(p) / static_cast<double>(points - 1));
    const std::vector<int64_t> load = select(chart.x.back());
    for (size_t e = 0; e < load.size(); ++e) chart.bands[e].values.push_back(static_cast<double>(load[e]));
  }
  return chart;
}

train::StackedArea noise_chart(const std::string& title, moe::NoiseKind kind, double largest) {
  const std::vector<double> scores{1, 0.7, 0.4, 0.1, -0.2};
  std::vector<std::string> names;
  for (size_t e = 0; e < scores.size(); ++e) names.push_back(fmt::format("expert {}: z = {}", e, scores[e]));
  const Array rows = rows_with(scores), raw = rows_with({-3, -2, -1, 0, 1});
  const Tensor x = copies();
  return chart_of(title, "scale s", largest, 33, names, [&](double scale) {
    moe::RouterOptions options{.kind = moe::RouterKind::linear, .experts = 5, .top_k = 1};
    if (scale > 0) options.noise = {.kind = kind, .scale = scale};
    moe::Router router = router_of(options, rows);
    if (router.noise_weight) router.noise_weight->set_value(raw);
    return router(x, training).load();
  });
}

// Rows of different lengths: the longer ones are less alike to the token.
train::StackedArea constant_chart() {
  const std::vector<double> lengths{0.2, 0.5, 1, 2, 4};
  std::vector<double> rows;
  for (size_t e = 0; e < lengths.size(); ++e) {
    const std::vector<double> other = normal_numbers(width, 20 + e);
    std::vector<double> row;
    double squares = 0;
    for (size_t i = 0; i < token.size(); ++i) {
      row.push_back(token[i] + 0.3 * static_cast<double>(e) * other[i]);
      squares += row[i] * row[i];
    }
    for (const double r : row) rows.push_back(lengths[e] * r / std::sqrt(squares));
  }
  std::vector<std::string> names;
  for (size_t e = 0; e < lengths.size(); ++e) names.push_back(fmt::format("|r| = {}", lengths[e]));
  const Array weight = f32(rows, {5, width});
  const Tensor x(f32(token, {1, width}));
  return chart_of("constant on the norms: nothing is drawn", "tau_expert", 1, 401, names, [&](double tau) {
    const moe::RouterOptions options{
        .kind = moe::RouterKind::perturbed_cosine, .experts = 5, .top_k = 1, .tau_expert = tau};
    return router_of(options, weight)(x, training).load();
  });
}

train::LineChart changes_chart() {
  train::LineChart chart{.title = "Assignments that noise changes: 2,048 tokens, top 2 of 8, scores of deviation 1",
                         .x_label = "scale s",
                         .y_label = "changed (%)",
                         .log_x = true};
  const int64_t tokens = 2048, experts = 8;
  std::vector<double> rows = normal_numbers(experts * width, 30);
  for (double& r : rows) r /= std::sqrt(static_cast<double>(width));
  const Array weight = f32(rows, {experts, width});
  const Tensor x(f32(normal_numbers(tokens * width, 31), {tokens, width}));
  moe::RouterOptions options{.kind = moe::RouterKind::linear, .experts = experts, .top_k = 2};
  const moe::Routing clean = router_of(options, weight)(x, training);
  const std::vector<int32_t> before = clean.chosen.to_vector<int32_t>();
  for (const moe::NoiseKind kind : {moe::NoiseKind::gumbel, moe::NoiseKind::gaussian, moe::NoiseKind::learned,
                                    moe::NoiseKind::jitter, moe::NoiseKind::multiplicative}) {
    train::Series series{.name = moe::name_of(kind)};
    for (double scale = 0.001; scale < 10.5; scale *= std::pow(10, 0.125)) {
      const bool bounded = kind == moe::NoiseKind::jitter || kind == moe::NoiseKind::multiplicative;
      if (bounded && scale > 1) break;
      options.noise = {.kind = kind, .scale = scale};
      const std::vector<int32_t> chosen = router_of(options, weight)(x, training).chosen.to_vector<int32_t>();
      int64_t kept = 0;
      for (size_t i = 0; i < chosen.size(); ++i)
        kept += chosen[i] == before[i / 2 * 2] || chosen[i] == before[i / 2 * 2 + 1];
      series.x.push_back(scale);
      series.y.push_back(100 - 100 * static_cast<double>(kept) / static_cast<double>(chosen.size()));
    }
    chart.series.push_back(std::move(series));
  }
  chart.references = {{.y = 75, .label = "selected at random"}};
  return chart;
}

}  // namespace

int main(int argc, char** argv) try {
  std::string folder = "runs/noise_picture", device_name = "cpu";
  CLI::App app{"Draws how noise in the router changes which experts are selected", "noise_picture"};
  app.add_option("folder", folder, "of the pictures")->capture_default_str();
  app.add_option("--device", device_name, "cpu, cuda or cuda:N, where it is computed")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  device = train::device_from_name(device_name);
  train::Figure figure{.title = "One token, top 1: which expert is selected in training", .columns = 3};
  figure.charts = {noise_chart("jitter", moe::NoiseKind::jitter, 1),
                   noise_chart("multiplicative", moe::NoiseKind::multiplicative, 1),
                   constant_chart(),
                   noise_chart("gaussian", moe::NoiseKind::gaussian, 2),
                   noise_chart("gumbel: s = 1 is a draw from softmax(z)", moe::NoiseKind::gumbel, 2),
                   noise_chart("learned, here with more noise for worse experts", moe::NoiseKind::learned, 2)};
  std::filesystem::create_directories(folder);
  train::save_png(figure, folder + "/noise.png");
  train::save_png(changes_chart(), folder + "/noise_changes.png");
  fmt::print("{0}/noise.png\n{0}/noise_changes.png\n", folder);
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
