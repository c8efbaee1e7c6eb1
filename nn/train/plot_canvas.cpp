// SPDX-License-Identifier: Apache-2.0
#include "nn/train/plot_canvas.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/check.h"
#include "nn/train/plot_png.h"

namespace moxie::train {
namespace {

constexpr double max_side = 32768;
constexpr double farthest = 1e300;  // differences of coordinates up to here are finite

// Cuts the segment a-b to the box; false where nothing is left.
bool clip_segment(Point& a, Point& b, const Box& box) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  double from = 0, to = 1;
  const std::array<std::array<double, 2>, 4> edges{
      {{-dx, a.x - box.x}, {dx, box.right() - a.x}, {-dy, a.y - box.y}, {dy, box.bottom() - a.y}}};
  for (const auto& [direction, room] : edges) {
    if (direction == 0) {
      if (room < 0) return false;
    } else if (direction < 0) {
      from = std::max(from, room / direction);
    } else {
      to = std::min(to, room / direction);
    }
  }
  if (from > to) return false;
  const Point start = a;
  // clamped, since far away ends leave few correct digits
  const auto at = [&](double t) {
    return Point{std::clamp(start.x + t * dx, box.x, box.right()), std::clamp(start.y + t * dy, box.y, box.bottom())};
  };
  b = at(to);
  a = at(from);
  return true;
}

}  // namespace

// Coverage of a set of strokes: the maximum over all of them, so that joints and crossings are not drawn twice.
class Canvas::Mask final {
 public:
  // Pixels from (left, top) to before (right, bottom).
  Mask(int64_t left, int64_t top, int64_t right, int64_t bottom)
      : x0(left),
        y0(top),
        x1(std::max(left, right)),
        y1(std::max(top, bottom)),
        coverage_(static_cast<size_t>((x1 - x0) * (y1 - y0)), 0.0f) {}

  // Adds the segment a-b, in pixels, with round ends.
  void add(Point a, Point b, double width) {
    const double radius = 0.5 * std::max(width, 1.0), strength = std::min(width, 1.0), reach = radius + 0.5;
    const double dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
    const int64_t left = std::max(x0, pixel(std::min(a.x, b.x) - reach)),
                  right = std::min(x1, pixel(std::max(a.x, b.x) + reach) + 1);
    const int64_t top = std::max(y0, pixel(std::min(a.y, b.y) - reach)),
                  bottom = std::min(y1, pixel(std::max(a.y, b.y) + reach) + 1);
    for (int64_t y = top; y < bottom; ++y) {
      const std::span<float> row = std::span(coverage_).subspan(static_cast<size_t>((y - y0) * (x1 - x0)));
      for (int64_t x = left; x < right; ++x) {
        const double px = static_cast<double>(x) + 0.5 - a.x, py = static_cast<double>(y) + 0.5 - a.y;
        const double t = length2 > 0 ? std::clamp((px * dx + py * dy) / length2, 0.0, 1.0) : 0.0;
        const double ex = px - t * dx, ey = py - t * dy, distance2 = ex * ex + ey * ey;
        if (distance2 >= reach * reach) continue;
        const double cover = strength * std::min(1.0, reach - std::sqrt(distance2));
        float& stored = row[static_cast<size_t>(x - x0)];
        stored = std::max(stored, static_cast<float>(cover));
      }
    }
  }

  float at(int64_t x, int64_t y) const { return coverage_[static_cast<size_t>((y - y0) * (x1 - x0) + x - x0)]; }

  const int64_t x0, y0, x1, y1;

 private:
  static int64_t pixel(double coordinate) {
    return static_cast<int64_t>(std::floor(std::clamp(coordinate, -2 * max_side, 2 * max_side)));
  }

  std::vector<float> coverage_;
};

Canvas::Canvas(double width, double height, double scale, Color background) : width_(0), height_(0), scale_(scale) {
  check(scale >= 0.25 && scale <= 8, "Canvas: scale must be between 0.25 and 8, got {}", scale);
  check(width > 0 && height > 0 && width * scale <= max_side && height * scale <= max_side,
        "Canvas: width and height must be positive and at most {} pixels, got {} x {} points at scale {}", max_side,
        width, height, scale);
  width_ = std::max<int64_t>(1, std::llround(width * scale));
  height_ = std::max<int64_t>(1, std::llround(height * scale));
  rgb_.resize(static_cast<size_t>(width_ * height_ * 3));
  for (size_t i = 0; i < rgb_.size(); i += 3) {
    rgb_[i] = background.red, rgb_[i + 1] = background.green, rgb_[i + 2] = background.blue;
  }
}

