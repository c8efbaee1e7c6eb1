// SPDX-License-Identifier: Apache-2.0
#include "examples/train_lm/plots.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "nn/train/plot.h"
#include "nn/train/tokenizer.h"

namespace moxie::train_lm {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Numbers of the blocks that have experts.
std::vector<size_t> moe_blocks(const Run& run) {
  std::vector<size_t> blocks;
  for (size_t i = 0; i < run.model.blocks.size(); ++i)
    if (run.model.blocks[i].moe) blocks.push_back(i);
  return blocks;
}

std::string run_name(const Run& run) {
  const Configuration& c = run.configuration;
  std::string name = c.preset;
  if (c.model.dense_layers < c.model.layers) {
    name += fmt::format(", {} experts top {}, {} router", c.model.moe.router.experts, c.model.moe.router.top_k,
                        moe::name_of(c.model.moe.router.kind));
    name += c.model.moe.erc ? fmt::format(", ERC α = {}", c.model.moe.erc_alpha) : ", no ERC";
  }
  return name;
}

// The running mean over a centred window, narrower at the ends.
std::vector<double> smoothed(const std::vector<double>& values, int64_t reach) {
  std::vector<double> sums(values.size() + 1);
  for (size_t i = 0; i < values.size(); ++i) sums[i + 1] = sums[i] + values[i];
  std::vector<double> means;
  const auto count = static_cast<int64_t>(values.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t side = std::min({reach, i, count - 1 - i});
    means.push_back((sums[static_cast<size_t>(i + side + 1)] - sums[static_cast<size_t>(i - side)]) /
                    static_cast<double>(2 * side + 1));
  }
  return means;
}

// Metrics drawn against the step. A NaN is a point that wasn't measured: left out.
class Curves final {
 public:
  explicit Curves(const train::Metrics& metrics)
      : metrics_(metrics),
        steps_(metrics.column("step")),
        reach_(std::max<int64_t>(1, static_cast<int64_t>(steps_.size()) / 100)) {}

  train::Series measured(const std::string& column, const std::string& name) const {
    train::Series series{.name = name};
    const std::vector<double> values = metrics_.column(column);
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isnan(values[i])) continue;
      series.x.push_back(steps_[i]);
      series.y.push_back(values[i]);
    }
    return series;
  }
  bool has(const std::string& column) const { return !measured(column, "").x.empty(); }
  // Every step, pale, behind the running mean.
  void add(train::LineChart& chart, const std::string& column, const std::string& name, int64_t color) const {
    train::Series raw = measured(column, "");
    raw.color = train::palette(color), raw.opacity = 0.25, raw.width = 1;
    train::Series mean = raw;
    mean.name = name, mean.opacity = 1, mean.width = 1.8;
    mean.y = smoothed(raw.y, reach_);
    chart.series.push_back(std::move(raw));
    chart.series.push_back(std::move(mean));
  }
  int64_t window() const { return 2 * reach_ + 1; }

 private:
  const train::Metrics& metrics_;
  std::vector<double> steps_;
  int64_t reach_;
};

train::LineChart loss_chart(const Run& run, const Evaluation& evaluation, const Curves& curves) {
  train::LineChart chart{.title = "From the first step", .x_label = "step", .y_label = "loss (nats per byte)"};
  curves.add(chart, "loss", fmt::format("training, mean of {} steps", curves.window()), 0);
  train::Series validation = curves.measured("validation_loss", "validation");
  validation.color = train::palette(1), validation.dots = true;
  if (evaluation.tokens > 0) {
    validation.x.insert(validation.x.begin(), 0);
    validation.y.insert(validation.y.begin(), run.initial_validation_loss);
  }
  chart.series.push_back(std::move(validation));
  chart.references = {{.y = std::log(256.0), .label = "uniform guess, ln 256"}};
  return chart;
}

