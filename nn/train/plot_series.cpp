// SPDX-License-Identifier: Apache-2.0
// Curves and dots over two axes: what line charts and images have in common.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/check.h"
#include "nn/train/plot_parts.h"

namespace moxie::train::plot_parts {
namespace {

Color color_of(const std::vector<Series>& series, size_t i) {
  return series[i].color.value_or(palette(static_cast<int64_t>(i)));
}

double dot_radius(const Series& series) { return series.line ? std::max(2.4, 1.5 * series.width) : 1.5 * series.width; }

// The head of an arrow that ends with the run, as one line.
Run arrow_head(const Run& run, double line_width) {
  const Point tip = run.back(), before = run[run.size() - 2];
  const double angle = std::atan2(tip.y - before.y, tip.x - before.x), size = 3 + 2.4 * line_width;
  const auto barb = [&](double turn) {
    return Point{tip.x - size * std::cos(angle + turn), tip.y - size * std::sin(angle + turn)};
  };
  return {barb(0.5), tip, barb(-0.5)};
}

}  // namespace

Run thinned(const Run& run) {
  constexpr double column = 0.5;
  Run result;
  for (size_t first = 0; first < run.size();) {
    size_t end = first + 1, low = first, high = first;
    for (; end < run.size() && std::floor(run[end].x / column) == std::floor(run[first].x / column); ++end) {
      if (run[end].y < run[low].y) low = end;
      if (run[end].y > run[high].y) high = end;
    }
    const std::array<size_t, 4> kept{first, std::min(low, high), std::max(low, high), end - 1};
    for (size_t k = 0; k < kept.size(); ++k) {
      if (k == 0 || kept[k] != kept[k - 1]) result.push_back(run[kept[k]]);
    }
    first = end;
  }
  return result;
}

std::vector<Run> runs(const Series& series, const Axis& x, const Axis& y, const Box& plot) {
  std::vector<Run> result(1);
  for (size_t i = 0; i < series.x.size(); ++i) {
    const Point p{plot.x + x.position(series.x[i]) * plot.width, plot.bottom() - y.position(series.y[i]) * plot.height};
    if (std::abs(p.x) <= 1e290 && std::abs(p.y) <= 1e290) {
      result.back().push_back(p);
    } else if (!result.back().empty()) {
      result.emplace_back();
    }
  }
  if (result.back().empty()) result.pop_back();
  return result;
}

void draw_series(Canvas& canvas, const std::vector<Series>& series, const Axis& x, const Axis& y, const Box& plot,
                 bool halo) {
  constexpr double rim = 0.9;
  // room for the ends of lines at the border, not beyond
  const Box clip{plot.x + 0.5, plot.y - 1, plot.width, plot.height + 0.5};
  const auto inside = [&](Point p) {
    return p.x >= plot.x - 0.5 && p.x <= plot.right() + 0.5 && p.y >= plot.y - 0.5 && p.y <= plot.bottom() + 0.5;
  };
  for (size_t i = 0; i < series.size(); ++i) {
    const Series& s = series[i];
    const Color color = color_of(series, i);
    const double radius = dot_radius(s);
    const auto draw_dot = [&](Point p) {
      if (!inside(p)) return;
      if (halo) canvas.dot(p, radius + rim, white, s.opacity);
      canvas.dot(p, radius, color, s.opacity);
    };
    const std::vector<Run> pieces = runs(s, x, y, plot);
    for (const Run& run : pieces) {
      if (s.line && run.size() > 1) {
        std::vector<Run> lines{thinned(run)};
        if (s.arrow && &run == &pieces.back()) lines.push_back(arrow_head(run, s.width));
        LineStyle style{.color = white, .width = s.width + 2 * rim, .opacity = s.opacity, .clip = clip};
        for (const Run& line : lines)
          if (halo) canvas.line(line, style);
        style.color = color, style.width = s.width, style.dashed = s.dashed;
        for (const Run& line : lines) canvas.line(line, style), style.dashed = false;
      } else if (s.line && !s.dots) {
        draw_dot(run[0]);
      }
      if (s.dots || !s.line) {
        for (const Point& p : run) draw_dot(p);
      }
    }
  }
}

std::vector<LegendEntry> legend_of(const std::vector<Series>& series) {
  std::vector<LegendEntry> entries;
  for (size_t i = 0; i < series.size(); ++i) {
    const Series& s = series[i];
    if (s.name.empty()) continue;
    const Color shown = mix(white, color_of(series, i), std::max(s.opacity, 0.25));
    entries.push_back({s.name, shown, s.dashed, s.dots || !s.line, s.line});
  }
  return entries;
}

void validate(const std::vector<Series>& series, const char* kind, const std::string& title) {
  for (const Series& s : series) {
    check(s.x.size() == s.y.size(), "{} \"{}\": x and y of series \"{}\" must have the same length, got {} and {}",
          kind, title, s.name, s.x.size(), s.y.size());
    check(s.width > 0 && s.opacity >= 0 && s.opacity <= 1,
          "{} \"{}\": series \"{}\" needs a positive width and an opacity between 0 and 1, got {} and {}", kind, title,
          s.name, s.width, s.opacity);
  }
}

}  // namespace moxie::train::plot_parts
