// SPDX-License-Identifier: Apache-2.0
#include "nn/module.h"

#include <map>

namespace moxie::nn {

std::vector<NamedArray> values(const std::vector<NamedParameter>& parameters) {
  std::vector<NamedArray> arrays;
  for (const NamedParameter& named : parameters) arrays.push_back({named.name, named.parameter.value()});
  return arrays;
}

void set_values(std::vector<NamedParameter>& parameters, const std::vector<NamedArray>& arrays) {
  std::map<std::string, Array> by_name;
  for (const NamedArray& named : arrays) by_name[named.name] = named.array;
  for (const NamedParameter& named : parameters) {
    const auto found = by_name.find(named.name);
    check(found != by_name.end(), "load: the file has no tensor '{}', which the model needs", named.name);
    const Array &given = found->second, &wanted = named.parameter.value();
    check(given.shape() == wanted.shape() && given.dtype() == wanted.dtype(),
          "load: tensor '{}' is {} {} in the file and {} {} in the model", named.name, name_of(given.dtype()),
          given.shape(), name_of(wanted.dtype()), wanted.shape());
  }
  check(by_name.size() == parameters.size(),
        "load: the file has {} tensors, the model {} parameters; first unknown: '{}'", by_name.size(),
        parameters.size(), [&] {
          for (const auto& [name, array] : by_name) {
            bool known = false;
            for (const NamedParameter& named : parameters) known = known || named.name == name;
            if (!known) return name;
          }
          return std::string("none");
        }());
  for (NamedParameter& named : parameters) named.parameter.set_value(by_name[named.name]);
}

}  // namespace moxie::nn
