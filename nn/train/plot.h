// SPDX-License-Identifier: Apache-2.0
// Pictures of training runs: line charts, heat maps, stacked areas, images, diagrams, and figures of several of them,
// saved as PNG.
//
// A chart is a plain struct; fill in what is known, the rest has good defaults. Sizes are in points of 2 pixels.
// The same input gives the same bytes. Text is UTF-8; plot_font.h says which characters are drawn.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "autograd/tensor.h"
#include "nn/train/plot_axis.h"
#include "nn/train/plot_canvas.h"
#include "nn/train/plot_color.h"

namespace moxie::train {

// One curve. x and y have the same length; a NaN or infinite value breaks the curve, and so does a value that is not
// positive on a logarithmic axis. A point without neighbours is drawn as a dot. No points at all are fine.
struct Series {
  std::string name{};  // in the legend; empty: not in the legend
  std::vector<double> x{}, y{};
  bool dashed = false;
  std::optional<Color> color{};  // default: the palette, by position
  double width = 1.6;            // of the line, in points
  double opacity = 1;            // e.g. 0.3 for noisy values behind their average
  bool dots = false;             // a dot at each point, too
  bool line = true;              // off: dots alone, 1.5 `width` in radius: a scatter plot
  bool arrow = false;            // a head at the last point: two points are an arrow
};

// A dashed horizontal line over the whole width, e.g. the loss of a uniform guess.
struct ReferenceLine {
  double y = 0;
  std::string label{};
  Color color{90, 96, 105};
};

// Curves over a common axis.
struct LineChart {
  std::string title{}, x_label{}, y_label{};
  double width = 600, height = 380;
  bool log_x = false, log_y = false;
  std::optional<Range> x_range{}, y_range{};  // default: all values; what lies outside a given range is cut off
  std::vector<Series> series{};
  std::vector<ReferenceLine> references{};
  bool legend = true;  // drawn where it covers no data, beside the chart where there is no such place
};

enum class ColorMap {
  sequential,  // dark to bright, for amounts
  diverging,   // blue below `center`, red above
};

// A matrix as coloured cells, row 0 at the top. NaN cells are grey and hatched.
struct HeatMap {
  std::string title{}, x_label{}, y_label{};
  double width = 520, height = 420;
  int64_t rows = 0, columns = 0;
  std::vector<double> values{};                            // [rows, columns], row-major
  std::vector<std::string> row_labels{}, column_labels{};  // one per row or column; empty: numbers from 0. Thinned out
                                                           // where they do not all fit
  ColorMap color_map = ColorMap::sequential;
  std::optional<Range> range{};  // of the colours, values outside get the end colours; default: all finite values
  double center = 0;             // of a diverging map, whose colours reach equally far to both sides
  bool color_bar = true;
  std::string color_label{};  // beside the colour bar
  bool square = false;        // cells as high as wide, for matrices
  bool print_values = false;  // writes the value into each cell if it fits
};

// A share of the whole over time.
struct Band {
  std::string name{};
  std::vector<double> values{};  // one per x, not negative; NaN or infinity in any band leaves a gap there
  std::optional<Color> color{};  // default: the palette, by position
};

// Bands on top of each other, the first at the bottom.
struct StackedArea {
  std::string title{}, x_label{}, y_label{};
  double width = 600, height = 380;
  std::vector<double> x{};  // finite, ascending
  std::vector<Band> bands{};
  bool normalize = true;  // each x adds up to 100 %; points whose values are all 0 are gaps
  bool legend = true;
};

// A word at a place, centred.
struct Label {
  double x = 0, y = 0;
  std::string text{};
  Color color{38, 42, 48};
};

// What a colour of an image stands for.
struct ColorName {
  std::string name{};
  Color color{};
};

// A picture made of pixels, with curves, dots and words over it: what a model has painted, what a classifier says about
// each point of a plane. It keeps its proportions: those of the ranges where both are given, otherwise those of the
// pixels. One white pixel with ranges is an empty plane to draw on.
struct Image {
  std::string title{}, x_label{}, y_label{};
  double width = 360, height = 360;
  int64_t rows = 0, columns = 0;
  std::vector<Color> pixels{};                // [rows, columns], row 0 at the top
  std::optional<Range> x_range{}, y_range{};  // what the picture spans, shown by ticks; without: x from 0 to columns,
                                              // y from 0 at the lower border to rows, and no ticks
  std::vector<Series> series{};               // what lies outside the picture is cut off
  std::vector<Label> labels{};
  std::vector<ColorName> colors{};  // for the legend, which names the series too
  bool legend = true;               // beside the picture
};

// x and y of the centre of each pixel, row by row, [rows * columns, 2]: what a model is asked to colour an image by its
// answers. `pixels` may still be empty. Throws std::invalid_argument unless rows and columns are positive.
std::vector<float> pixel_centers(const Image& image);

// A box of a diagram: a name and lines of smaller text below it.
struct DiagramBox {
  std::string name{};
  std::vector<std::string> lines{};
  Color color{46, 111, 183};
};

// An arrow between two boxes, by their numbers from 0.
struct Arrow {
  int64_t from = 0, to = 0;
};

// Boxes joined by arrows that all point to the right. A box stands one column behind the last of those that point to
// it, or before the first that it points to where nothing points to it; the first arrow into a box is straight where
// there is room, the others come from below. A loop of arrows is an error.
struct Diagram {
  std::string title{};
  double width = 760, height = 240;
  std::vector<DiagramBox> boxes{};
  std::vector<Arrow> arrows{};
};

// The graph that `root` was computed by: a box for each op with the shape that it made and the bytes that it keeps for
// backward, one for each leaf and each constant; as large as its text needs. Call it before backward() uses the graph
// up.
Diagram diagram_of(const Tensor& root);

using Chart = std::variant<LineChart, HeatMap, StackedArea, Image, Diagram>;

// Charts in a grid, their axes aligned, row by row from the upper left. The widest chart sets the width of its column,
// the highest the height of its row.
struct Figure {
  std::string title{};
  int columns = 0;  // default: as square a grid as possible
  std::vector<Chart> charts{};
  double scale = 2;           // pixels per point
  bool share_legend = false;  // one legend below all charts, of all entries that differ, in place of one in each
  bool share_colors = false;  // heat maps of one colour map get one range, and one colour bar per row of the grid
};

// Draws a figure or a single chart. Throws std::invalid_argument for sizes that are not
// positive, vectors of lengths that do not fit, negative shares, x not ascending, bad ranges, arrows that lead nowhere
// or in a circle, and a figure without charts.
Canvas render(const Figure& figure);
Canvas render(const Chart& chart, double scale = 2);

// Draws and writes a PNG file: to `path` + ".tmp", then renamed. Throws as render, and std::runtime_error with the path
// where writing fails.
void save_png(const Figure& figure, const std::filesystem::path& path);
void save_png(const Chart& chart, const std::filesystem::path& path, double scale = 2);

}  // namespace moxie::train
