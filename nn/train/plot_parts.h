// SPDX-License-Identifier: Apache-2.0
// What the charts have in common: sizes, the frame with its ticks and titles, legends. Used by the plot sources only.
#pragma once
#include <string>
#include <vector>

#include "nn/train/plot.h"

namespace moxie::train::plot_parts {

inline constexpr Color white{255, 255, 255}, ink{38, 42, 48}, soft_ink{74, 80, 89}, frame_color{120, 126, 135},
    grid_color{231, 233, 237}, minor_grid_color{245, 246, 248}, missing_color{226, 228, 232};
inline constexpr double figure_title_size = 15, title_size = 12.5, label_size = 11, tick_size = 10, legend_size = 10,
                        tick_length = 3.5, legend_row = 15.5;

// Space around the plot area for labels, titles and legends.
struct Margins {
  double left = 0, right = 0, top = 0, bottom = 0;
  bool legend_beside = false;  // the legend found no place inside
};

struct LegendEntry {
  std::string name{};
  Color color{};
  bool dashed = false, dots = false;
  bool line = true;  // otherwise a dot or, without dots, a filled square
  friend bool operator==(const LegendEntry&, const LegendEntry&) = default;
};

// A vertical axis on the left or a horizontal one below: ticks with positions in 0 .. 1 along it.
struct AxisTick {
  double position;
  std::string label;
  bool minor = false;
};

// As many labelled ticks as fit on `length` points without their labels touching.
std::vector<AxisTick> fitting_ticks(const Axis& axis, double length, bool horizontal);

// Widest label.
double label_width(const std::vector<AxisTick>& ticks);

// Margins of a chart with these ticks on the left and, upright, below.
Margins frame_margins(const std::string& title, const std::string& x_label, const std::string& y_label,
                      const std::vector<AxisTick>& x, const std::vector<AxisTick>& y);

void draw_grid(Canvas& canvas, const Box& plot, const std::vector<AxisTick>& x, const std::vector<AxisTick>& y);

struct FrameStyle {
  bool full = false;  // four sides instead of the left and the lower one
  bool tick_marks = true;
  bool upward_x = false;    // labels below turned by 90 degrees
  double x_label_drop = 0;  // height of the tick labels below, 0 for upright ones
};

// Sides, ticks, labels and title around the plot area.
void draw_frame(Canvas& canvas, const Box& plot, const Margins& margins, const std::string& title,
                const std::string& x_label, const std::string& y_label, const std::vector<AxisTick>& x,
                const std::vector<AxisTick>& y, const FrameStyle& style = {});

// Size of a legend with the entries below each other in `columns` columns.
Box legend_size_of(const std::vector<LegendEntry>& entries, int columns = 1);

// Draws a legend with its upper left corner at (x, y); `framed` on a white card.
void draw_legend(Canvas& canvas, double x, double y, const std::vector<LegendEntry>& entries, int columns, bool framed);

// For each kind of chart: its margins, given the size of its plot area; its legend; and the chart itself.
Margins margins_of(const LineChart& chart, double width, double height);
Margins margins_of(const HeatMap& chart, double width, double height);
Margins margins_of(const StackedArea& chart, double width, double height);
Margins margins_of(const Image& chart, double width, double height);
Margins margins_of(const Diagram& chart, double width, double height);
std::vector<LegendEntry> legend_of(const LineChart& chart);
std::vector<LegendEntry> legend_of(const HeatMap& chart);
std::vector<LegendEntry> legend_of(const StackedArea& chart);
std::vector<LegendEntry> legend_of(const Image& chart);
std::vector<LegendEntry> legend_of(const Diagram& chart);
void draw(Canvas& canvas, const LineChart& chart, const Box& plot, const Margins& margins);
void draw(Canvas& canvas, const HeatMap& chart, const Box& plot, const Margins& margins);
void draw(Canvas& canvas, const StackedArea& chart, const Box& plot, const Margins& margins);
void draw(Canvas& canvas, const Image& chart, const Box& plot, const Margins& margins);
void draw(Canvas& canvas, const Diagram& chart, const Box& plot, const Margins& margins);

// Throws std::invalid_argument where the chart breaks a rule of plot.h.
void validate(const LineChart& chart);
void validate(const HeatMap& chart);
void validate(const StackedArea& chart);
void validate(const Image& chart);
void validate(const Diagram& chart);

// Points of a curve in a row, in points of the canvas.
using Run = std::vector<Point>;

// The unbroken pieces of a curve.
std::vector<Run> runs(const Series& series, const Axis& x, const Axis& y, const Box& plot);

// Leaves of successive points in one narrow column only the first, lowest, highest and last: the picture is the same,
// and drawn quickly for any number of points.
Run thinned(const Run& run);

// Draws the series, cut off at the border of the plot area; `halo` puts a white rim around them, over images.
void draw_series(Canvas& canvas, const std::vector<Series>& series, const Axis& x, const Axis& y, const Box& plot,
                 bool halo);

// The series that have a name.
std::vector<LegendEntry> legend_of(const std::vector<Series>& series);

// Throws std::invalid_argument where a series breaks a rule; `kind` and `title` are the chart's.
void validate(const std::vector<Series>& series, const char* kind, const std::string& title);

// The finite values' range; 0 .. 1 where there are none, and wider than a point.
Range finite_range(const std::vector<double>& values);

}  // namespace moxie::train::plot_parts
