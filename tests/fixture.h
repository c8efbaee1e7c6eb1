// SPDX-License-Identifier: Apache-2.0
// The numbers of another program, stored in tests/fixtures.
#pragma once
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <string>

#include "nn/safetensors.h"
#include "tests/device.h"

namespace moxie::testing {

// tests/fixtures. Defined in fixture.cpp, so that no other object holds a path of this machine.
std::filesystem::path fixtures_folder();

// The arrays of a stored fixture, by name.
class Fixture final {
 public:
  explicit Fixture(const std::string& name) {
    for (nn::NamedArray& named : nn::read_safetensors((fixtures_folder() / name).string()).arrays)
      arrays_.emplace(named.name, named.array);
  }
  // On the device that the test case runs on.
  Array operator[](const std::string& name) const {
    const auto found = arrays_.find(name);
    REQUIRE_MESSAGE(found != arrays_.end(), name);
    return found->second.to(current_device());
  }
  bool has(const std::string& name) const { return arrays_.contains(name); }
  // How many names begin so.
  size_t count(const std::string& prefix) const {
    size_t total = 0;
    for (const auto& [name, array] : arrays_) total += name.starts_with(prefix) ? 1 : 0;
    return total;
  }

 private:
  std::map<std::string, Array> arrays_;
};

}  // namespace moxie::testing
