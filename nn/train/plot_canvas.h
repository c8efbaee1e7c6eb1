// SPDX-License-Identifier: Apache-2.0
// A picture in memory to draw on: anti-aliased lines, rectangles and text, saved as PNG.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "nn/train/plot_color.h"
#include "nn/train/plot_font.h"

namespace moxie::train {

// A rectangle; (x, y) is its upper left corner.
struct Box {
  double x = 0, y = 0, width = 0, height = 0;
  double right() const { return x + width; }
  double bottom() const { return y + height; }
};

struct LineStyle {
  Color color{};
  double width = 1;    // in points
  double opacity = 1;  // 0 .. 1
  bool dashed = false;
  std::optional<Box> clip{};  // nothing is drawn outside
};

enum class Align { left, center, right };            // what of the text lies at the given x
enum class VerticalAlign { baseline, top, middle };  // and at the given y

struct TextStyle {
  double size = 10;  // font size in points
  Color color{38, 42, 48};
  Align align = Align::left;
  VerticalAlign vertical_align = VerticalAlign::baseline;
  bool bold = false;
  bool upward = false;  // turned by 90 degrees, reading from the bottom to the top
};

// Coordinates are in points, x to the right and y down from the upper left corner; one point is `scale` pixels.
class Canvas final {
 public:
  // An empty canvas of width x height points. Throws std::invalid_argument unless both are positive, the scale is
  // between 0.25 and 8 and there are at most 32768 pixels on a side.
  Canvas(double width, double height, double scale = 2, Color background = {255, 255, 255});

  // Size in pixels.
  int64_t pixel_width() const { return width_; }
  int64_t pixel_height() const { return height_; }
  double scale() const { return scale_; }

  // Pixel (x, y), counted from the upper left; throws std::invalid_argument outside the canvas.
  Color pixel(int64_t x, int64_t y) const;

  // All pixels, [pixel_height, pixel_width, 3].
  std::span<const uint8_t> pixels() const { return rgb_; }

  // The coordinate of the nearest pixel border: rectangles between such coordinates have sharp edges.
  double snap(double coordinate) const;

  // Fills a rectangle; borders inside a pixel are blended.
  void fill(Box box, Color color, double opacity = 1);

  // A sharp horizontal or vertical line of whole pixels, at least one wide, between two points.
  void rule(Point from, Point to, Color color, double width = 1, double opacity = 1);

  // A line through the points with round ends and joints; one point gives a dot. Coordinates must be finite.
  void line(std::span<const Point> points, const LineStyle& style);

  // A filled circle.
  void dot(Point center, double radius, Color color, double opacity = 1);

  // One line of UTF-8 text; see text_strokes for the characters. `at` is where `style` aligns it.
  void text(Point at, std::string_view text, const TextStyle& style = {});

  // Writes the canvas as PNG; see write_png for errors.
  void save_png(const std::filesystem::path& path) const;

 private:
  class Mask;
  void blend(int64_t x, int64_t y, Color color, double amount);
  void paint(const Mask& mask, Color color, double opacity);

  int64_t width_, height_;
  double scale_;
  std::vector<uint8_t> rgb_;
};

}  // namespace moxie::train
