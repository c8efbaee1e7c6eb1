// SPDX-License-Identifier: Apache-2.0
// Images with curves, dots and words over them, and scatter plots.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "nn/train/plot.h"
#include "tests/train/plot_support.h"

using namespace moxie::train;
using moxie::test::find;
using moxie::test::Found;
using moxie::test::refusal;

namespace {

constexpr Color red{220, 20, 40}, green{10, 160, 60}, blue{20, 40, 220}, black{0, 0, 0}, white{255, 255, 255};

// An empty plane from 0 to 10 both ways.
Image plane() { return {.rows = 1, .columns = 1, .pixels = {white}, .x_range = Range{0, 10}, .y_range = Range{0, 10}}; }

}  // namespace

TEST_CASE("rgb takes shares, clamped") {
  CHECK(rgb(0, 0.5, 1) == Color{0, 128, 255});
  CHECK(rgb(-3, 7, std::numeric_limits<double>::quiet_NaN()) == Color{0, 255, 0});
}

TEST_CASE("image: pixels have their colours at their places, as high as wide") {
  const Canvas canvas = render(Image{.rows = 2, .columns = 3, .pixels = {red, blue, green, green, green, black}});
  const Found upper_left = find(canvas, red), middle = find(canvas, blue), last = find(canvas, black);
  CHECK(std::abs(upper_left.width() - upper_left.height()) <= 2);
  CHECK(upper_left.right + 1 == middle.left);
  CHECK(upper_left.top == middle.top);
  CHECK(upper_left.bottom < last.top);
  CHECK(middle.right < last.left);
  CHECK(upper_left.count >= (upper_left.width() - 1) * (upper_left.height() - 1));
  CHECK(upper_left.width() > 150);  // it fills the chart
}

TEST_CASE("image: more pixels than the canvas has show means") {
  Image image{.width = 100, .height = 100, .rows = 1000, .columns = 1000, .pixels = std::vector<Color>(1000000)};
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = i % 2 == 0 ? Color{0, 0, 0} : Color{200, 100, 50};
  const Canvas canvas = render(image);
  const Color middle = canvas.pixel(canvas.pixel_width() / 2, canvas.pixel_height() / 2);
  CHECK(std::abs(middle.red - 100) < 20);
  CHECK(std::abs(middle.green - 50) < 10);
  CHECK(std::abs(middle.blue - 25) < 5);
}

TEST_CASE("image: ranges give the proportions and the places of dots, lines and words") {
  Image image = plane();
  image.x_range = Range{0, 20};
  image.series = {{.x = {5, 15}, .y = {2.5, 7.5}, .color = red, .width = 3, .line = false}};
  const Canvas dots = render(image);
  const Found found = find(dots, red), frame = find(dots, {120, 126, 135});
  const double width = static_cast<double>(frame.width() - 7), height = static_cast<double>(frame.height() - 7);
  CHECK(std::abs(width - 2 * height) < 10);
  CHECK(std::abs(static_cast<double>(found.width()) - width / 2) < 24);
  CHECK(std::abs(static_cast<double>(found.height()) - height / 2) < 24);
  CHECK(dots.pixel((found.left + found.right) / 2, (found.top + found.bottom) / 2) != red);
  CHECK(dots.pixel(found.left + 5, found.bottom - 5) == red);  // y goes up

  image.series[0].line = true;
  const Canvas line = render(image);
  const Found all = find(line, red);
  CHECK(line.pixel((all.left + all.right) / 2, (all.top + all.bottom) / 2) == red);

  image.series = {{.x = {30, 5}, .y = {5, 50}, .color = red, .line = false}};  // outside
  CHECK(find(render(image), red).count == 0);
  image.series.clear();
  image.labels = {{10, 5, "here", green}, {21, 5, "outside", blue}};
  const Found word = find(render(image), green);
  CHECK(word.count > 20);
  CHECK(std::abs((word.left + word.right) - (frame.left + 7 + frame.right)) < 12);
  CHECK(find(render(image), blue).count == 0);
}

