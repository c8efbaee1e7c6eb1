// SPDX-License-Identifier: Apache-2.0
// A matrix as coloured cells with its colour bar.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/check.h"
#include "nn/train/plot_parts.h"

namespace moxie::train::plot_parts {
namespace {

constexpr double bar_gap = 14, bar_width = 12, longest_upward_label = 96;

bool missing(double value) { return !(std::abs(value) <= 1e300); }

// Values and their colours.
struct Colors {
  Range range;
  ColorMap map;
  double center;

  explicit Colors(const HeatMap& chart) : map(chart.color_map), center(chart.center) {
    range = chart.range.value_or(finite_range(chart.values));
    if (map == ColorMap::diverging && !chart.range) {
      range = {std::min(range.low, center), std::max(range.high, center)};
    }
  }
  Color operator()(double value) const {
    if (map == ColorMap::sequential) return sequential_color((value - range.low) / (range.high - range.low));
    const double reach = std::max(std::abs(range.high - center), std::abs(range.low - center));
    return diverging_color(0.5 + 0.5 * (value - center) / reach);
  }
};

// The plot area, shrunk to square cells where asked for.
Box cells_box(const HeatMap& chart, const Box& plot) {
  if (!chart.square) return plot;
  const double cell =
      std::min(plot.width / static_cast<double>(chart.columns), plot.height / static_cast<double>(chart.rows));
  const double width = cell * static_cast<double>(chart.columns), height = cell * static_cast<double>(chart.rows);
  return {plot.x + (plot.width - width) / 2, plot.y + (plot.height - height) / 2, width, height};
}

// Every how many labels one is drawn, so that labels of size `extent` fit into cells of size `cell`.
int64_t label_stride(int64_t count, double cell, double extent) {
  for (int64_t power = 1;; power *= 10) {
    for (const int64_t factor : {1, 2, 4, 5, 8}) {
      // fours and eights suit few experts, fives many steps
      if (count <= 128 ? factor == 5 : factor > 2 && factor != 5) continue;
      const int64_t stride = count <= 128 && power > 1 ? factor * 16 : factor * power;
      if (static_cast<double>(stride) * cell >= extent || stride >= count) return stride;
    }
  }
}

struct CellTicks {
  std::vector<AxisTick> ticks;
  bool upward = false;
  double drop = 0;  // height of upward labels
};

CellTicks cell_ticks(const std::vector<std::string>& labels, int64_t count, double length, bool horizontal) {
  const auto label = [&](int64_t i) { return labels.empty() ? std::to_string(i) : labels[static_cast<size_t>(i)]; };
  double widest = 0;
  for (int64_t i = 0; i < count; ++i) widest = std::max(widest, text_width(label(i), tick_size));
  const double cell = length / static_cast<double>(count);
  CellTicks result;
  // names that fit only when turned are turned; numbers are thinned out
  const bool numbers = labels.empty() || std::all_of(labels.begin(), labels.end(), [](const std::string& text) {
                         return text.find_first_not_of("0123456789.,+-kMG") == text.npos;
                       });
  result.upward = horizontal && !numbers && widest + 4 > cell && tick_size + 1 <= cell;
  const bool tight = widest < 1.3 * tick_size;  // single characters may stand close
  const double extent = !horizontal || result.upward ? tick_size + 1 : widest + (tight ? 2 : 8);
  if (result.upward) result.drop = std::min(widest, longest_upward_label);
  const int64_t stride = label_stride(count, cell, extent);
  for (int64_t i = 0; i < count; i += stride) {
    const double position = (static_cast<double>(i) + 0.5) / static_cast<double>(count);
    result.ticks.push_back({horizontal ? position : 1 - position, label(i)});
  }
  return result;
}

// Diagonal lines that continue from cell to cell.
void hatch(Canvas& canvas, const Box& box) {
  canvas.fill(box, missing_color);
  constexpr double spacing = 5;
  const double first = std::ceil((box.x + box.y) / spacing) * spacing;
  for (double sum = first; sum < box.right() + box.bottom(); sum += spacing) {
    const std::array<Point, 2> ends{Point{sum - box.y, box.y}, Point{sum - box.bottom(), box.bottom()}};
    canvas.line(ends, {.color = {186, 190, 197}, .width = 0.8, .clip = box});
  }
}

// Mean of the cells in rows r0 .. r1 and columns c0 .. c1 that have a value; NaN if none has.
double mean(const HeatMap& chart, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
  double sum = 0;
  int64_t count = 0;
  for (int64_t r = r0; r < r1; ++r) {
    for (int64_t c = c0; c < c1; ++c) {
      const double value = chart.values[static_cast<size_t>(r * chart.columns + c)];
      if (!missing(value)) sum += value, ++count;
    }
  }
  return count > 0 ? sum / static_cast<double>(count) : std::nan("");
}

void draw_cells(Canvas& canvas, const HeatMap& chart, const Colors& colors, const Box& box) {
  // no more cells than pixels: where there are more, a pixel shows the mean of its cells
  const auto pieces = [&](int64_t count, double length) {
    return std::min(count, std::max<int64_t>(1, std::llround(length * canvas.scale())));
  };
  const int64_t rows = pieces(chart.rows, box.height), columns = pieces(chart.columns, box.width);
  const auto x_of = [&](int64_t c) {
    return canvas.snap(box.x + box.width * static_cast<double>(c) / static_cast<double>(columns));
  };
  const auto y_of = [&](int64_t r) {
    return canvas.snap(box.y + box.height * static_cast<double>(r) / static_cast<double>(rows));
  };
  for (int64_t r = 0; r < rows; ++r) {
    int64_t missing_from = 0;  // cells from here to before the current one have no value
    for (int64_t c = 0; c <= columns; ++c) {
      const double value = c == columns ? 0
                                        : mean(chart, r * chart.rows / rows, (r + 1) * chart.rows / rows,
                                               c * chart.columns / columns, (c + 1) * chart.columns / columns);
      if (missing(value)) continue;
      const double y = y_of(r), height = y_of(r + 1) - y;
      if (missing_from < c) hatch(canvas, {x_of(missing_from), y, x_of(c) - x_of(missing_from), height});
      if (c < columns) canvas.fill({x_of(c), y, x_of(c + 1) - x_of(c), height}, colors(value));
      missing_from = c + 1;
    }
  }
  if (box.width / static_cast<double>(columns) >= 12 && box.height / static_cast<double>(rows) >= 12) {
    for (int64_t c = 1; c < columns; ++c) canvas.rule({x_of(c), box.y}, {x_of(c), box.bottom()}, white, 1);
    for (int64_t r = 1; r < rows; ++r) canvas.rule({box.x, y_of(r)}, {box.right(), y_of(r)}, white, 1);
  }
}

void print_values(Canvas& canvas, const HeatMap& chart, const Colors& colors, const Box& box) {
  const double step = std::pow(10.0, std::ceil(std::log10(colors.range.high - colors.range.low) - 0.2) - 2);
  double widest = 1e-9;
  for (const double value : chart.values) {
    if (!missing(value)) widest = std::max(widest, text_width(format_tick(value, step), 1));
  }
  const double width = box.width / static_cast<double>(chart.columns);
  const double height = box.height / static_cast<double>(chart.rows);
  const double size = std::min({tick_size, 0.84 * width / widest, 0.66 * height});
  if (size < 6) return;
  for (int64_t r = 0; r < chart.rows; ++r) {
    for (int64_t c = 0; c < chart.columns; ++c) {
      const double value = chart.values[static_cast<size_t>(r * chart.columns + c)];
      if (missing(value)) continue;
      canvas.text({box.x + (static_cast<double>(c) + 0.5) * width, box.y + (static_cast<double>(r) + 0.5) * height},
                  format_tick(value, step),
                  {.size = size,
                   .color = contrast_color(colors(value)),
                   .align = Align::center,
                   .vertical_align = VerticalAlign::middle});
    }
  }
}

void draw_color_bar(Canvas& canvas, const HeatMap& chart, const Colors& colors, Box bar) {
  const double text_x = bar.right() + tick_length + 4;
  if (std::any_of(chart.values.begin(), chart.values.end(), missing) && bar.height > 80) {
    const Box swatch{bar.x, canvas.snap(bar.bottom() - bar_width), bar.width, bar_width};
    hatch(canvas, swatch);
    canvas.text({text_x, swatch.y + bar_width / 2}, "NaN",
                {.size = tick_size, .color = soft_ink, .vertical_align = VerticalAlign::middle});
    bar.height -= bar_width + 12;
  }
  const int64_t pieces = std::max<int64_t>(1, std::llround(bar.height * canvas.scale()));
  const double top = canvas.snap(bar.y), one = 1 / canvas.scale();
  for (int64_t i = 0; i < pieces; ++i) {
    const double share = 1 - (static_cast<double>(i) + 0.5) / static_cast<double>(pieces);
    const double value = colors.range.low + share * (colors.range.high - colors.range.low);
    canvas.fill({bar.x, top + static_cast<double>(i) * one, bar.width, one}, colors(value));
  }
  for (const AxisTick& tick : fitting_ticks({colors.range}, bar.height, false)) {
    const double at = bar.bottom() - tick.position * bar.height;
    canvas.rule({bar.right(), at}, {bar.right() + tick_length, at}, frame_color, 1);
    canvas.text({text_x, at}, tick.label,
                {.size = tick_size, .color = soft_ink, .vertical_align = VerticalAlign::middle});
  }
}

double bar_label_width(const HeatMap& chart, const Colors& colors, double height) {
  const bool any_missing = std::any_of(chart.values.begin(), chart.values.end(), missing);
  return std::max(label_width(fitting_ticks({colors.range}, height, false)),
                  any_missing ? text_width("NaN", tick_size) : 0.0);
}

}  // namespace

void validate(const HeatMap& chart) {
  check(chart.width > 0 && chart.height > 0, "HeatMap \"{}\": width and height must be positive, got {} x {}",
        chart.title, chart.width, chart.height);
  check(chart.rows > 0 && chart.columns > 0, "HeatMap \"{}\": rows and columns must be positive, got {} x {}",
        chart.title, chart.rows, chart.columns);
  const auto fits = [](const auto& list, int64_t count) { return static_cast<int64_t>(list.size()) == count; };
  check(chart.rows <= (int64_t{1} << 40) / chart.columns && fits(chart.values, chart.rows * chart.columns),
        "HeatMap \"{}\": {} x {} cells need as many values, got {}", chart.title, chart.rows, chart.columns,
        chart.values.size());
  check(chart.row_labels.empty() || fits(chart.row_labels, chart.rows),
        "HeatMap \"{}\": needs one row label per row or none, got {} for {} rows", chart.title, chart.row_labels.size(),
        chart.rows);
  check(chart.column_labels.empty() || fits(chart.column_labels, chart.columns),
        "HeatMap \"{}\": needs one column label per column or none, got {} for {} columns", chart.title,
        chart.column_labels.size(), chart.columns);
  check(!missing(chart.center), "HeatMap \"{}\": center must be finite, got {}", chart.title, chart.center);
  make_axis({}, false, chart.range, 0, "HeatMap: range");
}

std::vector<LegendEntry> legend_of(const HeatMap&) { return {}; }

Margins margins_of(const HeatMap& chart, double width, double height) {
  const Box box = cells_box(chart, {0, 0, width, height});
  const CellTicks x = cell_ticks(chart.column_labels, chart.columns, box.width, true);
  const CellTicks y = cell_ticks(chart.row_labels, chart.rows, box.height, false);
  Margins margins = frame_margins(chart.title, chart.x_label, chart.y_label, x.ticks, y.ticks);
  if (x.upward) margins.bottom += x.drop - 0.72 * tick_size;
  if (chart.color_bar) {
    const double bar = bar_gap + bar_width + tick_length + 4 + bar_label_width(chart, Colors(chart), box.height);
    margins.right = std::max(margins.right, bar + 12 + (chart.color_label.empty() ? 0 : label_size + 8));
  }
  return margins;
}

void draw(Canvas& canvas, const HeatMap& chart, const Box& plot, const Margins& margins) {
  const Box shrunk = cells_box(chart, plot);
  const Box box{canvas.snap(shrunk.x), canvas.snap(shrunk.y), canvas.snap(shrunk.right()) - canvas.snap(shrunk.x),
                canvas.snap(shrunk.bottom()) - canvas.snap(shrunk.y)};
  const Colors colors(chart);
  const CellTicks x = cell_ticks(chart.column_labels, chart.columns, box.width, true);
  const CellTicks y = cell_ticks(chart.row_labels, chart.rows, box.height, false);
  draw_cells(canvas, chart, colors, box);
  if (chart.print_values) print_values(canvas, chart, colors, box);
  draw_frame(canvas, box, margins, chart.title, chart.x_label, chart.y_label, x.ticks, y.ticks,
             {.full = true, .upward_x = x.upward, .x_label_drop = x.drop});
  if (!chart.color_bar) return;
  const Box bar{canvas.snap(box.right() + bar_gap), box.y, bar_width, box.height};
  draw_color_bar(canvas, chart, colors, bar);
  if (!chart.color_label.empty()) {
    const double beside = bar.right() + tick_length + 4 + bar_label_width(chart, colors, box.height) + 6;
    canvas.text({beside + 0.72 * label_size, box.y + box.height / 2},
                fit_text(chart.color_label, label_size, box.height),
                {.size = label_size, .color = ink, .align = Align::center, .upward = true});
  }
}

}  // namespace moxie::train::plot_parts
