// SPDX-License-Identifier: Apache-2.0
// Charts and figures: what is drawn where, and what they refuse.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>

#include "nn/train/plot.h"
#include "tests/train/plot_support.h"

using namespace moxie::train;
using moxie::test::find;
using moxie::test::Found;
using moxie::test::refusal;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr Color red{220, 20, 40}, green{10, 160, 60}, blue{20, 40, 220};

bool same(const Canvas& x, const Canvas& y) { return std::ranges::equal(x.pixels(), y.pixels()); }

LineChart two_levels() {
  return {
      .y_range = Range{0, 1},
      .series = {{.x = {0, 10}, .y = {0.25, 0.25}, .color = red}, {.x = {0, 10}, .y = {0.75, 0.75}, .color = blue}}};
}

}  // namespace

TEST_CASE("line chart: curves pass where they should") {
  const Canvas canvas = render(two_levels());
  CHECK(canvas.pixel_width() == 1200);
  CHECK(canvas.pixel_height() == 760);
  CHECK(canvas.pixel(1, 1) == Color{255, 255, 255});
  const Found low = find(canvas, red), high = find(canvas, blue);
  CHECK(low.width() > 1000);
  CHECK(low.width() == high.width());
  CHECK(low.height() <= 4);
  CHECK(low.top > high.bottom);
  // The frame: the ends 0 and 1 of the axis lie a quarter of the plot area beyond the curves.
  const Found frame = find(canvas, {120, 126, 135});
  CHECK(std::abs(2 * (low.top - high.top) - (frame.bottom - 7 - frame.top)) <= 6);
}

TEST_CASE("line chart: NaN breaks a curve, single points are dots, dots can be asked for") {
  LineChart chart{.x_range = Range{0, 10}, .y_range = Range{0, 1}, .series = {{.color = red}}};
  Series& s = chart.series[0];
  s.x = {0, 4, 5, 6, 10}, s.y = {0.5, 0.5, not_a_number, 0.5, 0.5};
  const Canvas broken = render(chart);
  const Found line = find(broken, red);
  int64_t gap = 0;
  for (int64_t x = line.left; x <= line.right; ++x) gap += broken.pixel(x, (line.top + line.bottom) / 2) != red;
  CHECK(std::abs(gap - line.width() / 5) < 8);

  s.x = {5}, s.y = {0.5};
  const Found dot = find(render(chart), red);
  CHECK((dot.count > 10 && std::abs(dot.width() - dot.height()) <= 1));
  s.x = {1, 5, 9}, s.y = {0.5, not_a_number, 0.5};  // two points alone
  CHECK(std::abs(find(render(chart), red).count - 2 * dot.count) < 6);
  s.x = {2, 8}, s.y = {0.5, 0.5};
  const Found plain = find(render(chart), red);
  s.dots = true;
  CHECK(find(render(chart), red).height() > plain.height());
}

TEST_CASE("line chart: logarithmic axes leave out what is not positive") {
  LineChart chart{.log_x = true, .log_y = true, .x_range = Range{1, 100}, .y_range = Range{1, 100}};
  chart.series = {{.x = {1, 10, 100}, .y = {10, 10, 10}, .color = red}};
  const Found whole = find(render(chart), red);
  chart.series[0].y[2] = 0;
  CHECK(std::abs(find(render(chart), red).width() - whole.width() / 2) < 6);
  chart.series = {{.x = {-1, 0}, .y = {5, 5}, .color = red}};
  CHECK(find(render(chart), red).count == 0);
}

TEST_CASE("line chart: a legend names the curves and stays off the data") {
  LineChart chart = two_levels();
  chart.y_range = Range{0, 10};  // both curves at the bottom
  const Canvas plain = render(chart);
  chart.series[0].name = "first", chart.series[1].name = "second";
  const Canvas named = render(chart);
  CHECK(find(named, red).count > find(plain, red).count + 50);
  CHECK(find(named, red).top < 200);
  CHECK(find(named, red).bottom == find(plain, red).bottom);
  chart.legend = false;
  CHECK(same(render(chart), plain));
  // Curves everywhere: the legend goes beside the plot area.
  chart.legend = true;
  chart.y_range = Range{-0.1, 1.1};
  for (int i = 0; i <= 40; ++i) {
    Series filler{.x = {0, 10}, .y = {i / 40.0, i / 40.0}, .color = green};
    chart.series.push_back(filler);
  }
  const Canvas full = render(chart);
  CHECK(find(full, red).left > 0);
  CHECK(find(full, red).right > find(full, green).right + 10);
}

