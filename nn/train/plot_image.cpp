// SPDX-License-Identifier: Apache-2.0
// Pictures made of pixels, with curves, dots and words over them.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/check.h"
#include "nn/train/plot_parts.h"

namespace moxie::train {
namespace plot_parts {
namespace {

Axis x_axis(const Image& chart) { return {chart.x_range.value_or(Range{0, static_cast<double>(chart.columns)})}; }
Axis y_axis(const Image& chart) { return {chart.y_range.value_or(Range{0, static_cast<double>(chart.rows)})}; }

std::vector<AxisTick> ticks_of(const std::optional<Range>& range, double length, bool horizontal) {
  return range ? fitting_ticks({*range}, length, horizontal) : std::vector<AxisTick>{};
}

// The largest box of the picture's proportions in the middle of the plot area.
Box picture_box(const Image& chart, const Box& plot) {
  double across = static_cast<double>(chart.columns), up = static_cast<double>(chart.rows);
  if (chart.x_range && chart.y_range) {
    across = chart.x_range->high - chart.x_range->low;
    up = chart.y_range->high - chart.y_range->low;
  }
  const double unit = std::min(plot.width / across, plot.height / up);
  return {plot.x + (plot.width - unit * across) / 2, plot.y + (plot.height - unit * up) / 2, unit * across, unit * up};
}

// Mean of the pixels in rows r0 .. r1 and columns c0 .. c1.
Color mean(const Image& chart, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
  const Color& first = chart.pixels[static_cast<size_t>(r0 * chart.columns + c0)];
  if (r1 - r0 == 1 && c1 - c0 == 1) return first;
  double red = 0, green = 0, blue = 0;
  for (int64_t r = r0; r < r1; ++r) {
    for (int64_t c = c0; c < c1; ++c) {
      const Color& pixel = chart.pixels[static_cast<size_t>(r * chart.columns + c)];
      red += pixel.red, green += pixel.green, blue += pixel.blue;
    }
  }
  const double all = 255.0 * static_cast<double>((r1 - r0) * (c1 - c0));
  return rgb(red / all, green / all, blue / all);
}

void draw_pixels(Canvas& canvas, const Image& chart, const Box& box) {
  // where there are more pixels than the canvas has, one of its pixels shows the mean of several
  const auto pieces = [&](int64_t count, double length) {
    return std::min(count, std::max<int64_t>(1, std::llround(length * canvas.scale())));
  };
  const int64_t rows = pieces(chart.rows, box.height), columns = pieces(chart.columns, box.width);
  const auto share = [](int64_t i, int64_t count) { return static_cast<double>(i) / static_cast<double>(count); };
  for (int64_t r = 0; r < rows; ++r) {
    const double top = canvas.snap(box.y + box.height * share(r, rows));
    const double bottom = canvas.snap(box.y + box.height * share(r + 1, rows));
    for (int64_t c = 0; c < columns; ++c) {
      const double left = canvas.snap(box.x + box.width * share(c, columns));
      const double right = canvas.snap(box.x + box.width * share(c + 1, columns));
      canvas.fill({left, top, right - left, bottom - top},
                  mean(chart, r * chart.rows / rows, (r + 1) * chart.rows / rows, c * chart.columns / columns,
                       (c + 1) * chart.columns / columns));
    }
  }
}

}  // namespace

void validate(const Image& chart) {
  check(chart.width > 0 && chart.height > 0, "Image \"{}\": width and height must be positive, got {} x {}",
        chart.title, chart.width, chart.height);
  check(chart.rows > 0 && chart.columns > 0, "Image \"{}\": rows and columns must be positive, got {} x {}",
        chart.title, chart.rows, chart.columns);
  check(chart.rows <= (int64_t{1} << 40) / chart.columns &&
            static_cast<int64_t>(chart.pixels.size()) == chart.rows * chart.columns,
        "Image \"{}\": {} x {} needs as many pixels, got {}", chart.title, chart.rows, chart.columns,
        chart.pixels.size());
  make_axis({}, false, chart.x_range, 0, "Image: x_range");
  make_axis({}, false, chart.y_range, 0, "Image: y_range");
  validate(chart.series, "Image", chart.title);
  for (const Label& label : chart.labels) {
    check(std::isfinite(label.x) && std::isfinite(label.y), "Image \"{}\": label \"{}\" needs a place, got ({}, {})",
          chart.title, label.text, label.x, label.y);
  }
}

std::vector<LegendEntry> legend_of(const Image& chart) {
  std::vector<LegendEntry> entries;
  for (const ColorName& named : chart.colors) {
    entries.push_back({.name = named.name, .color = named.color, .line = false});
  }
  for (LegendEntry& entry : legend_of(chart.series)) entries.push_back(std::move(entry));
  return entries;
}

Margins margins_of(const Image& chart, double width, double height) {
  const Box box = picture_box(chart, {0, 0, width, height});
  Margins margins = frame_margins(chart.title, chart.x_label, chart.y_label, ticks_of(chart.x_range, box.width, true),
                                  ticks_of(chart.y_range, box.height, false));
  if (!chart.x_range) margins.bottom -= tick_length + 4 + 0.72 * tick_size;
  if (!chart.y_range) margins.left -= tick_length + 4;
  const auto entries = legend_of(chart);
  if (chart.legend && !entries.empty()) {
    margins.legend_beside = true;
    margins.right = std::max(margins.right, legend_size_of(entries).width + 12);
  }
  return margins;
}

void draw(Canvas& canvas, const Image& chart, const Box& plot, const Margins& margins) {
  const Box shrunk = picture_box(chart, plot);
  const Box box{canvas.snap(shrunk.x), canvas.snap(shrunk.y), canvas.snap(shrunk.right()) - canvas.snap(shrunk.x),
                canvas.snap(shrunk.bottom()) - canvas.snap(shrunk.y)};
  const Axis x = x_axis(chart), y = y_axis(chart);
  draw_pixels(canvas, chart, box);
  draw_series(canvas, chart.series, x, y, box, true);
  for (const Label& label : chart.labels) {
    const Point at{box.x + x.position(label.x) * box.width, box.bottom() - y.position(label.y) * box.height};
    const double half = 0.5 * text_width(label.text, tick_size, true) + 2.5, high = 0.5 * tick_size + 1.5;
    if (!(at.x >= box.x && at.x <= box.right() && at.y >= box.y && at.y <= box.bottom())) continue;
    canvas.fill({at.x - half, at.y - high, 2 * half, 2 * high}, white, 0.8);
    canvas.text(at, label.text,
                {.size = tick_size,
                 .color = label.color,
                 .align = Align::center,
                 .vertical_align = VerticalAlign::middle,
                 .bold = true});
  }
  draw_frame(canvas, box, margins, chart.title, chart.x_label, chart.y_label, ticks_of(chart.x_range, box.width, true),
             ticks_of(chart.y_range, box.height, false), {.full = true});
  const auto entries = legend_of(chart);
  if (chart.legend && !entries.empty()) draw_legend(canvas, box.right() + 6, box.y - 4, entries, 1, false);
}

}  // namespace plot_parts

std::vector<float> pixel_centers(const Image& image) {
  check(image.rows > 0 && image.columns > 0, "pixel_centers: rows and columns must be positive, got {} x {}",
        image.rows, image.columns);
  const Range x = plot_parts::x_axis(image).range, y = plot_parts::y_axis(image).range;
  const auto at = [](const Range& range, int64_t i, int64_t count) {
    const double share = (static_cast<double>(i) + 0.5) / static_cast<double>(count);
    return static_cast<float>(range.low + share * (range.high - range.low));
  };
  std::vector<float> centers;
  for (int64_t row = 0; row < image.rows; ++row) {
    for (int64_t column = 0; column < image.columns; ++column) {
      centers.push_back(at(x, column, image.columns));
      centers.push_back(at(y, image.rows - 1 - row, image.rows));  // y goes up
    }
  }
  return centers;
}

}  // namespace moxie::train
