// SPDX-License-Identifier: Apache-2.0
#include "nn/train/plot_font.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <numbers>

#include "core/check.h"
#include "nn/train/plot_glyphs.h"

namespace moxie::train {
namespace {

constexpr char32_t box = U'\u25A1', ellipsis = U'\u2026';

// Reads one character and advances `at`; a byte that is not UTF-8 reads as a box.
char32_t next_character(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) -> unsigned { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(at);
  const size_t length = first < 0x80 ? 1 : first >> 5 == 0x6 ? 2 : first >> 4 == 0xE ? 3 : first >> 3 == 0x1E ? 4 : 0;
  if (length <= 1) return ++at, length == 1 ? static_cast<char32_t>(first) : box;
  unsigned code = first & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if (byte(at + i) >> 6 != 0x2) return ++at, box;
    code = code << 6 | (byte(at + i) & 0x3Fu);
  }
  at += length;
  return static_cast<char32_t>(code);
}

// A character as it is drawn: the glyph, and how it is scaled and raised as superscript or subscript.
struct Placed {
  const Glyph* glyph;
  double scale = 1, rise = 0;
};

const Glyph* find(char32_t code) {
  const auto all = glyphs();
  const auto at = std::lower_bound(all.begin(), all.end(), code, [](const Glyph& g, char32_t c) { return g.code < c; });
  return at != all.end() && at->code == code ? &*at : nullptr;
}

Placed place(char32_t code) {
  constexpr std::u32string_view raised = U"\u2070\u00B9\u00B2\u00B3\u2074\u2075\u2076\u2077\u2078\u2079";
  if (const size_t digit = raised.find(code); digit != raised.npos) {
    return {find(U'0' + static_cast<char32_t>(digit)), 0.7, 0.29};
  }
  if (code == U'\u207B') return {find(U'\u2212'), 0.7, 0.29};
  if (code >= U'\u2080' && code <= U'\u2089') return {find(U'0' + (code - U'\u2080')), 0.7, -0.14};
  const Glyph* glyph = find(code);
  return {glyph ? glyph : find(box)};
}

// Draws the path of a glyph into strokes.
class PathReader final {
 public:
  PathReader(const char* path, std::vector<Stroke>& strokes) : at_(path), strokes_(strokes) {}

  void read() {
    for (skip(); *at_ != '\0'; skip()) {
      switch (*at_++) {
        case 'M': begin(point()); break;
        case 'L': strokes_.back().points.push_back(point()); break;
        case 'C': curve(); break;
        case 'A': arc(false); break;
        case 'B': arc(true); break;
        case 'D':
          begin(point());
          strokes_.back().weight = 1.25;
          break;
        default: check_internal(false, "plot_font: unknown path command '{}'", at_[-1]);
      }
    }
  }

 private:
  void skip() {
    while (*at_ == ' ') ++at_;
  }
  double number() {
    char* end = nullptr;
    const long value = std::strtol(at_, &end, 10);
    check_internal(end != at_, "plot_font: a number is missing at \"{}\"", at_);
    at_ = end;
    return static_cast<double>(value) / 1000;
  }
  Point point() {
    const double x = number();
    return {x, number()};
  }
  void begin(Point p) { strokes_.push_back({{p}}); }

  void curve() {
    std::vector<Point>& line = strokes_.back().points;
    const Point a = line.back(), b = point(), c = point(), d = point();
    constexpr int pieces = 14;
    for (int i = 1; i <= pieces; ++i) {
      const double t = static_cast<double>(i) / pieces, s = 1 - t;
      const double wa = s * s * s, wb = 3 * s * s * t, wc = 3 * s * t * t, wd = t * t * t;
      line.push_back({wa * a.x + wb * b.x + wc * c.x + wd * d.x, wa * a.y + wb * b.y + wc * c.y + wd * d.y});
    }
  }

  // An arc of a superellipse, a little squarer than an ellipse: round letters then look less thin at their diagonals.
  void arc(bool new_stroke) {
    constexpr double exponent = 2 / 2.2;
    const Point center = point(), radius = point();
    const double from = number() * 1000, to = number() * 1000;
    const int pieces = std::max(2, static_cast<int>(std::ceil(std::abs(to - from) / 9)));
    for (int i = 0; i <= pieces; ++i) {
      const double angle = (from + (to - from) * i / pieces) * std::numbers::pi / 180;
      const double c = std::cos(angle), s = std::sin(angle);
      const Point p{center.x + radius.x * std::copysign(std::pow(std::abs(c), exponent), c),
                    center.y + radius.y * std::copysign(std::pow(std::abs(s), exponent), s)};
      if (i == 0 && new_stroke) {
        begin(p);
      } else {
        strokes_.back().points.push_back(p);
      }
    }
  }

  const char* at_;
  std::vector<Stroke>& strokes_;
};

// Space that each side of a character gets beyond the table: a little air, and room for the thicker strokes of bold.
double side_space(bool bold) { return bold ? 0.021 : 0.008; }

double advance(const Placed& p, bool bold) {
  return p.scale * ((p.glyph->left + p.glyph->width + p.glyph->right) / 1000.0 + 2 * side_space(bold));
}

}  // namespace

double text_width(std::string_view text, double size, bool bold) {
  double width = 0;
  for (size_t at = 0; at < text.size();) width += advance(place(next_character(text, at)), bold);
  return width * size;
}

std::vector<Stroke> text_strokes(std::string_view text, bool bold) {
  std::vector<Stroke> strokes;
  double pen = 0;
  for (size_t at = 0; at < text.size();) {
    const Placed placed = place(next_character(text, at));
    const size_t first = strokes.size();
    PathReader(placed.glyph->path, strokes).read();
    const double left = pen + placed.scale * (placed.glyph->left / 1000.0 + side_space(bold));
    for (size_t i = first; i < strokes.size(); ++i) {
      for (Point& p : strokes[i].points) p = {left + placed.scale * p.x, placed.rise + placed.scale * p.y};
      if (placed.scale < 1) strokes[i].weight *= 0.85;
    }
    pen += advance(placed, bold);
  }
  return strokes;
}

std::string fit_text(std::string_view text, double size, double width, bool bold) {
  if (text_width(text, size, bold) <= width) return std::string(text);
  const double room = width - size * advance(place(ellipsis), bold);
  size_t end = 0;
  double used = 0;
  for (size_t at = 0; at < text.size();) {
    used += size * advance(place(next_character(text, at)), bold);
    if (used > room) break;
    end = at;
  }
  return std::string(text.substr(0, end)) + "\u2026";
}

}  // namespace moxie::train