TEST_CASE("line chart: reference lines, dashes, opacity, ranges, empty charts") {
  LineChart chart = two_levels();
  chart.references = {{.y = 0.5, .label = "half", .color = green}};
  const Found line = find(render(chart), green);
  CHECK(line.width() > 1000);
  chart.references[0].y = 3;  // outside of the range
  CHECK(find(render(chart), green).count == 0);
  chart = two_levels();
  const int64_t solid = find(render(chart), red).count;
  chart.series[0].dashed = true;
  const int64_t dashed = find(render(chart), red).count;
  CHECK((dashed > solid / 5 && dashed < 3 * solid / 4));
  chart.series[0].dashed = false, chart.series[0].opacity = 0.5;
  CHECK(find(render(chart), red).count == 0);
  CHECK(find(render(chart), mix({255, 255, 255}, red, 0.5)).count > 1000);
  chart = two_levels();
  chart.y_range = Range{0.5, 1};
  CHECK(find(render(chart), red).count == 0);
  chart.y_range = Range{1e-9, 2e-9};  // far away from all data
  CHECK(find(render(chart), red).count == 0);
  CHECK_NOTHROW(render(LineChart{}));
  CHECK_NOTHROW(
      render(LineChart{.series = {{.name = "empty"}, {.name = "nothing", .x = {not_a_number}, .y = {not_a_number}}}}));
  CHECK_NOTHROW(render(LineChart{.title = std::string(300, 'M'), .width = 8, .height = 8}));
}

TEST_CASE("line chart: many points give the same curve as few") {
  LineChart chart{.y_range = Range{-1, 1}, .series = {{.color = red}}};
  for (int i = 0; i <= 200000; ++i) chart.series[0].x.push_back(i), chart.series[0].y.push_back(i % 2 ? 0.5 : -0.5);
  const Found band = find(render(chart), red);
  CHECK(band.count > band.width() * band.height() * 9 / 10);
  CHECK(band.height() > 300);
}

TEST_CASE("heat map: cells have their colours at their places") {
  HeatMap chart{.rows = 2, .columns = 2, .values = {0, 1, 2, 3}, .color_bar = false};
  const Canvas canvas = render(chart);
  const Found a = find(canvas, sequential_color(0)), b = find(canvas, sequential_color(1.0 / 3)),
              c = find(canvas, sequential_color(2.0 / 3)), d = find(canvas, sequential_color(1));
  for (const Found& cell : {a, b, c, d}) CHECK(cell.count == cell.width() * cell.height());
  CHECK((a.right < b.left && a.bottom < c.top && d.left == b.left && d.top == c.top));
  CHECK(std::abs(a.width() - b.width()) <= 2);
  CHECK(a.width() > 300);
  chart.square = true;
  const Found square = find(render(chart), sequential_color(0));
  CHECK(std::abs(square.width() - square.height()) <= 1);
  chart.range = Range{10, 20};  // all below: the colour of the low end
  CHECK(find(render(chart), sequential_color(1)).count == 0);
  chart.range.reset();
  chart.color_bar = true;
  CHECK(find(render(chart), sequential_color(1)).right > find(render(chart), sequential_color(0)).right - 1);
}

TEST_CASE("heat map: NaN cells are grey and hatched, diverging maps are centred, values are printed if they fit") {
  HeatMap chart{
      .rows = 1, .columns = 3, .values = {-2, 1, not_a_number}, .color_map = ColorMap::diverging, .color_bar = false};
  const Canvas canvas = render(chart);
  CHECK(find(canvas, diverging_color(0)).count > 10000);
  CHECK(find(canvas, diverging_color(0.75)).count > 10000);
  CHECK(find(canvas, {226, 228, 232}).left > find(canvas, diverging_color(0.75)).right);
  CHECK(find(canvas, {186, 190, 197}).count > 100);
  chart.center = 1;
  CHECK(find(render(chart), diverging_color(0.5)).count > 10000);
  chart.print_values = true;
  CHECK(find(render(chart), contrast_color(diverging_color(0))).count >
        find(canvas, contrast_color(diverging_color(0))).count);
  HeatMap tiny{.rows = 100, .columns = 100, .values = std::vector<double>(10000, 0.123456)};
  const Canvas without = render(tiny);
  tiny.print_values = true;
  CHECK(same(render(tiny), without));
}

