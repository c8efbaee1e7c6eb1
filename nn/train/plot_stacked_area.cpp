// SPDX-License-Identifier: Apache-2.0
// Bands on top of each other: shares of a whole over time.
#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "nn/train/plot_parts.h"

namespace moxie::train::plot_parts {
namespace {

constexpr double strip_gap = 14, strip_width = 12;

Color color_of(const StackedArea& chart, size_t band) {
  return chart.bands[band].color.value_or(palette(static_cast<int64_t>(band)));
}

// Upper borders of the bands: [points][bands], an empty row where a point is a gap.
std::vector<std::vector<double>> borders(const StackedArea& chart) {
  std::vector<std::vector<double>> result(chart.x.size());
  for (size_t i = 0; i < chart.x.size(); ++i) {
    double total = 0;
    for (const Band& band : chart.bands) result[i].push_back(total += band.values[i]);
    const bool gap = !(std::abs(total) <= 1e300) || (chart.normalize && total <= 0);
    if (gap) result[i].clear();
    for (double& border : result[i]) border /= chart.normalize ? total : 1;
  }
  return result;
}

struct Axes {
  Axis x, y;
  std::vector<AxisTick> x_ticks, y_ticks;
};

Axes axes_of(const StackedArea& chart, double width, double height) {
  Axes axes;
  axes.x = make_axis(chart.x, false, {}, 0, "StackedArea: x");
  axes.x_ticks = fitting_ticks(axes.x, width, true);
  if (chart.normalize) {
    axes.y = {{0, 1}};
    axes.y_ticks = fitting_ticks({{0, 100}}, height, false);
    for (AxisTick& tick : axes.y_ticks) tick.label += "%";
  } else {
    double high = 0;
    for (const auto& row : borders(chart)) high = row.empty() ? high : std::max(high, row.back());
    axes.y = {{0, high > 0 ? 1.03 * high : 1}};
    axes.y_ticks = fitting_ticks(axes.y, height, false);
  }
  return axes;
}

// Averages of a piecewise linear curve, by the integral from its first point.
class Average final {
 public:
  Average(const std::vector<double>& x, size_t first, size_t last, size_t bands)
      : x_(x), at_(first), last_(last), whole_(bands, 0) {}

  // Integrals of all bands up to `to`, between the first and the last point and never less than in the call before.
  void integrate(const std::vector<std::vector<double>>& y, double to, std::vector<double>& sums) {
    for (; at_ < last_ && x_[at_ + 1] <= to; ++at_) {
      for (size_t k = 0; k < whole_.size(); ++k)
        whole_[k] += 0.5 * (y[at_][k] + y[at_ + 1][k]) * (x_[at_ + 1] - x_[at_]);
    }
    sums = whole_;
    if (at_ == last_) return;
    const double step = to - x_[at_], t = step / (x_[at_ + 1] - x_[at_]);
    for (size_t k = 0; k < sums.size(); ++k) sums[k] += step * (y[at_][k] + 0.5 * t * (y[at_ + 1][k] - y[at_][k]));
  }