TEST_CASE("image: the centres of its pixels are where dots cover them") {
  Image image{.rows = 2, .columns = 4, .x_range = Range{0, 8}, .y_range = Range{-1, 1}};
  CHECK(pixel_centers(image) == std::vector<float>{1, 0.5F, 3, 0.5F, 5, 0.5F, 7, 0.5F,  //
                                                   1, -0.5F, 3, -0.5F, 5, -0.5F, 7, -0.5F});
  image.x_range.reset(), image.y_range.reset();
  CHECK(pixel_centers(image)[0] == 0.5F);
  CHECK(pixel_centers(image)[1] == 1.5F);
  image.rows = 0;
  CHECK(refusal([&] { pixel_centers(image); }) == "pixel_centers: rows and columns must be positive, got 0 x 4");
}

TEST_CASE("image: dots stand out from their own colour by a white rim") {
  Image image = plane();
  image.pixels = {red};
  const int64_t before = find(render(image), white).count;
  image.series = {{.x = {5}, .y = {5}, .color = red, .line = false}};
  CHECK(find(render(image), white).count > before + 20);
}

TEST_CASE("image: without ranges places count pixels from the lower left corner") {
  Image image{.rows = 4, .columns = 8, .pixels = std::vector<Color>(32, white)};
  image.series = {{.x = {0.5}, .y = {0.5}, .color = red, .line = false}};
  const Found dot = find(render(image), red), frame = find(render(image), {120, 126, 135});
  CHECK(dot.right < frame.left + frame.width() / 8);
  CHECK(dot.top > frame.bottom - frame.height() / 4);
}

TEST_CASE("image: a legend names colours and series, beside or below") {
  Image image = plane();
  const Canvas plain = render(image);
  image.colors = {{"expert 0", green}};
  image.series = {{.name = "tokens", .x = {-1}, .y = {5}, .color = blue, .line = false}};
  const Canvas named = render(image);
  const Found field = find(named, green), dot = find(named, blue);
  CHECK(field.left > plain.pixel_width() / 2);
  CHECK(field.width() == field.height());
  CHECK(dot.count > 20);
  CHECK(dot.top > field.bottom);
  image.legend = false;
  CHECK(find(render(image), green).count == 0);
  image.legend = true;
  const Figure figure{.charts = {image, image}, .share_legend = true};
  const Found below = find(render(figure), green);
  CHECK(below.count == field.count);  // once for both
  CHECK(below.top > render(figure).pixel_height() * 3 / 4);
}

TEST_CASE("scatter: dots without a line") {
  LineChart chart{.x_range = Range{0, 10}, .y_range = Range{0, 1}};
  chart.series = {{.x = {2, 8}, .y = {0.5, 0.5}, .color = red, .line = false}};
  const Canvas canvas = render(chart);
  const Found dots = find(canvas, red);
  CHECK(canvas.pixel((dots.left + dots.right) / 2, (dots.top + dots.bottom) / 2) != red);
  CHECK(canvas.pixel(dots.left + 3, (dots.top + dots.bottom) / 2) == red);
  const int64_t height = dots.height();
  chart.series[0].width *= 2;
  CHECK(find(render(chart), red).height() > height + 5);
}

TEST_CASE("images refuse what does not fit") {
  CHECK(refusal([] { render(Image{.title = "T", .rows = 2, .columns = 3, .pixels = {red}}); }) ==
        "Image \"T\": 2 x 3 needs as many pixels, got 1");
  CHECK(refusal([] { render(Image{.title = "T", .rows = 0, .columns = 3}); }) ==
        "Image \"T\": rows and columns must be positive, got 0 x 3");
  Image image = plane();
  image.width = 0;
  CHECK(refusal([&] { render(image); }) == "Image \"\": width and height must be positive, got 0 x 360");
  image = plane();
  image.x_range = Range{2, 2};
  CHECK(refusal([&] { render(image); }).find("Image: x_range") == 0);
  image = plane();
  image.y_range = Range{3, 2};
  CHECK(refusal([&] { render(image); }).find("Image: y_range") == 0);
  image = plane();
  image.series = {{.name = "S", .x = {1, 2}, .y = {1}}};
  CHECK(refusal([&] { render(image); }) ==
        "Image \"\": x and y of series \"S\" must have the same length, got 2 and 1");
  image.series = {{.name = "S", .width = -1}};
  CHECK(refusal([&] { render(image); }) ==
        "Image \"\": series \"S\" needs a positive width and an opacity between 0 and 1, got -1 and 1");
  image = plane();
  image.labels = {{1, std::numeric_limits<double>::infinity(), "L"}};
  CHECK(refusal([&] { render(image); }) == "Image \"\": label \"L\" needs a place, got (1, inf)");
}