// The same where the curves have become flat.
train::LineChart close_up(train::LineChart chart, const Evaluation& evaluation, double steps) {
  chart.title = "From a tenth of the run on";
  const double begin = std::floor(steps / 10);
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (train::Series& series : chart.series) {
    train::Series kept = series;
    kept.x.clear(), kept.y.clear();
    for (size_t i = 0; i < series.x.size(); ++i) {
      if (series.x[i] < begin) continue;
      kept.x.push_back(series.x[i]);
      kept.y.push_back(series.y[i]);
      low = std::min(low, series.y[i]);
      if (!series.name.empty()) high = std::max(high, series.y[i]);
    }
    series = std::move(kept);
  }
  chart.references.clear();
  if (evaluation.tokens > 0) {
    chart.title += fmt::format("; {} at the end: {:.3f}",
                               evaluation.complete() ? "whole held-out text" : "held-out text", evaluation.loss);
    chart.references.push_back({.y = evaluation.loss});
    low = std::min(low, evaluation.loss), high = std::max(high, evaluation.loss);
  }
  if (low < high) chart.y_range = train::Range{low - 0.03 * (high - low), high + 0.1 * (high - low)};
  return chart;
}

train::Figure loss_figure(const Run& run, const Evaluation& evaluation, const train::Metrics& metrics) {
  const Curves curves(metrics);
  train::LineChart whole = loss_chart(run, evaluation, curves);
  whole.width = 560, whole.height = 360;
  const train::LineChart close = close_up(whole, evaluation, static_cast<double>(run.step));
  return {.title = "Loss: " + run_name(run), .columns = 2, .charts = {whole, close}};
}

train::Figure training_figure(const Run& run, const train::Metrics& metrics) {
  const Curves curves(metrics);
  train::Figure figure{.title = "Training: " + run_name(run), .columns = 3};
  const auto add = [&](const char* column, const char* title, bool logarithmic,
                       const std::vector<train::ReferenceLine>& references = {}) {
    if (!curves.has(column)) return;
    train::LineChart chart{
        .title = title, .x_label = "step", .width = 400, .height = 250, .log_y = logarithmic, .references = references};
    curves.add(chart, column, "", static_cast<int64_t>(figure.charts.size()));
    figure.charts.push_back(std::move(chart));
  };
  const moe::LanguageModelOptions& model = run.configuration.model;
  const bool is_switch = model.balance == moe::BalanceNormalization::switch_;
  add("erc", "ERC loss, mean of the layers", false);
  if (curves.has("erc_violations")) {
    train::LineChart chart{.title = "ERC violations, all layers", .x_label = "step", .width = 400, .height = 250};
    train::Series series = curves.measured("erc_violations", "");
    double before = 0;
    for (const int64_t count : violations(run.coupling_before, model.moe.erc_alpha))
      before += static_cast<double>(count);
    series.x.insert(series.x.begin(), 0);
    series.y.insert(series.y.begin(), before);
    series.dots = true, series.color = train::palette(static_cast<int64_t>(figure.charts.size()));
    chart.series = {series};
    figure.charts.push_back(chart);
  }
  add("balance", "Balance loss", false,
      {{.y = is_switch ? 1.0 : static_cast<double>(model.moe.router.top_k), .label = "perfect balance"}});
  add("max_over_mean", "Largest / mean load, worst layer", false, {{.y = 1, .label = "perfect balance"}});
  add("gradient_norm", "Gradient norm", true, {{.y = run.configuration.clip, .label = "clipped above"}});
  add("lr", "Learning rate", false);
  return figure;
}

