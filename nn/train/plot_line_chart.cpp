// SPDX-License-Identifier: Apache-2.0
// Curves over a common axis, and where their legend covers nothing.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/check.h"
#include "nn/train/plot_parts.h"

namespace moxie::train::plot_parts {
namespace {

Axis x_axis(const LineChart& chart) {
  std::vector<double> values;
  for (const Series& s : chart.series) values.insert(values.end(), s.x.begin(), s.x.end());
  return make_axis(values, chart.log_x, chart.x_range, 0.02, "LineChart: x_range");
}

Axis y_axis(const LineChart& chart, const Axis& x) {
  std::vector<double> values;
  for (const Series& s : chart.series) {
    for (size_t i = 0; i < s.y.size(); ++i) {
      const double at = x.position(s.x[i]);
      if (at >= 0 && at <= 1) values.push_back(s.y[i]);
    }
  }
  for (const ReferenceLine& line : chart.references) values.push_back(line.y);
  return make_axis(values, chart.log_y, chart.y_range, 0.05, "LineChart: y_range");
}

// Which small squares of the plot area hold data.
class Occupancy final {
 public:
  Occupancy(const Box& plot)
      : plot_(plot),
        columns_(std::max(1, static_cast<int>(plot.width / cell))),
        rows_(std::max(1, static_cast<int>(plot.height / cell))),
        taken_(static_cast<size_t>(columns_ * rows_), 0) {}

  void add(const Run& run) {
    for (size_t i = 0; i < run.size(); ++i) {
      const Point a = near(run[i > 0 ? i - 1 : 0]), b = near(run[i]);
      const int steps = static_cast<int>(std::ceil(std::hypot(b.x - a.x, b.y - a.y) / 2));
      for (int s = 0; s <= steps; ++s) {
        const double t = steps > 0 ? static_cast<double>(s) / steps : 0;
        mark(a.x + t * (b.x - a.x), a.y + t * (b.y - a.y));
      }
    }
  }

  // Number of squares with data in a box.
  int count(const Box& box) const {
    int total = 0;
    const int left = column(box.x), right = column(box.right()), top = row(box.y), bottom = row(box.bottom());
    for (int r = std::max(0, top); r <= std::min(rows_ - 1, bottom); ++r) {
      for (int c = std::max(0, left); c <= std::min(columns_ - 1, right); ++c) total += taken_[index(c, r)];
    }
    return total;
  }

 private:
  static constexpr double cell = 4;

  // Points far outside come nearer, so that no curve takes many steps.
  Point near(Point p) const {
    return {std::clamp(p.x, plot_.x - plot_.width, plot_.right() + plot_.width),
            std::clamp(p.y, plot_.y - plot_.height, plot_.bottom() + plot_.height)};
  }
  int column(double x) const { return static_cast<int>(std::floor((x - plot_.x) / plot_.width * columns_)); }
  int row(double y) const { return static_cast<int>(std::floor((y - plot_.y) / plot_.height * rows_)); }
  size_t index(int c, int r) const {
    return static_cast<size_t>(r) * static_cast<size_t>(columns_) + static_cast<size_t>(c);
  }
  void mark(double x, double y) {
    if (!(x >= plot_.x && x < plot_.right() && y >= plot_.y && y < plot_.bottom())) return;
    taken_[index(std::min(column(x), columns_ - 1), std::min(row(y), rows_ - 1))] = 1;
  }

