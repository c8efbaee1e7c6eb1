// SPDX-License-Identifier: Apache-2.0
#include "nn/train/plot_parts.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace moxie::train::plot_parts {
namespace {

constexpr double swatch = 20, swatch_gap = 6, column_gap = 16, padding = 6;

double row_swatch(const LegendEntry& entry) { return entry.line ? swatch : 9; }

}  // namespace

std::vector<AxisTick> fitting_ticks(const Axis& axis, double length, bool horizontal) {
  std::vector<AxisTick> result;
  for (int count = std::max(2, static_cast<int>(length / (horizontal ? 56 : 34))); count >= 1; --count) {
    result.clear();
    double end = -1e9;
    bool fits = true;
    for (const Tick& tick : ticks(axis, count)) {
      const double position = axis.position(tick.value);
      if (!(position >= -1e-9 && position <= 1 + 1e-9)) continue;
      result.push_back({position, tick.label, tick.minor});
      if (tick.minor) continue;
      const double half = 0.5 * (horizontal ? text_width(tick.label, tick_size) : tick_size);
      fits = fits && position * length - half >= end + (horizontal ? 10 : 4);
      end = position * length + half;
    }
    if (fits) break;
  }
  return result;
}

double label_width(const std::vector<AxisTick>& ticks) {
  double width = 0;
  for (const AxisTick& tick : ticks) width = std::max(width, text_width(tick.label, tick_size));
  return width;
}

Margins frame_margins(const std::string& title, const std::string& x_label, const std::string& y_label,
                      const std::vector<AxisTick>& x, const std::vector<AxisTick>& y) {
  Margins margins;
  margins.left = 13 + tick_length + 4 + label_width(y) + (y_label.empty() ? 0 : label_size + 9);
  // the last label below may stick out
  double overhang = 0;
  for (const AxisTick& tick : x) {
    if (tick.position > 0.95) overhang = std::max(overhang, 0.5 * text_width(tick.label, tick_size));
  }
  margins.right = std::max(14.0, overhang + 6);
  margins.top = title.empty() ? 14 : 14 + title_size + 6;
  margins.bottom = 12 + tick_length + 4 + 0.72 * tick_size + (x_label.empty() ? 0 : label_size + 6);
  return margins;
}

void draw_grid(Canvas& canvas, const Box& plot, const std::vector<AxisTick>& x, const std::vector<AxisTick>& y) {
  for (const bool minor : {true, false}) {
    const Color color = minor ? minor_grid_color : grid_color;
    for (const AxisTick& tick : x) {
      const double at = plot.x + tick.position * plot.width;
      if (tick.minor == minor) canvas.rule({at, plot.y}, {at, plot.bottom()}, color, 0.8);
    }
    for (const AxisTick& tick : y) {
      const double at = plot.bottom() - tick.position * plot.height;
      if (tick.minor == minor) canvas.rule({plot.x, at}, {plot.right(), at}, color, 0.8);
    }
  }
}

void draw_frame(Canvas& canvas, const Box& plot, const Margins& margins, const std::string& title,
                const std::string& x_label, const std::string& y_label, const std::vector<AxisTick>& x,
                const std::vector<AxisTick>& y, const FrameStyle& style) {
  const double line = 1;
  canvas.rule({plot.x - line / 2, plot.bottom()}, {plot.right() + line / 2, plot.bottom()}, frame_color, line);
  canvas.rule({plot.x, plot.y - line / 2}, {plot.x, plot.bottom() + line / 2}, frame_color, line);
  if (style.full) {
    canvas.rule({plot.x - line / 2, plot.y}, {plot.right() + line / 2, plot.y}, frame_color, line);
    canvas.rule({plot.right(), plot.y - line / 2}, {plot.right(), plot.bottom() + line / 2}, frame_color, line);
  }
  const double offset = tick_length + 4;
  for (const AxisTick& tick : x) {
    const double at = plot.x + tick.position * plot.width;
    const double mark = tick.minor ? 0.55 * tick_length : tick_length;
    if (style.tick_marks) canvas.rule({at, plot.bottom()}, {at, plot.bottom() + mark}, frame_color, line);
    if (style.upward_x) {
      canvas.text({at, plot.bottom() + offset}, fit_text(tick.label, tick_size, style.x_label_drop),
                  {.size = tick_size,
                   .color = soft_ink,
                   .align = Align::right,
                   .vertical_align = VerticalAlign::middle,
                   .upward = true});
    } else {
      canvas.text({at, plot.bottom() + offset}, tick.label,
                  {.size = tick_size, .color = soft_ink, .align = Align::center, .vertical_align = VerticalAlign::top});
    }
  }
  for (const AxisTick& tick : y) {
    const double at = plot.bottom() - tick.position * plot.height;
    const double mark = tick.minor ? 0.55 * tick_length : tick_length;
    if (style.tick_marks) canvas.rule({plot.x - mark, at}, {plot.x, at}, frame_color, line);
    canvas.text({plot.x - offset, at}, tick.label,
                {.size = tick_size, .color = soft_ink, .align = Align::right, .vertical_align = VerticalAlign::middle});
  }
  if (!title.empty()) {
    const double room = plot.width + margins.right - 6;
    const double size = std::clamp(title_size * room / std::max(1.0, text_width(title, title_size, true)),
                                   0.8 * title_size, title_size);
    canvas.text({plot.x, plot.y - 9}, fit_text(title, size, room, true), {.size = size, .color = ink, .bold = true});
  }
  if (!x_label.empty()) {
    const double drop = style.upward_x ? style.x_label_drop : tick_size;
    canvas.text({plot.x + plot.width / 2, plot.bottom() + offset + drop + 5},
                fit_text(x_label, label_size, plot.width + margins.left),
                {.size = label_size, .color = ink, .align = Align::center, .vertical_align = VerticalAlign::top});
  }
  if (!y_label.empty()) {
    canvas.text({plot.x - margins.left + 8 + 0.72 * label_size, plot.y + plot.height / 2},
                fit_text(y_label, label_size, plot.height + margins.top),
                {.size = label_size, .color = ink, .align = Align::center, .upward = true});
  }
}