Color Canvas::pixel(int64_t x, int64_t y) const {
  check(x >= 0 && y >= 0 && x < width_ && y < height_, "Canvas: pixel ({}, {}) is outside of {} x {}", x, y, width_,
        height_);
  const uint8_t* p = rgb_.data() + (y * width_ + x) * 3;
  return {p[0], p[1], p[2]};
}

double Canvas::snap(double coordinate) const { return std::round(coordinate * scale_) / scale_; }

void Canvas::blend(int64_t x, int64_t y, Color color, double amount) {
  uint8_t* p = rgb_.data() + (y * width_ + x) * 3;
  const Color mixed = amount >= 1 ? color : mix({p[0], p[1], p[2]}, color, amount);
  p[0] = mixed.red, p[1] = mixed.green, p[2] = mixed.blue;
}

void Canvas::paint(const Mask& mask, Color color, double opacity) {
  for (int64_t y = mask.y0; y < mask.y1; ++y) {
    for (int64_t x = mask.x0; x < mask.x1; ++x) {
      if (const double cover = opacity * mask.at(x, y); cover > 0) blend(x, y, color, cover);
    }
  }
}

void Canvas::fill(Box box, Color color, double opacity) {
  check(std::isfinite(box.x) && std::isfinite(box.y) && std::isfinite(box.width) && std::isfinite(box.height),
        "Canvas: rectangles must be finite, got {} x {} at ({}, {})", box.width, box.height, box.x, box.y);
  const double left = std::clamp(box.x * scale_, 0.0, static_cast<double>(width_));
  const double right = std::clamp(box.right() * scale_, 0.0, static_cast<double>(width_));
  const double top = std::clamp(box.y * scale_, 0.0, static_cast<double>(height_));
  const double bottom = std::clamp(box.bottom() * scale_, 0.0, static_cast<double>(height_));
  const auto share = [](int64_t i, double from, double to) {  // of pixel i between the borders
    return std::min(to, static_cast<double>(i) + 1) - std::max(from, static_cast<double>(i));
  };
  for (int64_t y = static_cast<int64_t>(top); static_cast<double>(y) < bottom; ++y) {
    for (int64_t x = static_cast<int64_t>(left); static_cast<double>(x) < right; ++x) {
      blend(x, y, color, opacity * share(x, left, right) * share(y, top, bottom));
    }
  }
}

void Canvas::rule(Point from, Point to, Color color, double width, double opacity) {
  const double thick = std::max(1.0, std::round(width * scale_)) / scale_;
  const double x = std::min(from.x, to.x), y = std::min(from.y, to.y);
  const double dx = std::abs(from.x - to.x), dy = std::abs(from.y - to.y);
  if (dx >= dy) {
    fill({snap(x), snap(y - thick / 2), snap(x + dx) - snap(x), thick}, color, opacity);
  } else {
    fill({snap(x - thick / 2), snap(y), thick, snap(y + dy) - snap(y)}, color, opacity);
  }
}