 private:
  const std::vector<double>& x_;
  size_t at_, last_;
  std::vector<double> whole_;
};

// One column of the picture, borders as shares of the height: from the top band down, so that every border is blended
// with the band above it.
void draw_column(Canvas& canvas, const StackedArea& chart, const Box& plot, double x, double width,
                 const std::vector<double>& border) {
  for (size_t k = border.size(); k-- > 0;) {
    if (border[k] <= (k > 0 ? border[k - 1] : 0)) continue;
    const double height = std::min(1.0, border[k]) * plot.height;
    canvas.fill({x, plot.bottom() - height, width, height}, color_of(chart, k));
  }
}

void draw_bands(Canvas& canvas, const StackedArea& chart, const Axes& axes, const Box& plot) {
  auto rows = borders(chart);
  std::vector<double> at;  // x on the canvas
  for (const double x : chart.x) at.push_back(plot.x + axes.x.position(x) * plot.width);
  for (auto& row : rows) {
    for (double& border : row) border = axes.y.position(border);
  }
  const double pixel = 1 / canvas.scale();
  for (size_t first = 0; first < rows.size(); ++first) {
    if (rows[first].empty()) continue;
    size_t last = first;
    while (last + 1 < rows.size() && !rows[last + 1].empty()) ++last;
    const double left = canvas.snap(at[first]), right = canvas.snap(at[last]);
    if (right - left < pixel) {  // a point alone: a narrow column
      const double from = std::max(plot.x, left - 1.5), to = std::min(plot.right(), left + 1.5);
      draw_column(canvas, chart, plot, from, to - from, rows[first]);
      first = last;
      continue;
    }
    Average average(at, first, last, chart.bands.size());
    const auto inside = [&](double x) { return std::clamp(x, at[first], at[last]); };
    const int64_t columns = std::llround((right - left) / pixel);
    std::vector<double> before, after, mean(chart.bands.size());
    average.integrate(rows, inside(left), before);
    for (int64_t i = 0; i < columns; ++i) {
      const double x = left + static_cast<double>(i) * pixel, width = inside(x + pixel) - inside(x);
      average.integrate(rows, inside(x + pixel), after);
      for (size_t k = 0; k < mean.size(); ++k) mean[k] = (after[k] - before[k]) / width;
      if (width > 0) draw_column(canvas, chart, plot, x, pixel, mean);
      before.swap(after);
    }
    const bool separate = chart.bands.size() <= 16 && static_cast<int64_t>(last - first) <= columns;
    for (size_t k = 0; separate && k + 1 < chart.bands.size(); ++k) {  // thin lines between
      std::vector<Point> line;
      for (size_t i = first; i <= last; ++i) line.push_back({at[i], plot.bottom() - rows[i][k] * plot.height});
      canvas.line(line, {.color = white, .width = 0.7, .opacity = 0.75, .clip = plot});
    }
    first = last;
  }
}

bool as_strip(const StackedArea& chart, double height) {
  return static_cast<double>(legend_of(chart).size()) * legend_row > height + 8;
}

// Every how many bands of the strip one is named.
size_t strip_stride(size_t count, double height) {
  size_t stride = 1;
  while (height * static_cast<double>(stride) / static_cast<double>(count) < tick_size + 1) stride *= 2;
  return stride;
}

// All colours in the order of the stack, for more bands than a list has room for.
void draw_strip(Canvas& canvas, const StackedArea& chart, const Box& strip) {
  const size_t count = chart.bands.size(), stride = strip_stride(count, strip.height);
  const auto y_of = [&](size_t k) {
    return canvas.snap(strip.bottom() - strip.height * static_cast<double>(k) / static_cast<double>(count));
  };
  for (size_t k = 0; k < count; ++k) {
    canvas.fill({strip.x, y_of(k + 1), strip.width, y_of(k) - y_of(k + 1)}, color_of(chart, k));
    if (k % stride == 0) {
      canvas.text({strip.right() + 5, 0.5 * (y_of(k) + y_of(k + 1))}, chart.bands[k].name,
                  {.size = tick_size, .color = soft_ink, .vertical_align = VerticalAlign::middle});
    }
  }
}

}  // namespace

void validate(const StackedArea& chart) {
  check(chart.width > 0 && chart.height > 0, "StackedArea \"{}\": width and height must be positive, got {} x {}",
        chart.title, chart.width, chart.height);
  for (size_t i = 0; i < chart.x.size(); ++i) {
    check(std::abs(chart.x[i]) <= 1e300 && (i == 0 || chart.x[i] > chart.x[i - 1]),
          "StackedArea \"{}\": x must be finite and ascending, got {} at {}", chart.title, chart.x[i], i);
  }
  for (const Band& band : chart.bands) {
    check(band.values.size() == chart.x.size(),
          "StackedArea \"{}\": band \"{}\" must have one value per x, got {} values for {} x", chart.title, band.name,
          band.values.size(), chart.x.size());
    for (const double value : band.values) {
      check(!(value < 0), "StackedArea \"{}\": values must not be negative, band \"{}\" has {}", chart.title, band.name,
            value);
    }
  }
}

std::vector<LegendEntry> legend_of(const StackedArea& chart) {
  std::vector<LegendEntry> entries;
  for (size_t k = chart.bands.size(); k-- > 0;) {  // the uppermost first, as in the picture
    if (!chart.bands[k].name.empty())
      entries.push_back({.name = chart.bands[k].name, .color = color_of(chart, k), .line = false});
  }
  return entries;
}

Margins margins_of(const StackedArea& chart, double width, double height) {
  const Axes axes = axes_of(chart, width, height);
  Margins margins = frame_margins(chart.title, chart.x_label, chart.y_label, axes.x_ticks, axes.y_ticks);
  const auto entries = legend_of(chart);
  if (!chart.legend || entries.empty()) return margins;
  if (as_strip(chart, height)) {
    double widest = 0;
    for (const LegendEntry& entry : entries) widest = std::max(widest, text_width(entry.name, tick_size));
    margins.right = std::max(margins.right, strip_gap + strip_width + 5 + widest + 12);
  } else {
    margins.right = std::max(margins.right, legend_size_of(entries).width + 12);
  }
  return margins;
}

void draw(Canvas& canvas, const StackedArea& chart, const Box& plot, const Margins& margins) {
  const Axes axes = axes_of(chart, plot.width, plot.height);
  draw_grid(canvas, plot, axes.x_ticks, axes.y_ticks);
  draw_bands(canvas, chart, axes, plot);
  draw_frame(canvas, plot, margins, chart.title, chart.x_label, chart.y_label, axes.x_ticks, axes.y_ticks);
  const auto entries = legend_of(chart);
  if (!chart.legend || entries.empty()) return;
  if (as_strip(chart, plot.height)) {
    draw_strip(canvas, chart, {plot.right() + strip_gap, plot.y, strip_width, plot.height});
  } else {
    draw_legend(canvas, plot.right() + 6, plot.y - 4, entries, 1, false);
  }
}

}  // namespace moxie::train::plot_parts