Box legend_size_of(const std::vector<LegendEntry>& entries, int columns) {
  double width = 0, marker = 0;
  for (const LegendEntry& entry : entries) {
    width = std::max(width, text_width(entry.name, legend_size));
    marker = std::max(marker, row_swatch(entry));
  }
  const int count = static_cast<int>(entries.size()), rows = (count + columns - 1) / columns;
  const double column = marker + swatch_gap + width;
  return {0, 0, columns * column + (columns - 1) * column_gap + 2 * padding, rows * legend_row + 2 * padding - 4};
}

void draw_legend(Canvas& canvas, double x, double y, const std::vector<LegendEntry>& entries, int columns,
                 bool framed) {
  if (entries.empty()) return;
  const Box size = legend_size_of(entries, columns);
  if (framed) {
    const double left = canvas.snap(x), top = canvas.snap(y), right = canvas.snap(x + size.width);
    const double bottom = canvas.snap(y + size.height);
    canvas.fill({left, top, right - left, bottom - top}, white, 0.88);
    const std::array<Point, 5> border{{{left, top}, {right, top}, {right, bottom}, {left, bottom}, {left, top}}};
    for (size_t i = 0; i < 4; ++i) canvas.rule(border[i], border[i + 1], {216, 219, 224}, 0.8);
  }
  const double column = (size.width - 2 * padding + column_gap) / columns;
  double marker = 0;
  for (const LegendEntry& entry : entries) marker = std::max(marker, row_swatch(entry));
  for (int i = 0; i < static_cast<int>(entries.size()); ++i) {
    const LegendEntry& entry = entries[static_cast<size_t>(i)];
    const int place = i % columns, row = i / columns;
    const double left = x + padding + column * place, middle = y + padding - 2 + legend_row * (row + 0.5);
    if (entry.line) {
      const std::array<Point, 2> sample{Point{left + 1, middle}, Point{left + marker - 1, middle}};
      canvas.line(
          sample,
          {.color = entry.color, .width = 2, .dashed = entry.dashed, .clip = Box{left - 2, middle - 4, marker + 4, 8}});
    }
    if (entry.dots) {
      canvas.dot({left + marker / 2, middle}, entry.line ? 2.8 : 3.4, entry.color);
    } else if (!entry.line) {
      canvas.fill({canvas.snap(left), canvas.snap(middle - 4.5), 9, 9}, entry.color);
    }
    canvas.text({left + marker + swatch_gap, middle}, entry.name,
                {.size = legend_size, .color = ink, .vertical_align = VerticalAlign::middle});
  }
}

Range finite_range(const std::vector<double>& values) {
  Range range{1e301, -1e301};
  for (const double value : values) {
    if (std::abs(value) <= 1e300) range.low = std::min(range.low, value), range.high = std::max(range.high, value);
  }
  if (range.low > range.high) return {0, 1};
  if (range.high - range.low <= 1e-12 * std::max({range.high, -range.low, 1e-280})) {
    const double room = range.low == 0 ? 1 : 0.5 * std::abs(range.low);
    return {range.low - room, range.high + room};
  }
  return range;
}

}  // namespace moxie::train::plot_parts
