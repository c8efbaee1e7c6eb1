// SPDX-License-Identifier: Apache-2.0
// nn/train/settings.h: options as JSON and back.
#include "nn/train/settings.h"

#include <doctest/doctest.h>

#include <limits>
#include <stdexcept>

using namespace moxie::train;

namespace {

enum class Colour { red, green };
const char* name_of(Colour colour) { return colour == Colour::red ? "red" : "green"; }
Colour colour_from_name(std::string_view name) {
  if (name == "red") return Colour::red;
  if (name == "green") return Colour::green;
  throw std::invalid_argument("colour must be red or green");
}

struct Options {
  bool flag = false;
  int64_t count = -3;
  uint64_t seed = 1;
  double rate = 0.1;
  std::string name = "a \"b\"\n";
  Colour colour = Colour::red;
};
std::vector<Setting> settings(Options& o) {
  return {{"flag", &o.flag}, {"inner.count", &o.count}, {"inner.deep.seed", &o.seed},
          {"rate", &o.rate}, {"name", &o.name},         choice("colour", o.colour, colour_from_name)};
}
void read(Options& options, std::string_view text) { from_json(settings(options), text, "here"); }

}  // namespace

TEST_CASE("settings: values come back exactly") {
  Options written{.flag = true,
                  .count = std::numeric_limits<int64_t>::min(),
                  .seed = std::numeric_limits<uint64_t>::max(),
                  .rate = 0.1 + 0.2,
                  .name = "α/\\\"",
                  .colour = Colour::green};
  const std::string text = to_json(settings(written));
  Options read_back;
  read(read_back, text);
  CHECK(read_back.flag);
  CHECK(read_back.count == written.count);
  CHECK(read_back.seed == written.seed);
  CHECK(read_back.rate == written.rate);
  CHECK(read_back.name == written.name);
  CHECK(read_back.colour == Colour::green);
  CHECK(to_json(settings(read_back)) == text);
}

TEST_CASE("settings: names with dots nest, in their order") {
  Options options;
  CHECK(to_json(nested("outer", {{"b", &options.count}, {"a", &options.flag}})) ==
        "{\n  \"outer\": {\n    \"b\": -3,\n    \"a\": false\n  }\n}");
}

TEST_CASE("settings: what is left out keeps its value") {
  Options options;
  read(options, R"({"inner": {"count": 7}})");
  CHECK(options.count == 7);
  CHECK(options.seed == 1);
  CHECK(options.rate == 0.1);
  read(options, R"({"rate": 2})");  // a whole number is a number too
  CHECK(options.rate == 2);
}

TEST_CASE("settings: what is wrong is named") {
  Options options;
  CHECK_THROWS_WITH_AS(read(options, "{"), "here: this is no JSON object", std::invalid_argument);
  CHECK_THROWS_WITH_AS(read(options, "[1]"), "here: this is no JSON object", std::invalid_argument);
  CHECK_THROWS_WITH_AS(read(options, R"({"rat": 1})"), "here: there is no setting 'rat'", std::invalid_argument);
  CHECK_THROWS_WITH_AS(read(options, R"({"inner": {"seeds": 1}})"), "here: there is no setting 'inner.seeds'",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(read(options, R"({"flag": 1})"), "here: 'flag' must be true or false, got 1",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(read(options, R"({"inner": {"count": 1.5}})"),
                       "here: 'inner.count' must be a whole number, got 1.5", std::invalid_argument);
  CHECK_THROWS_WITH_AS(read(options, R"({"inner": {"count": 9223372036854775808}})"),
                       "here: 'inner.count' must be a whole number, got 9223372036854775808", std::invalid_argument);
  CHECK_THROWS_WITH_AS(read(options, R"({"inner": {"deep": {"seed": -1}}})"),
                       "here: 'inner.deep.seed' must be a whole number from 0 up, got -1", std::invalid_argument);
  CHECK_THROWS_WITH_AS(read(options, R"({"rate": "fast"})"), "here: 'rate' must be a number, got \"fast\"",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(read(options, R"({"name": null})"), "here: 'name' must be a text, got null",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(read(options, R"({"colour": "blue"})"), "colour must be red or green", std::invalid_argument);
}
