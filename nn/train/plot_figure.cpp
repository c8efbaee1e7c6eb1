// SPDX-License-Identifier: Apache-2.0
// Charts in a grid with aligned axes.
#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "nn/train/plot_parts.h"

namespace moxie::train {
namespace {

using namespace plot_parts;

double width_of(const Chart& chart) {
  return std::visit([](const auto& c) { return c.width; }, chart);
}
double height_of(const Chart& chart) {
  return std::visit([](const auto& c) { return c.height; }, chart);
}

// The grid: where the plot areas of all charts lie.
class Grid final {
 public:
  Grid(const std::vector<Chart>& charts, int columns)
      : charts_(charts),
        columns_(static_cast<size_t>(columns)),
        rows_((charts.size() + columns_ - 1) / columns_),
        widths_(columns_, 0),
        heights_(rows_, 0),
        left_(columns_, 0),
        right_(columns_, 0),
        top_(rows_, 0),
        bottom_(rows_, 0),
        margins_(charts.size()) {
    for (size_t i = 0; i < charts.size(); ++i) {
      widths_[column(i)] = std::max(widths_[column(i)], width_of(charts[i]));
      heights_[row(i)] = std::max(heights_[row(i)], height_of(charts[i]));
    }
    for (const double w : widths_) width_ += w;
    for (const double h : heights_) height_ += h;
    // Margins depend on the size of the plot area, and that on the margins: a few rounds settle it.
    plot_width_ = 0.8 * width_, plot_height_ = 0.8 * height_;
    for (int round = 0; round < 3; ++round) measure();
  }

  double width() const { return width_; }
  double height() const { return height_; }

  Box plot(size_t i) const {
    Box box{0, 0, plot_width_ * widths_[column(i)] / width_, plot_height_ * heights_[row(i)] / height_};
    for (size_t c = 0; c < column(i); ++c) box.x += left_[c] + plot_width_ * widths_[c] / width_ + right_[c];
    for (size_t r = 0; r < row(i); ++r) box.y += top_[r] + plot_height_ * heights_[r] / height_ + bottom_[r];
    box.x += left_[column(i)], box.y += top_[row(i)];
    return box;
  }

  // Those of the chart's row and column.
  Margins margins(size_t i) const {
    return {left_[column(i)], right_[column(i)], top_[row(i)], bottom_[row(i)], margins_[i].legend_beside};
  }

  size_t row(size_t i) const { return i / columns_; }
  size_t column(size_t i) const { return i % columns_; }

 private:
  void measure() {
    for (auto* side : {&left_, &right_, &top_, &bottom_}) std::fill(side->begin(), side->end(), 0.0);
    for (size_t i = 0; i < charts_.size(); ++i) {
      const double w = plot_width_ * widths_[column(i)] / width_, h = plot_height_ * heights_[row(i)] / height_;
      margins_[i] = std::visit([&](const auto& chart) { return margins_of(chart, w, h); }, charts_[i]);
      left_[column(i)] = std::max(left_[column(i)], margins_[i].left);
      right_[column(i)] = std::max(right_[column(i)], margins_[i].right);
      top_[row(i)] = std::max(top_[row(i)], margins_[i].top);
      bottom_[row(i)] = std::max(bottom_[row(i)], margins_[i].bottom);
    }
    plot_width_ = width_, plot_height_ = height_;
    for (size_t c = 0; c < columns_; ++c) plot_width_ -= left_[c] + right_[c];
    for (size_t r = 0; r < rows_; ++r) plot_height_ -= top_[r] + bottom_[r];
    // too small a picture: something is drawn all the same
    plot_width_ = std::max(plot_width_, 0.1 * width_), plot_height_ = std::max(plot_height_, 0.1 * height_);
  }

