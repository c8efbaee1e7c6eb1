// SPDX-License-Identifier: Apache-2.0
// Diagrams of boxes and arrows, the graph of a tensor as one, and arrows in charts.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <string>

#include "autograd/ops.h"
#include "nn/train/plot.h"
#include "tests/train/plot_support.h"

using namespace moxie;
using namespace moxie::train;
using moxie::test::find;
using moxie::test::Found;
using moxie::test::refusal;

namespace {

constexpr Color red{220, 20, 40}, blue{20, 40, 220}, green{10, 160, 60}, black{0, 0, 0}, white{255, 255, 255};

std::vector<std::pair<int64_t, int64_t>> pairs(const Diagram& diagram) {
  std::vector<std::pair<int64_t, int64_t>> result;
  for (const Arrow& arrow : diagram.arrows) result.emplace_back(arrow.from, arrow.to);
  return result;
}

}  // namespace

TEST_CASE("diagram: a box stands to the right of all that point to it, the first of them in its row") {
  // red -> green -> blue, black -> blue: black has its column from blue
  const Diagram diagram{.boxes = {{.name = "r", .color = red},
                                  {.name = "g", .color = green},
                                  {.name = "b", .color = blue},
                                  {.name = "k", .lines = {"below"}, .color = black}},
                        .arrows = {{0, 1}, {1, 2}, {3, 2}}};
  const Canvas canvas = render(diagram);
  const Found r = find(canvas, red), g = find(canvas, green), b = find(canvas, blue), k = find(canvas, black);
  for (const Found& found : {r, g, b, k}) CHECK(found.count > 100);
  CHECK(r.right < g.left);
  CHECK(g.right < b.left);
  CHECK(k.left == g.left);
  CHECK((r.top == g.top && g.top == b.top));
  CHECK(k.top > g.bottom);
  CHECK(render(diagram).pixels().size() == canvas.pixels().size());
  CHECK(std::ranges::equal(render(diagram).pixels(), canvas.pixels()));
}

TEST_CASE("diagram: an arrow past other boxes goes around them") {
  Diagram diagram{.boxes = {{.name = "a", .color = red}, {.name = "b", .color = green}, {.name = "c", .color = blue}},
                  .arrows = {{0, 1}, {1, 2}}};
  const Found without = find(render(diagram), {120, 126, 135});  // the arrows' colour
  diagram.arrows.push_back({0, 2});
  const Found with = find(render(diagram), {120, 126, 135});
  CHECK(with.top < without.top);
  CHECK(with.count > without.count);
}

TEST_CASE("diagram: refusals") {
  CHECK(refusal([] { render(Diagram{.title = "t"}); }) == "Diagram \"t\": needs at least one box");
  CHECK(refusal([] { render(Diagram{.title = "t", .width = 0}); }) ==
        "Diagram \"t\": width and height must be positive, got 0 x 240");
  CHECK(refusal([] {
          render(Diagram{.title = "t", .boxes = {{}}, .arrows = {{0, 1}}});
        }) == "Diagram \"t\": an arrow leads from box 0 to box 1, of 1");
  CHECK(refusal([] {
          render(Diagram{.title = "t", .boxes = {{}, {}}, .arrows = {{0, 1}, {1, 0}}});
        }) == "Diagram \"t\": arrows form a loop");
}

TEST_CASE("diagram_of: a box for each op, leaf and constant, arrows in the order of the inputs") {
  const Tensor w = Tensor::full({2, 3}, 1).set_requires_grad().set_name("w");
  const Tensor loss = sum(w * Tensor::full({2, 3}, 2));
  const Diagram diagram = diagram_of(loss);
  std::vector<std::string> names;
  for (const DiagramBox& box : diagram.boxes) names.push_back(box.name);
  CHECK(names == std::vector<std::string>{"w", "mul", "constant", "sum"});
  CHECK(pairs(diagram) == std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {2, 1}, {1, 3}});
  CHECK(diagram.boxes[0].lines == std::vector<std::string>{"[2, 3]"});
  CHECK(diagram.boxes[1].lines.size() == 2);
  CHECK(diagram.boxes[1].lines[1].starts_with("keeps "));
  CHECK(find(render(diagram), diagram.boxes[0].color).count > 50);

  const Tensor residual = w + relu(w);  // w is used twice
  CHECK(pairs(diagram_of(residual)) == std::vector<std::pair<int64_t, int64_t>>{{0, 1}, {0, 2}, {1, 2}});
  CHECK(diagram_of(w.detach()).boxes.size() == 1);  // no graph
}

TEST_CASE("series: an arrow has a head at its end") {
  Image image{.rows = 1, .columns = 1, .pixels = {white}, .x_range = Range{0, 10}, .y_range = Range{0, 10}};
  image.series = {{.x = {2, 8}, .y = {5, 5}, .color = red, .width = 2}};
  const Canvas plain = render(image);
  image.series[0].arrow = true;
  const Canvas arrow = render(image);
  const Found line = find(plain, red), with_head = find(arrow, red);
  CHECK(with_head.bottom - with_head.top > 2 * (line.bottom - line.top));
  CHECK(with_head.left == line.left);
  CHECK(with_head.right == line.right);
  const auto height_at = [&](int64_t x) {
    int64_t height = 0;
    for (int64_t y = 0; y < arrow.pixel_height(); ++y) height += arrow.pixel(x, y) == red;
    return height;
  };
  CHECK(height_at(line.right - 12) > height_at(line.left + 12));
}

TEST_CASE("distinct colours: eight, and no more") {
  for (int64_t i = 0; i < 8; ++i)
    for (int64_t k = 0; k < i; ++k) CHECK(distinct_color(i) != distinct_color(k));
  CHECK(refusal([] { distinct_color(8); }) == "distinct_color: there are 8, got index 8");
  CHECK(refusal([] { distinct_color(-1); }) == "distinct_color: there are 8, got index -1");
}