// Each layer's load over time: stacked shares of few experts, a heat map of many.
train::Figure load_figure(const Run& run) {
  const std::vector<size_t> blocks = moe_blocks(run);
  const std::vector<Loads>& rows = run.load.rows();
  const auto experts = static_cast<size_t>(run.experts());
  const bool stacked = experts <= 16;
  train::Figure figure{.title = "Share of assignments per expert over time: " + run_name(run),
                       .columns = blocks.size() > 1 ? 2 : 1};
  figure.share_legend = stacked, figure.share_colors = !stacked;
  if (!stacked) figure.title = "Load of each expert over time (1 = balanced): " + run_name(run);
  // The first rows are short steps of one batch each; all rows span the same number of steps.
  std::vector<double> steps;
  for (size_t i = 0; i < rows.size(); ++i)
    steps.push_back(static_cast<double>(static_cast<int64_t>(i + 1) * run.load.interval()));
  for (size_t layer = 0; layer < blocks.size(); ++layer) {
    const std::string title = fmt::format("Layer {}", blocks[layer]);
    if (stacked) {
      train::StackedArea area{
          .title = title, .x_label = "step", .y_label = "share", .width = 470, .height = 260, .x = steps};
      for (size_t expert = 0; expert < experts; ++expert) {
        train::Band band{.name = fmt::format("expert {}", expert)};
        for (const Loads& row : rows) band.values.push_back(static_cast<double>(row[layer][expert]));
        area.bands.push_back(std::move(band));
      }
      figure.charts.push_back(std::move(area));
    } else {
      train::HeatMap map{.title = title,
                         .x_label = "step",
                         .y_label = "expert",
                         .width = 470,
                         .height = 300,
                         .rows = static_cast<int64_t>(experts),
                         .columns = static_cast<int64_t>(rows.size()),
                         .color_map = train::ColorMap::diverging,
                         .range = train::Range{0, 2},
                         .center = 1,
                         .color_label = "load / mean load"};
      for (const double step : steps) map.column_labels.push_back(fmt::format("{:.0f}", step));
      for (size_t expert = 0; expert < experts; ++expert)
        for (const Loads& row : rows) {
          const double total = static_cast<double>(std::accumulate(row[layer].begin(), row[layer].end(), int64_t{0}));
          map.values.push_back(
              total > 0 ? static_cast<double>(row[layer][expert]) * static_cast<double>(experts) / total : nan);
        }
      figure.charts.push_back(std::move(map));
    }
  }
  return figure;
}

// M before and after training: rows are the routers' experts i, columns the experts j that they excite.
train::Figure coupling_figure(const Run& run) {
  const std::vector<size_t> blocks = moe_blocks(run);
  const Couplings after = couplings(run.model);
  const double alpha = run.configuration.model.moe.erc_alpha;
  const std::vector<int64_t> violations_before = violations(run.coupling_before, alpha),
                             violations_after = violations(after, alpha);
  const int64_t experts = run.experts(), all = 2 * experts * (experts - 1);
  const size_t across = std::min<size_t>(blocks.size(), 4);
  train::Figure figure{
      .title = fmt::format("M[i, j]: how strongly router row i excites expert j, before and after {} steps: {}",
                           run.step, run_name(run)),
      .columns = static_cast<int>(across)};
  for (size_t first = 0; first < blocks.size(); first += across)
    for (const bool is_after : {false, true})
      for (size_t layer = first; layer < std::min(first + across, blocks.size()); ++layer) {
        const std::vector<double>& values = (is_after ? after : run.coupling_before)[layer];
        std::vector<double> both = run.coupling_before[layer];
        both.insert(both.end(), after[layer].begin(), after[layer].end());
        train::HeatMap map{
            .title = fmt::format("Layer {} {}: {} of {} violated", blocks[layer], is_after ? "after" : "before",
                                 (is_after ? violations_after : violations_before)[layer], all),
            .x_label = "expert j",
            .y_label = "router row i",
            .width = 300,
            .height = 260,
            .rows = experts,
            .columns = experts,
            .values = values,
            .square = true,
            .print_values = experts <= 8};
        // Before and after share their colours.
        const auto [low, high] = std::minmax_element(both.begin(), both.end());
        if (*low < *high) map.range = train::Range{*low, *high};
        figure.charts.push_back(std::move(map));
      }
  return figure;
}