  const std::vector<Chart>& charts_;
  size_t columns_, rows_;
  std::vector<double> widths_, heights_;             // of each column and row of the grid, all included
  std::vector<double> left_, right_, top_, bottom_;  // margins of each column and row
  std::vector<Margins> margins_;
  double width_ = 0, height_ = 0, plot_width_ = 0, plot_height_ = 0;  // of all columns and rows together
};

// Heat maps of one colour map get their common range; only the last in each row keeps its colour bar.
void share_colors(std::vector<Chart>& charts, size_t columns) {
  for (const ColorMap map : {ColorMap::sequential, ColorMap::diverging}) {
    std::vector<double> all;
    for (const Chart& chart : charts) {
      const auto* heat = std::get_if<HeatMap>(&chart);
      if (!heat || heat->color_map != map) continue;
      const Range range = heat->range.value_or(finite_range(heat->values));
      all.insert(all.end(), {range.low, range.high});
      if (map == ColorMap::diverging) all.push_back(heat->center);
    }
    const Range common = finite_range(all);
    for (size_t i = 0; i < charts.size(); ++i) {
      auto* heat = std::get_if<HeatMap>(&charts[i]);
      if (!heat || heat->color_map != map) continue;
      heat->range = common;
      const auto* next =
          i + 1 < charts.size() && (i + 1) % columns != 0 ? std::get_if<HeatMap>(&charts[i + 1]) : nullptr;
      if (next && next->color_map == map) heat->color_bar = false;
    }
  }
}

// All entries that differ, in the order in which the charts first name them.
std::vector<LegendEntry> shared_legend(std::vector<Chart>& charts) {
  std::vector<LegendEntry> entries;
  for (Chart& chart : charts) {
    auto own = std::visit([](const auto& c) { return legend_of(c); }, chart);
    if (std::holds_alternative<StackedArea>(chart)) std::reverse(own.begin(), own.end());
    for (const LegendEntry& entry : own) {
      if (std::find(entries.begin(), entries.end(), entry) == entries.end()) entries.push_back(entry);
    }
    if (auto* lines = std::get_if<LineChart>(&chart)) lines->legend = false;
    if (auto* areas = std::get_if<StackedArea>(&chart)) areas->legend = false;
    if (auto* image = std::get_if<Image>(&chart)) image->legend = false;
  }
  return entries;
}

}  // namespace

Canvas render(const Figure& figure) {
  check(!figure.charts.empty(), "Figure \"{}\": needs at least one chart", figure.title);
  check(figure.columns >= 0, "Figure \"{}\": columns must not be negative, got {}", figure.title, figure.columns);
  for (const Chart& chart : figure.charts) {
    std::visit([](const auto& c) { validate(c); }, chart);
  }
  const int count = static_cast<int>(figure.charts.size());
  const int columns = figure.columns > 0 ? std::min(figure.columns, count)
                                         : static_cast<int>(std::ceil(std::sqrt(static_cast<double>(count))));
  std::vector<Chart> charts = figure.charts;
  if (figure.share_colors) share_colors(charts, static_cast<size_t>(columns));
  const auto entries = figure.share_legend ? shared_legend(charts) : std::vector<LegendEntry>{};
  const Grid grid(charts, columns);

  const double head = figure.title.empty() ? 0 : 16 + figure_title_size;
  int legend_columns = static_cast<int>(entries.size());
  while (legend_columns > 1 && legend_size_of(entries, legend_columns).width > grid.width() - 24) --legend_columns;
  if (const int n = static_cast<int>(entries.size()); n > 0) {  // rows of equal length
    const int rows = (n + legend_columns - 1) / legend_columns;
    legend_columns = (n + rows - 1) / rows;
  }
  const Box legend = legend_size_of(entries, std::max(1, legend_columns));
  const double foot = entries.empty() ? 0 : legend.height + 8;

  Canvas canvas(grid.width(), head + grid.height() + foot, figure.scale);
  if (!figure.title.empty()) {
    canvas.text({12, 14 + 0.72 * figure_title_size}, fit_text(figure.title, figure_title_size, grid.width() - 24, true),
                {.size = figure_title_size, .color = ink, .bold = true});
  }
  for (size_t i = 0; i < charts.size(); ++i) {
    Box plot = grid.plot(i);
    plot.y += head;
    std::visit([&](const auto& chart) { draw(canvas, chart, plot, grid.margins(i)); }, charts[i]);
  }
  if (!entries.empty()) {
    draw_legend(canvas, 0.5 * (grid.width() - legend.width), head + grid.height(), entries, legend_columns, false);
  }
  return canvas;
}

Canvas render(const Chart& chart, double scale) { return render(Figure{.charts = {chart}, .scale = scale}); }

void save_png(const Figure& figure, const std::filesystem::path& path) { render(figure).save_png(path); }

void save_png(const Chart& chart, const std::filesystem::path& path, double scale) {
  render(chart, scale).save_png(path);
}

}  // namespace moxie::train
