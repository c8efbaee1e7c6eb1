// SPDX-License-Identifier: Apache-2.0
// Boxes joined by arrows from left to right, and the graph of a tensor as such a diagram.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "autograd/describe.h"
#include "autograd/record.h"
#include "core/check.h"
#include "nn/train/plot_parts.h"

namespace moxie::train {
namespace plot_parts {
namespace {

constexpr double line_size = 9, pad = 6, arrow_length = 5, share = 0.76;  // of a box in its column

// The boxes that point to each box, and those that it points to, in the order of the arrows.
struct Neighbours {
  std::vector<std::vector<size_t>> before, after;
  explicit Neighbours(const Diagram& chart) : before(chart.boxes.size()), after(chart.boxes.size()) {
    for (const Arrow& arrow : chart.arrows) {
      before[static_cast<size_t>(arrow.to)].push_back(static_cast<size_t>(arrow.from));
      after[static_cast<size_t>(arrow.from)].push_back(static_cast<size_t>(arrow.to));
    }
  }
};

// The boxes, each behind all that point to it; fewer than there are where arrows form a loop.
std::vector<size_t> in_order(const Neighbours& neighbours) {
  std::vector<size_t> waiting, order;
  for (size_t i = 0; i < neighbours.before.size(); ++i) {
    waiting.push_back(neighbours.before[i].size());
    if (waiting[i] == 0) order.push_back(i);
  }
  for (size_t k = 0; k < order.size(); ++k) {
    for (const size_t next : neighbours.after[order[k]])
      if (--waiting[next] == 0) order.push_back(next);
  }
  return order;
}

// Column and row of each box.
struct Layout {
  std::vector<int> column, row;
  int columns = 1, rows = 1;
};

Layout layout_of(const Diagram& chart) {
  const Neighbours neighbours(chart);
  const std::vector<size_t> order = in_order(neighbours);
  Layout layout{std::vector<int>(order.size(), 0), std::vector<int>(order.size(), -1)};
  for (const size_t box : order) {
    for (const size_t from : neighbours.before[box])
      layout.column[box] = std::max(layout.column[box], layout.column[from] + 1);
    layout.columns = std::max(layout.columns, layout.column[box] + 1);
  }
  for (const size_t box : order) {
    if (!neighbours.before[box].empty() || neighbours.after[box].empty()) continue;
    layout.column[box] = layout.columns;
    for (const size_t to : neighbours.after[box])
      layout.column[box] = std::min(layout.column[box], layout.column[to] - 1);
  }
  // From the last box back: the i-th that points to a box would like to stand i rows below it.
  std::set<std::pair<int, int>> taken;
  const auto place = [&](size_t box, int row) {
    if (layout.row[box] >= 0) return;
    while (!taken.insert({layout.column[box], row}).second) ++row;
    layout.row[box] = row;
    layout.rows = std::max(layout.rows, row + 1);
  };
  for (auto box = order.rbegin(); box != order.rend(); ++box) {
    place(*box, 0);
    const auto& before = neighbours.before[*box];
    for (size_t i = 0; i < before.size(); ++i) place(before[i], layout.row[*box] + static_cast<int>(i));
  }
  return layout;
}

void draw_arrow(Canvas& canvas, Point from, Point to, double bow) {
  constexpr int pieces = 24;
  const double reach = 0.5 * (to.x - from.x);
  Run curve;
  for (int i = 0; i <= pieces; ++i) {
    const double t = static_cast<double>(i) / pieces, u = 1 - t;
    // a cubic Bezier curve that leaves and arrives level
    curve.push_back(
        {u * u * u * from.x + 3 * u * u * t * (from.x + reach) + 3 * u * t * t * (to.x - reach) + t * t * t * to.x,
         (u * u * u + 3 * u * u * t) * from.y + (3 * u * t * t + t * t * t) * to.y - 3 * u * t * bow});
  }
  const LineStyle style{.color = frame_color, .width = 1.2};
  canvas.line(curve, style);
  const std::array<Point, 3> head{Point{to.x - arrow_length, to.y - 0.6 * arrow_length}, to,
                                  Point{to.x - arrow_length, to.y + 0.6 * arrow_length}};
  canvas.line(head, style);
}

void draw_box(Canvas& canvas, const DiagramBox& box, Box place) {
  place = {canvas.snap(place.x), canvas.snap(place.y), place.width, place.height};
  canvas.fill(place, white);
  canvas.fill(place, box.color, 0.12);
  canvas.fill({place.x, place.y, 3, place.height}, box.color);
  const double room = place.width - 2 * pad, middle = place.x + 1.5 + place.width / 2;
  const double high = tick_size + static_cast<double>(box.lines.size()) * (line_size + 3);
  double y = place.y + 0.5 * (place.height - high);
  const auto write = [&](const std::string& text, double size, Color color, bool bold) {
    canvas.text(
        {middle, y}, fit_text(text, size, room, bold),
        {.size = size, .color = color, .align = Align::center, .vertical_align = VerticalAlign::top, .bold = bold});
    y += size + 3;
  };
  write(box.name, tick_size, ink, true);
  for (const std::string& line : box.lines) write(line, line_size, soft_ink, false);
}

}  // namespace

void validate(const Diagram& chart) {
  check(chart.width > 0 && chart.height > 0, "Diagram \"{}\": width and height must be positive, got {} x {}",
        chart.title, chart.width, chart.height);
  check(!chart.boxes.empty(), "Diagram \"{}\": needs at least one box", chart.title);
  const auto boxes = static_cast<int64_t>(chart.boxes.size());
  for (const Arrow& arrow : chart.arrows) {
    check(arrow.from >= 0 && arrow.from < boxes && arrow.to >= 0 && arrow.to < boxes,
          "Diagram \"{}\": an arrow leads from box {} to box {}, of {}", chart.title, arrow.from, arrow.to, boxes);
  }
  check(in_order(Neighbours(chart)).size() == chart.boxes.size(), "Diagram \"{}\": arrows form a loop", chart.title);
}

std::vector<LegendEntry> legend_of(const Diagram&) { return {}; }

Margins margins_of(const Diagram& chart, double, double) {
  return {.left = 14, .right = 14, .top = chart.title.empty() ? 12.0 : 14 + title_size + 8, .bottom = 12};
}

void draw(Canvas& canvas, const Diagram& chart, const Box& plot, const Margins& margins) {
  const Layout layout = layout_of(chart);
  const double across = plot.width / (layout.columns - 1 + share), down = plot.height / (layout.rows - 1 + share);
  const double width = share * across, height = share * down;
  const auto place = [&](int64_t i) {
    const auto box = static_cast<size_t>(i);
    return Box{plot.x + layout.column[box] * across, plot.y + layout.row[box] * down, width, height};
  };
  for (const Arrow& arrow : chart.arrows) {
    const Box from = place(arrow.from), to = place(arrow.to);
    const bool above_others = to.x - from.x > 1.5 * across;  // around what stands between
    draw_arrow(canvas, {from.right(), from.y + height / 2}, {to.x, to.y + height / 2}, above_others ? 0.8 * down : 0);
  }
  for (size_t i = 0; i < chart.boxes.size(); ++i) draw_box(canvas, chart.boxes[i], place(static_cast<int64_t>(i)));
  if (chart.title.empty()) return;
  canvas.text({plot.x, plot.y - 9}, fit_text(chart.title, title_size, plot.width + margins.right - 6, true),
              {.size = title_size, .color = ink, .bold = true});
}

}  // namespace plot_parts

Diagram diagram_of(const Tensor& root) {
  constexpr double column = 106, row = 64;
  constexpr Color op{0, 114, 178}, leaf{213, 94, 0}, constant{111, 119, 130};
  Diagram diagram;
  std::map<const Node*, int64_t> number;
  const auto add = [&](const std::string& name, const Shape& shape, Color color) {
    diagram.boxes.push_back({.name = name, .lines = {fmt::format("{}", shape)}, .color = color});
    return static_cast<int64_t>(diagram.boxes.size()) - 1;
  };
  for (const Node* node : detail::nodes_of(root)) {
    const Node::Output& output = node->outputs[0];
    const bool named = node->is_leaf() && !node->name.empty();
    number[node] = add(named ? node->name : node->op, output.shape, node->is_leaf() ? leaf : op);
    const int64_t bytes = detail::saved_bytes(*node);
    if (bytes > 0) diagram.boxes.back().lines.push_back("keeps " + text_of_bytes(bytes));
    const int64_t here = number[node];
    for (const Node::Edge& edge : node->inputs) {
      if (!edge.defined) continue;
      diagram.arrows.push_back({edge.node ? number.at(edge.node.get()) : add("constant", edge.shape, constant), here});
    }
  }
  if (diagram.boxes.empty()) add("constant", root.shape(), constant);
  const plot_parts::Layout layout = plot_parts::layout_of(diagram);
  diagram.width = column * layout.columns, diagram.height = row * layout.rows;
  return diagram;
}

}  // namespace moxie::train
