// SPDX-License-Identifier: Apache-2.0
// moxie's own stroke font: every glyph is a set of centre lines that the canvas draws with round ends.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace moxie::train {

// A position: on a canvas in points, x to the right and y down.
struct Point {
  double x = 0, y = 0;
};

// One polyline of a glyph; a single point is a round dot, `weight` times as wide as the other strokes.
struct Stroke {
  std::vector<Point> points;
  double weight = 1;
};

namespace font {

// Measures as a share of the font size, between the centre lines of strokes.
inline constexpr double cap_height = 0.64, x_height = 0.46, descender = 0.195;

// Width of a stroke as a share of the font size.
constexpr double stroke_width(bool bold) { return bold ? 0.118 : 0.083; }

}  // namespace font

// Width of UTF-8 text in the unit of `size`; text of no characters has width 0.
double text_width(std::string_view text, double size, bool bold = false);

// Strokes of UTF-8 text, one unit = the font size: x from 0 to the right along the baseline, y up, baseline at 0.
// Covers printable ASCII, the Greek letters and signs usual in formulas, and superscript and subscript digits. Any
// other character, and a byte that is not UTF-8, is a box.
std::vector<Stroke> text_strokes(std::string_view text, bool bold = false);

// The text, or its beginning followed by an ellipsis, so that it is at most `width` wide.
std::string fit_text(std::string_view text, double size, double width, bool bold = false);

}  // namespace moxie::train