  Box plot_;
  int columns_, rows_;
  std::vector<char> taken_;
};

// The place inside the plot area that covers least data, near a corner; `covered` is how many squares it covers.
Point legend_place(const LineChart& chart, const Axis& x, const Axis& y, const Box& plot, const Box& size,
                   int& covered) {
  Occupancy occupancy(plot);
  for (const Series& s : chart.series) {
    for (const Run& run : runs(s, x, y, plot)) occupancy.add(thinned(run));
  }
  for (const ReferenceLine& line : chart.references) {
    const double at = plot.bottom() - y.position(line.y) * plot.height, up = tick_size + 3;
    if (!std::isfinite(at)) continue;
    occupancy.add({{plot.x, at}, {plot.right(), at}});
    const double left = plot.right() - text_width(line.label, tick_size) - 6;
    for (double step = 0; step <= up; step += 4) occupancy.add({{left, at - step}, {plot.right(), at - step}});
  }
  constexpr double gap = 6;
  const double room_x = plot.width - size.width - 2 * gap, room_y = plot.height - size.height - 2 * gap;
  covered = 1 << 30;
  Point best{plot.right() - size.width - gap, plot.y + gap};
  if (room_x < 0 || room_y < 0) return best;
  double best_cost = 1e18;
  constexpr int grid = 12;
  for (int v = 0; v <= grid; ++v) {
    for (int u = 0; u <= grid; ++u) {
      const double right = static_cast<double>(u) / grid, down = static_cast<double>(v) / grid;
      const Point at{plot.x + gap + room_x * right, plot.y + gap + room_y * down};
      const int squares = occupancy.count({at.x - 3, at.y - 3, size.width + 6, size.height + 6});
      // corners first, the upper right one before the others; never the middle without need
      const double corner = std::min(right, 1 - right) + std::min(down, 1 - down);
      const double cost = 1000.0 * squares + 10 * corner + (1 - right) + 0.5 * down;
      if (cost < best_cost) best_cost = cost, best = at, covered = squares;
    }
  }
  return best;
}

}  // namespace

void validate(const LineChart& chart) {
  check(chart.width > 0 && chart.height > 0, "LineChart \"{}\": width and height must be positive, got {} x {}",
        chart.title, chart.width, chart.height);
  validate(chart.series, "LineChart", chart.title);
  y_axis(chart, x_axis(chart));
}

std::vector<LegendEntry> legend_of(const LineChart& chart) { return legend_of(chart.series); }

Margins margins_of(const LineChart& chart, double width, double height) {
  const Axis x = x_axis(chart), y = y_axis(chart, x);
  Margins margins = frame_margins(chart.title, chart.x_label, chart.y_label, fitting_ticks(x, width, true),
                                  fitting_ticks(y, height, false));
  const auto entries = legend_of(chart);
  if (!chart.legend || entries.empty()) return margins;
  const Box size = legend_size_of(entries);
  int covered = 0;
  legend_place(chart, x, y, {0, 0, width, height}, size, covered);
  if (covered > 0) {
    margins.legend_beside = true;
    margins.right = std::max(margins.right, size.width + 12);
  }
  return margins;
}

void draw(Canvas& canvas, const LineChart& chart, const Box& plot, const Margins& margins) {
  const Axis x = x_axis(chart), y = y_axis(chart, x);
  const auto x_ticks = fitting_ticks(x, plot.width, true), y_ticks = fitting_ticks(y, plot.height, false);
  draw_grid(canvas, plot, x_ticks, y_ticks);
  draw_frame(canvas, plot, margins, chart.title, chart.x_label, chart.y_label, x_ticks, y_ticks);

  const auto height_of = [&](double value) { return plot.bottom() - y.position(value) * plot.height; };
  const auto visible = [&](double at) { return at >= plot.y - 0.5 && at <= plot.bottom() + 0.5; };
  for (const ReferenceLine& line : chart.references) {
    const double at = height_of(line.y);
    if (!visible(at)) continue;
    const std::array<Point, 2> ends{Point{plot.x + 3, at}, Point{plot.right(), at}};
    canvas.line(ends, {.color = line.color, .width = 1.1, .dashed = true, .clip = Box{plot.x, at - 4, plot.width, 8}});
  }
  draw_series(canvas, chart.series, x, y, plot, false);
  for (const ReferenceLine& line : chart.references) {
    const double at = height_of(line.y);
    if (line.label.empty() || !visible(at)) continue;
    const double width = text_width(line.label, tick_size), right = plot.right() - 4;
    const double above =
        at - 5 - font::cap_height * tick_size > plot.y ? at - 5 : at + 5 + font::cap_height * tick_size;
    canvas.fill({right - width - 3, above - 0.8 * tick_size, width + 6, 1.05 * tick_size}, white, 0.75);
    canvas.text({right, above}, line.label, {.size = tick_size, .color = line.color, .align = Align::right});
  }
  const auto entries = legend_of(chart);
  if (!chart.legend || entries.empty()) return;
  if (margins.legend_beside) {
    draw_legend(canvas, plot.right() + 6, plot.y - 4, entries, 1, false);
  } else {
    int covered = 0;
    const Point at = legend_place(chart, x, y, plot, legend_size_of(entries), covered);
    draw_legend(canvas, at.x, at.y, entries, 1, true);
  }
}

}  // namespace moxie::train::plot_parts
