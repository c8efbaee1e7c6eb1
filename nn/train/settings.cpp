// SPDX-License-Identifier: Apache-2.0
#include "nn/train/settings.h"

#include <map>
#include <nlohmann/json.hpp>

#include "core/check.h"

namespace moxie::train {
namespace {

using Json = nlohmann::ordered_json;

Json value_of(const Setting& setting) {
  return std::visit(
      [](const auto& place) {
        if constexpr (std::is_same_v<std::decay_t<decltype(place)>, Choice>)
          return Json(place.get());
        else
          return Json(*place);
      },
      setting.place);
}

Json& place_in(Json& object, std::string_view name) {
  const size_t dot = name.find('.');
  Json& child = object[std::string(name.substr(0, dot))];
  return dot == std::string_view::npos ? child : place_in(child, name.substr(dot + 1));
}

// The leaves of a JSON object under their dotted names.
void flatten(const Json& object, const std::string& prefix, std::map<std::string, Json>& leaves) {
  for (const auto& [key, value] : object.items()) {
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    if (value.is_object())
      flatten(value, name, leaves);
    else
      leaves[name] = value;
  }
}

void assign(const Setting& setting, const Json& value, const std::string& what) {
  const auto expect = [&](bool right, const char* kind) {
    check(right, "{}: '{}' must be {}, got {}", what, setting.name, kind, value.dump());
  };
  std::visit(
      [&](const auto& place) {
        using Place = std::decay_t<decltype(place)>;
        if constexpr (std::is_same_v<Place, bool*>) {
          expect(value.is_boolean(), "true or false");
          *place = value.get<bool>();
        } else if constexpr (std::is_same_v<Place, int64_t*>) {
          expect(value.is_number_integer() && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX),
                 "a whole number");
          *place = value.get<int64_t>();
        } else if constexpr (std::is_same_v<Place, uint64_t*>) {
          expect(value.is_number_unsigned(), "a whole number from 0 up");
          *place = value.get<uint64_t>();
        } else if constexpr (std::is_same_v<Place, double*>) {
          expect(value.is_number(), "a number");
          *place = value.get<double>();
        } else {
          expect(value.is_string(), "a text");
          if constexpr (std::is_same_v<Place, Choice>)
            place.set(value.get<std::string>());
          else
            *place = value.get<std::string>();
        }
      },
      setting.place);
}

}  // namespace

std::vector<Setting> nested(const std::string& prefix, std::vector<Setting> settings) {
  for (Setting& setting : settings) setting.name = prefix + "." + setting.name;
  return settings;
}

std::string to_json(const std::vector<Setting>& settings) {
  Json object = Json::object();
  for (const Setting& setting : settings) place_in(object, setting.name) = value_of(setting);
  return object.dump(2, ' ', false, Json::error_handler_t::replace);
}

void from_json(const std::vector<Setting>& settings, std::string_view text, const std::string& what) {
  const Json object = Json::parse(text.begin(), text.end(), nullptr, false);
  check(object.is_object(), "{}: this is no JSON object", what);
  std::map<std::string, Json> leaves;
  flatten(object, "", leaves);
  for (const Setting& setting : settings) {
    const auto found = leaves.find(setting.name);
    if (found == leaves.end()) continue;
    assign(setting, found->second, what);
    leaves.erase(found);
  }
  check(leaves.empty(), "{}: there is no setting '{}'", what, leaves.empty() ? "" : leaves.begin()->first);
}

}  // namespace moxie::train
