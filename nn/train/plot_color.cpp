// SPDX-License-Identifier: Apache-2.0
#include "nn/train/plot_color.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "core/check.h"

namespace moxie::train {
namespace {

double to_linear(uint8_t channel) {
  const double c = channel / 255.0;
  return c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
}

double from_linear(double c) { return c <= 0.0031308 ? 12.92 * c : 1.055 * std::pow(c, 1 / 2.4) - 0.055; }

uint8_t to_byte(double c) { return static_cast<uint8_t>(std::lround(std::clamp(c, 0.0, 1.0) * 255)); }

// Linear sRGB channels of an OKLab colour, possibly outside 0 .. 1.
std::array<double, 3> linear_rgb(Lab lab) {
  const double l = std::pow(lab.lightness + 0.3963377774 * lab.a + 0.2158037573 * lab.b, 3);
  const double m = std::pow(lab.lightness - 0.1055613458 * lab.a - 0.0638541728 * lab.b, 3);
  const double s = std::pow(lab.lightness - 0.0894841775 * lab.a - 1.2914855480 * lab.b, 3);
  return {4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
          -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
          -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
}

bool displayable(Lab lab) {
  const auto rgb = linear_rgb(lab);
  return std::all_of(rgb.begin(), rgb.end(), [](double c) { return c >= -1e-4 && c <= 1 + 1e-4; });
}

Lab polar(double lightness, double chroma, double degrees) {
  const double angle = degrees * std::numbers::pi / 180;
  return {lightness, chroma * std::cos(angle), chroma * std::sin(angle)};
}

double distance(Lab x, Lab y) {
  // Lightness counts less than hue: two bands of one hue are harder to name apart than two hues.
  const double l = 0.7 * (x.lightness - y.lightness), a = x.a - y.a, b = x.b - y.b;
  return std::sqrt(l * l + a * a + b * b);
}

constexpr int64_t palette_size = 64;
constexpr std::array<Color, 10> strong{{{46, 111, 183},
                                        {235, 131, 45},
                                        {52, 153, 87},
                                        {206, 61, 66},
                                        {132, 94, 188},
                                        {38, 175, 188},
                                        {222, 110, 176},
                                        {140, 96, 68},
                                        {183, 172, 46},
                                        {111, 119, 130}}};

// After the strong colours, always the candidate farthest from all colours chosen before.
std::vector<Color> make_palette() {
  std::vector<Color> colors(strong.begin(), strong.end());
  std::vector<Color> candidates;
  for (int lightness = 0; lightness < 5; ++lightness) {
    for (int chroma = 0; chroma < 3; ++chroma) {
      for (int hue = 0; hue < 30; ++hue) {
        const Lab lab = polar(0.40 + 0.10 * lightness, 0.06 + 0.055 * chroma, 12 * hue + 4 * lightness);
        if (displayable(lab)) candidates.push_back(to_color(lab));
      }
    }
  }
  while (static_cast<int64_t>(colors.size()) < palette_size) {
    Color best = candidates.front();
    double best_distance = -1;
    for (const Color candidate : candidates) {
      double nearest = 1e9;
      for (const Color color : colors) nearest = std::min(nearest, distance(to_lab(candidate), to_lab(color)));
      if (nearest > best_distance) best = candidate, best_distance = nearest;
    }
    colors.push_back(best);
  }
  return colors;
}

constexpr int map_size = 512;
using ColorMap = std::array<Color, map_size>;

// A smooth curve through five colours, cut into pieces of equal perceptual length.
ColorMap make_sequential() {
  const std::array<Lab, 5> stops{polar(0.26, 0.125, 300), polar(0.42, 0.115, 268), polar(0.58, 0.10, 205),
                                 polar(0.745, 0.155, 155), polar(0.915, 0.185, 106)};
  const auto at = [&](double t) {  // Catmull-Rom spline
    const int i = std::min(3, static_cast<int>(t * 4));
    const double u = t * 4 - i;
    const auto stop = [&](int k) {
      if (k < 0)
        return Lab{2 * stops[0].lightness - stops[1].lightness, 2 * stops[0].a - stops[1].a,
                   2 * stops[0].b - stops[1].b};
      if (k > 4)
        return Lab{2 * stops[4].lightness - stops[3].lightness, 2 * stops[4].a - stops[3].a,
                   2 * stops[4].b - stops[3].b};
      return stops[static_cast<size_t>(k)];
    };
    const auto blend = [&](double p, double q, double r, double s) {
      return q + 0.5 * u * (r - p + u * (2 * p - 5 * q + 4 * r - s + u * (3 * (q - r) + s - p)));
    };
    const Lab p = stop(i - 1), q = stop(i), r = stop(i + 1), s = stop(i + 2);
    return Lab{blend(p.lightness, q.lightness, r.lightness, s.lightness), blend(p.a, q.a, r.a, s.a),
               blend(p.b, q.b, r.b, s.b)};
  };
  constexpr int samples = 4096;
  std::vector<double> length(samples + 1, 0);
  for (int i = 1; i <= samples; ++i) {
    const Lab x = at((i - 1.0) / samples), y = at(static_cast<double>(i) / samples);
    length[static_cast<size_t>(i)] =
        length[static_cast<size_t>(i - 1)] + std::hypot(x.lightness - y.lightness, x.a - y.a, x.b - y.b);
  }
  ColorMap map;
  for (int i = 0; i < map_size; ++i) {
    const double wanted = length.back() * i / (map_size - 1);
    const auto found = std::lower_bound(length.begin(), length.end(), wanted) - length.begin();
    map[static_cast<size_t>(i)] = to_color(at(std::min(1.0, static_cast<double>(found) / samples)));
  }
  return map;
}

ColorMap make_diverging() {
  ColorMap map;
  for (int i = 0; i < map_size; ++i) {
    const double t = 2.0 * i / (map_size - 1) - 1, strength = std::abs(t);
    const double lightness = 0.972 - 0.56 * strength;
    const double chroma = 0.175 * std::pow(std::sin(std::min(strength, 0.9) / 0.9 * std::numbers::pi / 2), 1.15);
    map[static_cast<size_t>(i)] = to_color(polar(lightness, chroma, t < 0 ? 255 : 27));
  }
  return map;
}

Color look_up(const ColorMap& map, double t) {
  const double clamped = t >= 0 ? std::min(t, 1.0) : 0.0;  // NaN too
  return map[static_cast<size_t>(std::lround(clamped * (map_size - 1)))];
}

}  // namespace

Lab to_lab(Color color) {
  const double r = to_linear(color.red), g = to_linear(color.green), b = to_linear(color.blue);
  const double l = std::cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const double m = std::cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const double s = std::cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return {0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
          1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
          0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s};
}

Color rgb(double red, double green, double blue) {
  // written so that NaN gives 0
  const auto byte = [](double share) {
    return static_cast<uint8_t>(std::lround(255 * (share > 0 ? std::min(share, 1.0) : 0.0)));
  };
  return {byte(red), byte(green), byte(blue)};
}

Color to_color(Lab lab) {
  double keep = 1;
  if (!displayable(lab)) {
    double low = 0, high = 1;
    for (int step = 0; step < 20; ++step) {
      const double middle = 0.5 * (low + high);
      (displayable({lab.lightness, lab.a * middle, lab.b * middle}) ? low : high) = middle;
    }
    keep = low;
  }
  const auto rgb = linear_rgb({lab.lightness, lab.a * keep, lab.b * keep});
  return {to_byte(from_linear(rgb[0])), to_byte(from_linear(rgb[1])), to_byte(from_linear(rgb[2]))};
}

Color palette(int64_t index) {
  check(index >= 0, "palette: index must not be negative, got {}", index);
  static const std::vector<Color> colors = make_palette();
  return colors[static_cast<size_t>(index % palette_size)];
}

Color distinct_color(int64_t index) {
  constexpr std::array<Color, 8> colors{{{0, 114, 178},
                                         {230, 159, 0},
                                         {0, 158, 115},
                                         {213, 94, 0},
                                         {204, 121, 167},
                                         {86, 180, 233},
                                         {240, 228, 66},
                                         {0, 0, 0}}};
  check(index >= 0 && index < static_cast<int64_t>(colors.size()), "distinct_color: there are {}, got index {}",
        colors.size(), index);
  return colors[static_cast<size_t>(index)];
}

Color sequential_color(double t) {
  static const ColorMap map = make_sequential();
  return look_up(map, t);
}

Color diverging_color(double t) {
  static const ColorMap map = make_diverging();
  return look_up(map, t);
}

Color mix(Color from, Color to, double amount) {
  const auto channel = [amount](uint8_t x, uint8_t y) { return to_byte((x + (y - x) * amount) / 255); };
  return {channel(from.red, to.red), channel(from.green, to.green), channel(from.blue, to.blue)};
}

Color contrast_color(Color background) {
  return to_lab(background).lightness < 0.66 ? Color{255, 255, 255} : Color{20, 22, 26};
}

}  // namespace moxie::train