// The bytes that are common enough to say something, as groups: blanks, small letters, capitals, digits, other ones.
std::vector<int64_t> common_bytes(const std::vector<int64_t>& byte_loads, int64_t experts) {
  std::vector<std::pair<int64_t, int64_t>> counts;  // (-assignments, byte)
  int64_t total = 0;
  for (int64_t byte = 0; byte < train::ByteTokenizer::vocabulary; ++byte) {
    const auto begin = byte_loads.begin() + static_cast<std::ptrdiff_t>(byte * experts);
    const int64_t count = std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(experts), int64_t{0});
    counts.emplace_back(-count, byte);
    total += count;
  }
  std::sort(counts.begin(), counts.end());
  std::vector<int64_t> bytes;
  for (const auto& [negative, byte] : counts)
    if (bytes.size() < 64 && -negative * 20000 > total) bytes.push_back(byte);
  const auto group = [](int64_t byte) {
    if (byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r') return 0;
    if (byte >= 'a' && byte <= 'z')
      return std::string_view("aeiou").find(static_cast<char>(byte)) != std::string_view::npos ? 1 : 2;
    if (byte >= 'A' && byte <= 'Z') return 4;
    if (byte >= '0' && byte <= '9') return 5;
    return byte < 128 ? 3 : 6;
  };
  std::stable_sort(bytes.begin(), bytes.end(),
                   [&](int64_t a, int64_t b) { return std::pair(group(a), a) < std::pair(group(b), b); });
  return bytes;
}

std::string byte_label(int64_t byte) {
  if (byte == ' ') return "␣";
  if (byte == '\n') return "\\n";
  return train::ByteTokenizer::name(static_cast<int32_t>(byte));
}

// Which expert takes which bytes: the share of a byte's tokens that are assigned to it; a column adds up to top_k.
train::Figure bytes_figure(const Run& run, const Evaluation& evaluation) {
  const std::vector<size_t> blocks = moe_blocks(run);
  const int64_t experts = run.experts();
  const std::vector<int64_t> bytes = common_bytes(evaluation.byte_loads.at(0), experts);
  train::Figure figure{.title = fmt::format("Which expert takes which bytes (held-out text, after {} steps): {}",
                                            run.step, run_name(run)),
                       .columns = 1};
  figure.share_colors = true;
  for (size_t layer = 0; layer < blocks.size(); ++layer) {
    train::HeatMap map{
        .title = fmt::format("Layer {}", blocks[layer]),
        .x_label = layer + 1 == blocks.size() ? "byte" : "",
        .y_label = "expert",
        .width = 1000,
        .height = std::clamp((experts <= 16 ? 16.0 : 7.0) * static_cast<double>(experts) + 60, 150.0, 700.0),
        .rows = experts,
        .columns = static_cast<int64_t>(bytes.size()),
        .range = train::Range{0, 1},
        .color_label = "share of tokens"};
    for (const int64_t byte : bytes) map.column_labels.push_back(byte_label(byte));
    for (int64_t expert = 0; expert < experts; ++expert)
      for (const int64_t byte : bytes) {
        const auto begin = evaluation.byte_loads[layer].begin() + static_cast<std::ptrdiff_t>(byte * experts);
        const double total =
            static_cast<double>(std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(experts), int64_t{0}));
        map.values.push_back(
            static_cast<double>(*(begin + static_cast<std::ptrdiff_t>(expert)) * run.model.options.moe.router.top_k) /
            total);
      }
    figure.charts.push_back(std::move(map));
  }
  return figure;
}

}  // namespace

std::vector<Picture> draw_pictures(const Run& run, const Evaluation& evaluation, const train::Metrics& metrics,
                                   const Files& files) {
  std::vector<Picture> pictures;
  const auto draw = [&](const char* name, const char* subject, train::Figure figure) {
    if (figure.charts.empty()) return;
    figure.scale = 1.5;
    train::save_png(figure, files.path(name));
    pictures.push_back({files.path(name), subject});
  };
  draw("loss.png", "training and validation loss", loss_figure(run, evaluation, metrics));
  draw("training.png", "ERC, balance, load, gradient and learning rate", training_figure(run, metrics));
  if (moe_blocks(run).empty()) return pictures;
  if (!run.load.rows().empty())
    draw("load.png", "how the load of each layer spreads over its experts", load_figure(run));
  if (!run.coupling_before.empty()) draw("coupling.png", "M before and after training", coupling_figure(run));
  if (evaluation.tokens > 0) draw("bytes.png", "which expert takes which bytes", bytes_figure(run, evaluation));
  return pictures;
}

}  // namespace moxie::train_lm
