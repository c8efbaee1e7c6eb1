// SPDX-License-Identifier: Apache-2.0
// The parts of plots: tick values, colours, the font, the canvas and PNG files.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <string>

#include "nn/train/plot.h"
#include "nn/train/plot_glyphs.h"
#include "nn/train/plot_png.h"

using namespace moxie::train;
namespace fs = std::filesystem;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
constexpr Color white{255, 255, 255}, black{};

std::vector<std::string> labels(const Axis& axis, int count) {
  std::vector<std::string> result;
  for (const Tick& tick : ticks(axis, count)) {
    if (!tick.minor) result.push_back(tick.label);
  }
  return result;
}

using Labels = std::vector<std::string>;

// An empty folder for one test.
fs::path fresh_folder(const std::string& name) {
  const fs::path folder = fs::temp_directory_path() / ("moxie_plot_test_" + name);
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The message of the exception that f throws.
template <class Error, class F> std::string message(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE("nice_step is 1, 2 or 5 times a power of ten") {
  CHECK(nice_step(10, 10) == doctest::Approx(1));
  CHECK(nice_step(10, 9) == doctest::Approx(2));
  CHECK(nice_step(10, 4) == doctest::Approx(5));
  CHECK(nice_step(1, 3) == doctest::Approx(0.5));
  CHECK(nice_step(7e-5, 5) == doctest::Approx(2e-5));
  CHECK_THROWS_WITH_AS(nice_step(0, 5), "nice_step: span and count must be positive, got 0 and 5",
                       std::invalid_argument);
}

TEST_CASE("format_tick") {
  const std::vector<std::tuple<double, double, const char*>> rows{{0, 1, "0"},
                                                                  {-0.0, 1, "0"},
                                                                  {1e-17, 0.2, "0"},
                                                                  {-0.5, 1, "0"},
                                                                  {0.25, 0.05, "0.25"},
                                                                  {0.5, 0.25, "0.50"},
                                                                  {3, 1, "3"},
                                                                  {-2, 0.5, "−2.0"},
                                                                  {500, 500, "500"},
                                                                  {1000, 500, "1k"},
                                                                  {1500, 500, "1.5k"},
                                                                  {10000, 5000, "10k"},
                                                                  {10e6, 1e6, "10M"},
                                                                  {2.5e6, 5e5, "2.5M"},
                                                                  {3e9, 1e9, "3G"},
                                                                  {2e12, 1e12, "2T"},
                                                                  {1000100, 100, "1000100"},
                                                                  {3e-4, 1e-4, "3e−4"},
                                                                  {-2e-5, 1e-5, "−2e−5"},
                                                                  {1.5e-4, 5e-5, "1.5e−4"},
                                                                  {2e18, 1e18, "2e18"},
                                                                  {999.6, 1, "1000"}};
  for (const auto& [value, step, text] : rows) CHECK(format_tick(value, step) == text);
}

TEST_CASE("linear ticks") {
  CHECK(labels({{0, 20000}}, 5) == Labels{"0", "5k", "10k", "15k", "20k"});
  CHECK(labels({{-0.13, 1.02}}, 6) == Labels{"0", "0.2", "0.4", "0.6", "0.8", "1.0"});
  CHECK(labels({{1.23, 1.27}}, 4) == Labels{"1.23", "1.24", "1.25", "1.26", "1.27"});
  for (const Tick& tick : ticks({{-3.7, 12.9}}, 9)) CHECK((tick.value >= -3.7 && tick.value <= 12.9));
  // a span below the precision of the values ends all the same
  CHECK(ticks({{1e15, 1e15 + 0.25}}, 8).size() <= 10);
}

TEST_CASE("logarithmic ticks") {
  CHECK(labels({{1, 1e4}, true}, 6) == Labels{"1", "10", "100", "1k", "10k"});
  CHECK(labels({{1e-4, 1}, true}, 6) == Labels{"10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"});
  CHECK(labels({{1, 1e8}, true}, 5) == Labels{"1", "100", "10k", "1M", "100M"});
  CHECK(labels({{1, 100}, true}, 12) == Labels{"1", "2", "5", "10", "20", "50", "100"});
  CHECK(labels({{3.1, 4.2}, true}, 5) == Labels{"3.5", "4.0"});
  const auto with_minor = ticks({{1, 1e4}, true}, 6);
  CHECK(std::count_if(with_minor.begin(), with_minor.end(), [](const Tick& t) { return t.minor; }) == 32);
}

TEST_CASE("an axis shows its values and leaves out what it cannot") {
  const std::array<double, 5> values{1, 3, not_a_number, inf, -inf};
  const Axis linear = make_axis(values, false, {}, 0.1, "x");
  CHECK(linear.range.low == doctest::Approx(0.8));
  CHECK(linear.range.high == doctest::Approx(3.2));
  CHECK(linear.position(2) == doctest::Approx(0.5));
  CHECK(std::isnan(linear.position(not_a_number)));
  CHECK(std::isnan(linear.position(inf)));
  const std::array<double, 4> positive{0, -5, 10, 1000};
  const Axis logarithmic = make_axis(positive, true, {}, 0, "x");
  CHECK(logarithmic.range.low == doctest::Approx(10));
  CHECK(logarithmic.position(100) == doctest::Approx(0.5));
  CHECK(std::isnan(logarithmic.position(0)));
  CHECK(std::isnan(logarithmic.position(-1)));
  const std::array<double, 2> equal{5, 5};
  CHECK(make_axis(equal, false, {}, 0, "x").position(5) == doctest::Approx(0.5));
  CHECK(make_axis({}, false, {}, 0, "x").range.high == 1);
  const std::array<double, 2> extremes{-1e300, 1e300};
  CHECK(make_axis(extremes, false, {}, 0, "x").position(0) == doctest::Approx(0.5));
  CHECK(message<std::invalid_argument>([] {
          make_axis({}, false, Range{2, 1}, 0, "x_range");
        }) == "x_range: low must be below high, both finite, got 2 .. 1");
  CHECK(message<std::invalid_argument>([] {
          make_axis({}, true, Range{0, 1}, 0, "x_range");
        }) == "x_range: low must be below high, both finite and positive, got 0 .. 1");
  CHECK_THROWS_AS(make_axis({}, false, Range{not_a_number, 1}, 0, "x_range"), std::invalid_argument);
}

TEST_CASE("the palette has 64 different colours, all visible on white") {
  for (int64_t i = 0; i < 64; ++i) {
    CHECK(to_lab(palette(i)).lightness < 0.88);
    for (int64_t k = 0; k < i; ++k) {
      const Lab x = to_lab(palette(i)), y = to_lab(palette(k));
      const double distance = std::hypot(x.lightness - y.lightness, x.a - y.a, x.b - y.b);
      CHECK_MESSAGE(distance > (i < 10 ? 0.09 : 0.045), "colours ", i, " and ", k);
    }
  }
  CHECK(palette(64) == palette(0));
  CHECK_THROWS_WITH_AS(palette(-1), "palette: index must not be negative, got -1", std::invalid_argument);
}

TEST_CASE("colour maps") {
  // equal steps look equal: lightness rises all along, and no step is much longer than another
  double shortest = 1, longest = 0;
  for (int i = 0; i < 32; ++i) {
    const Lab x = to_lab(sequential_color(i / 32.0)), y = to_lab(sequential_color((i + 1) / 32.0));
    CHECK(y.lightness > x.lightness);
    const double step = std::hypot(x.lightness - y.lightness, x.a - y.a, x.b - y.b);
    shortest = std::min(shortest, step), longest = std::max(longest, step);
  }
  CHECK(longest < 1.6 * shortest);
  CHECK(sequential_color(-3) == sequential_color(0));
  CHECK(sequential_color(7) == sequential_color(1));
  CHECK(to_lab(diverging_color(0.5)).lightness > 0.96);
  for (int i = 0; i < 16; ++i) {
    const Lab low = to_lab(diverging_color(0.5 - i / 32.0)), high = to_lab(diverging_color(0.5 + i / 32.0));
    CHECK(low.lightness == doctest::Approx(high.lightness).epsilon(0.01));
  }
  CHECK(diverging_color(0).blue > diverging_color(0).red);
  CHECK(diverging_color(1).red > diverging_color(1).blue);
  CHECK(to_color(to_lab({12, 200, 99})) == Color{12, 200, 99});
  CHECK(mix(black, white, 0.5) == Color{128, 128, 128});
  CHECK(contrast_color(white).red < 50);
  CHECK(contrast_color(sequential_color(0)) == white);
}

TEST_CASE("the font draws all of printable ASCII") {
  const auto all = glyphs();
  CHECK(std::is_sorted(all.begin(), all.end(), [](const Glyph& x, const Glyph& y) { return x.code < y.code; }));
  const double box = text_width("\u25A1", 1);
  for (char32_t code = 32; code < 127; ++code) {
    CHECK_MESSAGE(std::any_of(all.begin(), all.end(), [&](const Glyph& g) { return g.code == code; }), "code ", code);
  }
  std::set<std::string> seen;
  for (const Glyph& glyph : all) {  // every path can be read, and stays within its width and the line
    std::string text;
    const auto code = static_cast<unsigned>(glyph.code);
    if (code < 0x80)
      text += static_cast<char>(code);
    else if (code < 0x800)
      (text += static_cast<char>(0xC0 | code >> 6)) += static_cast<char>(0x80 | (code & 63));
    else
      ((text += static_cast<char>(0xE0 | code >> 12)) += static_cast<char>(0x80 | (code >> 6 & 63))) +=
          static_cast<char>(0x80 | (code & 63));
    CHECK(text_width(text, 1) > 0);
    for (const Stroke& stroke : text_strokes(text)) {
      for (const Point& p : stroke.points) {
        CHECK_MESSAGE((p.x >= -0.02 && p.x <= text_width(text, 1) + 0.02 && p.y >= -0.25 && p.y <= 0.78), text);
      }
    }
  }
  CHECK(text_width("\x01", 1) == box);
  CHECK(text_width("\xFF\xC3", 1) == doctest::Approx(2 * box));  // bytes that are not UTF-8
  CHECK(text_width("語", 1) == box);
  CHECK(text_width("", 12) == 0);
  CHECK(text_width("0", 1) == text_width("1", 1));  // columns of numbers line up
  CHECK(text_width("10", 20) == doctest::Approx(20 * text_width("10", 1)));
  CHECK(text_width("²", 1) < text_width("2", 1));
  CHECK(text_width("m", 1, true) > text_width("m", 1));
  CHECK(fit_text("expert", 10, 500) == "expert");
  const std::string shortened = fit_text("a very long title", 10, 40);
  CHECK(shortened.ends_with("…"));
  CHECK(text_width(shortened, 10) <= 40);
}

TEST_CASE("canvas: rectangles, lines and dots") {
  Canvas canvas(50, 30, 2);
  CHECK(canvas.pixel_width() == 100);
  CHECK(canvas.pixel_height() == 60);
  CHECK(canvas.pixel(0, 0) == white);
  canvas.fill({1, 1, 2.25, 2}, black);  // 4.5 pixels wide
  CHECK(canvas.pixel(2, 2) == black);
  CHECK(canvas.pixel(5, 5) == black);
  CHECK(canvas.pixel(6, 3) == Color{128, 128, 128});
  CHECK(canvas.pixel(7, 3) == white);
  CHECK(canvas.pixel(2, 6) == white);
  canvas.fill({-10, 29, 1000, 1000}, black, 0.5);  // what is outside is cut off
  CHECK(canvas.pixel(99, 59) == Color{128, 128, 128});

  const std::array<Point, 2> diagonal{Point{10, 5}, Point{30, 25}};
  canvas.line(diagonal, {.color = {200, 0, 0}, .width = 2});
  CHECK(canvas.pixel(40, 30) == Color{200, 0, 0});
  CHECK(canvas.pixel(40, 40) == white);
  const std::array<Point, 2> steep{Point{45, -1e6}, Point{45, 1e6}};
  canvas.line(steep, {.color = {0, 0, 200}, .width = 2, .clip = Box{40, 10, 10, 10}});
  CHECK(canvas.pixel(90, 30) == Color{0, 0, 200});
  CHECK(canvas.pixel(90, 18) == white);
  CHECK(canvas.pixel(90, 42) == white);
  canvas.dot({8, 20}, 3, {0, 150, 0});
  CHECK(canvas.pixel(16, 40) == Color{0, 150, 0});
  CHECK(canvas.pixel(22, 46) == white);  // a disc, not a square

  Canvas dashed(100, 4, 1);
  const std::array<Point, 2> level{Point{0, 2}, Point{100, 2}};
  dashed.line(level, {.width = 2, .dashed = true});
  int changes = 0, dark = 0;
  for (int64_t x = 1; x < 100; ++x) {
    changes += (dashed.pixel(x, 2).red < 128) != (dashed.pixel(x - 1, 2).red < 128);
    dark += dashed.pixel(x, 2).red < 128;
  }
  CHECK(changes >= 10);
  CHECK((dark > 30 && dark < 75));
}

TEST_CASE("canvas: text lies where it is aligned, and turned text is the same turned") {
  Canvas level(60, 60, 2), upward(60, 60, 2);
  level.text({30, 30}, "Eg8", {.size = 14, .align = Align::center});
  upward.text({30, 30}, "Eg8", {.size = 14, .align = Align::center, .upward = true});
  int dark = 0, differ = 0;
  for (int64_t y = 0; y < 120; ++y) {
    for (int64_t x = 0; x < 120; ++x) {
      const Color a = level.pixel(x, y), b = upward.pixel(y, 119 - x);
      differ += std::abs(a.red - b.red) > 2;
      dark += a.red < 128;
      if (a != white) CHECK((x > 25 && x < 95 && y > 35 && y < 70));
    }
  }
  CHECK(dark > 200);
  CHECK(differ == 0);
}

TEST_CASE("canvas: errors") {
  CHECK_THROWS_WITH_AS(
      Canvas(0, 5), "Canvas: width and height must be positive and at most 32768 pixels, got 0 x 5 points at scale 2",
      std::invalid_argument);
  CHECK_THROWS_AS(Canvas(5.0, not_a_number), std::invalid_argument);
  CHECK_THROWS_AS(Canvas(20000, 5), std::invalid_argument);
  CHECK_THROWS_WITH_AS(Canvas(5, 5, 100), "Canvas: scale must be between 0.25 and 8, got 100", std::invalid_argument);
  Canvas canvas(5, 5);
  CHECK_THROWS_WITH_AS(canvas.pixel(10, 0), "Canvas: pixel (10, 0) is outside of 10 x 10", std::invalid_argument);
  const std::array<Point, 2> bad{Point{0, 0}, Point{inf, 0}};
  CHECK_THROWS_WITH_AS(canvas.line(bad, {}), "Canvas: points must be finite, got (inf, 0)", std::invalid_argument);
  CHECK_THROWS_WITH_AS(canvas.fill({0, inf, 1, 1}, black), "Canvas: rectangles must be finite, got 1 x 1 at (0, inf)",
                       std::invalid_argument);
  CHECK_THROWS_AS(canvas.text({not_a_number, 1}, "a"), std::invalid_argument);
  CHECK_THROWS_WITH_AS(canvas.line({}, {.width = 0}), "Canvas: the width of a line must be positive, got 0",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(canvas.dot({1, 1}, 0, black), "Canvas: the radius of a dot must be positive, got 0",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(canvas.text({1, 1}, "a", {.size = -1}), "Canvas: the size of text must be positive, got -1",
                       std::invalid_argument);
}

TEST_CASE("a PNG file has the signature and the size of the canvas") {
  const fs::path folder = fresh_folder("png"), path = folder / "picture.png";
  Canvas(300, 7, 1).save_png(path);
  const std::string file = bytes_of(path);
  REQUIRE(file.size() > 57);
  CHECK(file.substr(0, 8) == "\x89PNG\r\n\x1A\n");
  CHECK(file.substr(12, 4) == "IHDR");
  const auto number = [&](size_t at) {
    unsigned value = 0;
    for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(file[at + i]);
    return value;
  };
  CHECK(number(16) == 300);
  CHECK(number(20) == 7);
  CHECK(file.substr(24, 2) == "\x08\x02");  // 8 bits, RGB
  CHECK(file.substr(file.size() - 8, 4) == "IEND");
  CHECK(!fs::exists(folder / "picture.png.tmp"));
  Canvas(10, 10, 1).save_png(path);  // overwrites
  CHECK(bytes_of(path) != file);
  fs::remove_all(folder);
}

TEST_CASE("a PNG that cannot be written names its path and leaves nothing behind") {
  const fs::path folder = fresh_folder("errors");
  const Canvas canvas(10, 10, 1);
  const auto save = [&](const fs::path& path) { return message<std::runtime_error>([&] { canvas.save_png(path); }); };
  CHECK(save(folder / "none" / "a.png") ==
        "save_png: cannot write \"" + (folder / "none" / "a.png").string() + "\": No such file or directory");
  fs::create_directories(folder / "taken.png" / "full");
  CHECK(save(folder / "taken.png").find("cannot write \"" + (folder / "taken.png").string()) != std::string::npos);
  CHECK(!fs::exists(folder / "taken.png.tmp"));
  if (fs::exists("/dev/full")) {  // as on a full disk: opening works, writing does not
    fs::create_symlink("/dev/full", folder / "b.png.tmp");
    CHECK(save(folder / "b.png") ==
          "save_png: cannot write \"" + (folder / "b.png").string() + "\": No space left on device");
    CHECK(!fs::exists(folder / "b.png"));
    CHECK(!fs::is_symlink(folder / "b.png.tmp"));
  }
  CHECK_THROWS_WITH_AS(canvas.save_png(""), "save_png: the path must name a file, got \"\"", std::invalid_argument);
  const std::array<uint8_t, 3> pixel{};
  CHECK_THROWS_WITH_AS(write_png(folder / "c.png", 2, 1, pixel), "save_png: 2 x 1 pixels need 6 bytes, got 3",
                       std::invalid_argument);
  CHECK_THROWS_AS(write_png(folder / "c.png", 0, 1, {}), std::invalid_argument);
  fs::remove_all(folder);
}