void Canvas::line(std::span<const Point> points, const LineStyle& style) {
  check(style.width > 0, "Canvas: the width of a line must be positive, got {}", style.width);
  for (const Point& p : points) {
    check(std::abs(p.x) <= farthest && std::abs(p.y) <= farthest, "Canvas: points must be finite, got ({}, {})", p.x,
          p.y);
  }
  const Box clip =
      style.clip.value_or(Box{0, 0, static_cast<double>(width_) / scale_, static_cast<double>(height_) / scale_});
  const auto edge = [&](double v, int64_t limit) { return std::clamp<int64_t>(std::llround(v * scale_), 0, limit); };
  Mask mask(edge(clip.x, width_), edge(clip.y, height_), edge(clip.right(), width_), edge(clip.bottom(), height_));
  const double width = style.width * scale_, margin = 2 * width;
  const Box reach{static_cast<double>(mask.x0) - margin, static_cast<double>(mask.y0) - margin,
                  static_cast<double>(mask.x1 - mask.x0) + 2 * margin,
                  static_cast<double>(mask.y1 - mask.y0) + 2 * margin};
  // Dashes: `on` is drawn, then a gap until `period`; round ends make a dash longer by the width.
  const double on = 3.2 * width, period = 6.4 * width;
  double walked = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    Point a = points[i > 0 ? i - 1 : 0], b = points[i];
    if (i == 0 && points.size() > 1) continue;
    a = {a.x * scale_, a.y * scale_}, b = {b.x * scale_, b.y * scale_};
    if (!clip_segment(a, b, reach)) continue;
    const double length = std::hypot(b.x - a.x, b.y - a.y);
    if (!style.dashed || length == 0) {
      if (!style.dashed || points.size() == 1) mask.add(a, b, width);
      continue;
    }
    const auto along = [&](double s) { return Point{a.x + (b.x - a.x) * s / length, a.y + (b.y - a.y) * s / length}; };
    for (double s = 0; s < length;) {
      const double phase = std::fmod(walked + s, period), rest = (phase < on ? on : period) - phase;
      const double end = std::min(length, s + std::max(rest, 1e-6));
      if (phase < on) mask.add(along(s), along(end), width);
      s = end;
    }
    walked = std::fmod(walked + length, period);
  }
  paint(mask, style.color, style.opacity);
}

void Canvas::dot(Point center, double radius, Color color, double opacity) {
  check(radius > 0, "Canvas: the radius of a dot must be positive, got {}", radius);
  line(std::span(&center, 1),
       {.color = color,
        .width = 2 * radius,
        .opacity = opacity,
        .clip = Box{center.x - radius - 1, center.y - radius - 1, 2 * radius + 2, 2 * radius + 2}});
}

void Canvas::text(Point at, std::string_view text, const TextStyle& style) {
  check(style.size > 0, "Canvas: the size of text must be positive, got {}", style.size);
  check(std::isfinite(at.x) && std::isfinite(at.y), "Canvas: points must be finite, got ({}, {})", at.x, at.y);
  const double size = style.size * scale_, width = text_width(text, size, style.bold);
  const double stroke = std::max(1.0, font::stroke_width(style.bold) * size);
  // Small letters become a whole number of pixels high and stand on a pixel border: sharp rows of horizontal strokes.
  const double x_height = font::x_height * size, stretch = std::max(1.0, std::round(x_height)) / x_height;
  const double shift = style.align == Align::left ? 0 : style.align == Align::center ? 0.5 * width : width;
  const double drop = style.vertical_align == VerticalAlign::baseline ? 0
                      : style.vertical_align == VerticalAlign::top    ? font::cap_height * size + 0.5 * stroke
                                                                      : 0.5 * font::cap_height * size;
  const double sign = style.upward ? -1 : 1;
  const double along = sign * (style.upward ? at.y : at.x) * scale_ - shift;
  const double across = std::round((style.upward ? at.x : at.y) * scale_ + drop + 0.5 * stroke) - 0.5 * stroke;
  const auto position = [&](Point p) {
    const double u = along + p.x * size, v = across - p.y * size * stretch;
    return style.upward ? Point{v, -u} : Point{u, v};
  };
  const Point corner = position({-0.3, 1.0}), opposite = position({width / size + 0.3, -0.4});
  const auto edge = [](double v, int64_t limit) {
    return std::clamp<int64_t>(std::llround(std::clamp(v, -max_side, 2 * max_side)), 0, limit);
  };
  Mask mask(edge(std::min(corner.x, opposite.x), width_), edge(std::min(corner.y, opposite.y), height_),
            edge(std::max(corner.x, opposite.x), width_), edge(std::max(corner.y, opposite.y), height_));
  for (const Stroke& s : text_strokes(text, style.bold)) {
    for (size_t i = 0; i < s.points.size(); ++i) {
      if (i > 0 || s.points.size() == 1)
        mask.add(position(s.points[i > 0 ? i - 1 : 0]), position(s.points[i]), stroke * s.weight);
    }
  }
  paint(mask, style.color, 1);
}

void Canvas::save_png(const std::filesystem::path& path) const { write_png(path, width_, height_, rgb_); }

}  // namespace moxie::train
