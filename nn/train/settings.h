// SPDX-License-Identifier: Apache-2.0
// Options as JSON text and back, so that a run can store what it was started with.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace moxie::train {

// An option that is one of several names.
struct Choice {
  std::function<std::string()> get;
  std::function<void(const std::string&)> set;  // throws std::invalid_argument for a name that it doesn't know
};

// A named place where an option lives. Dots in the name nest: "router.top_k" is {"router": {"top_k": ..}}.
struct Setting {
  std::string name;
  std::variant<bool*, int64_t*, uint64_t*, double*, std::string*, Choice> place;
};

// A Choice of an enum with name_of(value) and a function from the name.
template <class Enum> Setting choice(std::string name, Enum& value, Enum (*from_name)(std::string_view)) {
  return {std::move(name), Choice{[&value] { return std::string(name_of(value)); },
                                  [&value, from_name](const std::string& text) { value = from_name(text); }}};
}

// The settings with "prefix." before each name.
std::vector<Setting> nested(const std::string& prefix, std::vector<Setting> settings);

// All values as an indented JSON object, in the settings' order. Numbers come back exactly.
std::string to_json(const std::vector<Setting>& settings);

// Writes the values of a JSON object to their places; what isn't there keeps its value. Throws std::invalid_argument,
// beginning with `what`, for text that is no JSON, a name that no setting has, and a value of the wrong type.
void from_json(const std::vector<Setting>& settings, std::string_view text, const std::string& what);

}  // namespace moxie::train
