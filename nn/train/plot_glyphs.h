// SPDX-License-Identifier: Apache-2.0
// The table of glyphs behind plot_font.h.
#pragma once
#include <cstdint>
#include <span>

namespace moxie::train {

// A drawn character. Units: 1/1000 of the font size, y up, baseline at 0. The path's x runs from 0 to `width`;
// `left` and `right` are the space beside it. Path commands, numbers separated by spaces:
//   M x y              start a stroke          L x y                     straight line
//   C x y x y x y      cubic Bezier curve      D x y                     dot
//   A cx cy rx ry a b  line to and along an arc from angle a to b (degrees, counter-clockwise)
//   B cx cy rx ry a b  the same as a new stroke
struct Glyph {
  char32_t code;
  int16_t left, width, right;
  const char* path;
};

// All glyphs, in ascending order of code.
std::span<const Glyph> glyphs();

}  // namespace moxie::train