TEST_CASE("heat map: more cells than pixels show means, without gaps") {
  HeatMap chart{.rows = 3, .columns = 7777, .range = Range{0, 2}, .color_bar = false};
  for (int64_t i = 0; i < chart.rows * chart.columns; ++i) chart.values.push_back(1);
  const Found all = find(render(chart), sequential_color(0.5));
  CHECK(all.count > all.width() * all.height() * 98 / 100);
  CHECK(all.width() > 900);
  CHECK_NOTHROW(render(HeatMap{.rows = 1, .columns = 1, .values = {not_a_number}}));
  CHECK_NOTHROW(render(HeatMap{.rows = 5000, .columns = 1, .values = std::vector<double>(5000, -1e300)}));
}

TEST_CASE("stacked area: bands have their shares") {
  StackedArea chart{.x = {0, 1, 2},
                    .bands = {{.values = {1, 1, 1}, .color = red}, {.values = {3, 3, 3}, .color = blue}}};
  const Canvas canvas = render(chart);
  const Found low = find(canvas, red), high = find(canvas, blue);
  CHECK(low.top > high.bottom);
  CHECK(static_cast<double>(high.count) / static_cast<double>(low.count) == doctest::Approx(3).epsilon(0.03));
  CHECK(low.width() > 1000);
  chart.bands[0].values = {1, not_a_number, 1};  // a gap all around the point
  CHECK(find(render(chart), red).count < low.count / 20);
  chart.bands[0].values = {0, 0, 0}, chart.bands[1].values = {0, 0, 0};  // no shares of nothing
  CHECK(find(render(chart), red).count == 0);
  chart.normalize = false;
  chart.bands[0].values = {2, 2, 2}, chart.bands[1].values = {0, 1, 2};  // a wedge
  const Canvas wedge = render(chart);
  CHECK(static_cast<double>(find(wedge, red).count) / static_cast<double>(find(wedge, blue).count) ==
        doctest::Approx(2).epsilon(0.03));
  CHECK_NOTHROW(render(StackedArea{}));
  CHECK(find(render(StackedArea{.x = {3}, .bands = {{.values = {1}, .color = red}}}), red).count > 1000);
}

TEST_CASE("stacked area: the legend shows every band, 64 too") {
  StackedArea chart{.x = {0, 1}};
  for (int k = 0; k < 64; ++k)
    chart.bands.push_back({"expert " + std::to_string(k), {k == 0 ? 1.0 : 0, k == 0 ? 1.0 : 0}, {}});
  const Canvas canvas = render(chart);
  for (int k = 1; k < 64; ++k) CHECK_MESSAGE(find(canvas, palette(k)).count > 50, "band ", k);
  chart.bands.resize(8);
  for (int k = 1; k < 8; ++k) CHECK(find(render(chart), palette(k)).count > 200);
  CHECK(find(render(chart), palette(7)).top < find(render(chart), palette(1)).top);  // the order of the stack
}

TEST_CASE("figure: a grid with aligned axes, one legend, one range of colours") {
  HeatMap cold{.title = "before", .width = 200, .height = 150, .rows = 1, .columns = 2, .values = {0, 1}};
  HeatMap warm = cold;
  warm.values = {2, 4}, warm.title = "after", warm.row_labels = {"a long label"};
  Figure figure{.title = "M", .columns = 2, .charts = {cold, warm, two_levels()}};
  CHECK(render(figure).pixel_width() == 2 * (600 + 200));
  CHECK(find(render(figure), sequential_color(1)).count > 0);
  figure.share_colors = true;
  const Canvas shared = render(figure);
  CHECK(find(shared, sequential_color(0.25)).count > 1000);  // the 1 of the first one
  const Found zero = find(shared, sequential_color(0)), one = find(shared, sequential_color(0.25)),
              two = find(shared, sequential_color(0.5));
  CHECK(zero.top == one.top);
  CHECK(zero.top == two.top);

  LineChart left = two_levels(), right = two_levels();
  left.series[0].name = right.series[0].name = "both", left.series[1].name = "left", right.series[1].name = "right";
  right.series[1].color = green;
  const Canvas common = render(Figure{.charts = {left, right}, .share_legend = true});
  const Found curve = find(render(Figure{.charts = {left, right}}), red), entry = find(common, red);
  CHECK(entry.bottom > curve.bottom);
  CHECK((find(common, blue).bottom > curve.bottom && find(common, green).bottom > curve.bottom));
}

