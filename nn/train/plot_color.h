// SPDX-License-Identifier: Apache-2.0
// Colours of plots: a palette for many experts and two colour maps, computed in the perceptual OKLab space.
#pragma once
#include <cstdint>

namespace moxie::train {

// An sRGB colour.
struct Color {
  uint8_t red = 0, green = 0, blue = 0;
  friend bool operator==(const Color&, const Color&) = default;
};

// The colour of these shares of red, green and blue, 0 to 1 each (clamped; NaN counts as 0).
Color rgb(double red, double green, double blue);

// A colour in OKLab: equal distances look about equally different.
struct Lab {
  double lightness = 0, a = 0, b = 0;  // lightness from 0 (black) to 1 (white)
};

Lab to_lab(Color color);

// The sRGB colour nearest in hue and lightness: chroma outside sRGB is reduced.
Color to_color(Lab lab);

// Colour `index` of the palette: ten strong colours, then generated ones, each as different as possible from all before
// it, 64 in all; then they repeat. Throws std::invalid_argument for a negative index.
Color palette(int64_t index);

// One of eight colours that can be told apart with any kind of colour vision (Okabe and Ito, 2008): blue, orange,
// green, red, purple, sky blue, yellow, black. Throws std::invalid_argument for an index outside 0 .. 7.
Color distinct_color(int64_t index);

// Colour map from dark violet over blue and green to yellow, for t from 0 to 1 (clamped). Perceptually uniform.
Color sequential_color(double t);

// Colour map from blue over near white (t = 0.5) to red, for t from 0 to 1 (clamped).
Color diverging_color(double t);

// Mixes two colours: amount 0 gives `from`, 1 gives `to`.
Color mix(Color from, Color to, double amount);

// Black or white, whichever reads better on the colour.
Color contrast_color(Color background);

}  // namespace moxie::train