TEST_CASE("the same input gives the same bytes") {
  LineChart chart = two_levels();
  chart.title = "Loss", chart.series[0].name = "a";
  CHECK(same(render(chart), render(chart)));
  const auto path = std::filesystem::temp_directory_path() / "moxie_plot_chart_test.png";
  save_png(chart, path);
  save_png(Figure{.charts = {chart, chart}, .scale = 1}, path);
  CHECK(std::filesystem::file_size(path) > 1000);
  std::filesystem::remove(path);
}

TEST_CASE("charts refuse what does not fit") {
  CHECK(refusal([] { render(LineChart{.title = "t", .width = 0}); }) ==
        "LineChart \"t\": width and height must be positive, got 0 x 380");
  CHECK(refusal([] {
          render(LineChart{.title = "t", .series = {{.name = "s", .x = {1, 2}, .y = {1}}}});
        }) == "LineChart \"t\": x and y of series \"s\" must have the same length, got 2 and 1");
  CHECK(refusal([] { render(LineChart{.series = {{.name = "s", .width = -1}}}); }) ==
        "LineChart \"\": series \"s\" needs a positive width and an opacity between 0 and 1, got -1 and 1");
  CHECK(refusal([] {
          render(LineChart{.log_y = true, .y_range = Range{-1, 1}});
        }) == "LineChart: y_range: low must be below high, both finite and positive, got -1 .. 1");
  CHECK(refusal([] { render(HeatMap{.title = "m", .height = not_a_number}); }) ==
        "HeatMap \"m\": width and height must be positive, got 520 x nan");
  CHECK(refusal([] { render(HeatMap{.title = "m"}); }) ==
        "HeatMap \"m\": rows and columns must be positive, got 0 x 0");
  CHECK(refusal([] { render(HeatMap{.title = "m", .rows = 2, .columns = 3, .values = {1}}); }) ==
        "HeatMap \"m\": 2 x 3 cells need as many values, got 1");
  CHECK(refusal([] {
          render(HeatMap{.title = "m", .rows = 1, .columns = 1, .values = {1}, .row_labels = {"a", "b"}});
        }) == "HeatMap \"m\": needs one row label per row or none, got 2 for 1 rows");
  CHECK(refusal([] {
          render(HeatMap{.title = "m", .rows = 1, .columns = 1, .values = {1}, .column_labels = {"a", "b"}});
        }) == "HeatMap \"m\": needs one column label per column or none, got 2 for 1 columns");
  CHECK(refusal([] {
          render(HeatMap{.title = "m", .rows = 1, .columns = 1, .values = {1}, .center = not_a_number});
        }) == "HeatMap \"m\": center must be finite, got nan");
  CHECK(refusal([] {
          render(HeatMap{.rows = 1, .columns = 1, .values = {1}, .range = Range{1, 1}});
        }) == "HeatMap: range: low must be below high, both finite, got 1 .. 1");
  CHECK(refusal([] { render(StackedArea{.title = "a", .width = -2}); }) ==
        "StackedArea \"a\": width and height must be positive, got -2 x 380");
  CHECK(refusal([] {
          render(StackedArea{.title = "a", .x = {1, 1}});
        }) == "StackedArea \"a\": x must be finite and ascending, got 1 at 1");
  CHECK(refusal([] { render(StackedArea{.title = "a", .x = {1}, .bands = {{.name = "b"}}}); }) ==
        "StackedArea \"a\": band \"b\" must have one value per x, got 0 values for 1 x");
  CHECK(refusal([] { render(StackedArea{.title = "a", .x = {1}, .bands = {{.name = "b", .values = {-1}}}}); }) ==
        "StackedArea \"a\": values must not be negative, band \"b\" has -1");
  CHECK(refusal([] { render(Figure{.title = "f"}); }) == "Figure \"f\": needs at least one chart");
  CHECK(refusal([] { render(Figure{.title = "f", .columns = -1, .charts = {LineChart{}}}); }) ==
        "Figure \"f\": columns must not be negative, got -1");
  CHECK_THROWS_AS(save_png(LineChart{}, "/nonexistent folder/a.png"), std::runtime_error);
}
