// SPDX-License-Identifier: Apache-2.0
// Where an array lives.
#pragma once
#include <cstdint>
#include <string>

namespace moxie {

struct Device {
  enum class Kind : uint8_t { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;

  static Device cpu() { return {}; }
  static Device cuda(int index = 0) { return {Kind::cuda, index}; }
  // True where the library was built with CUDA and a usable GPU is present.
  static bool has_cuda();

  bool is_cpu() const { return kind == Kind::cpu; }
  bool is_cuda() const { return kind == Kind::cuda; }
  std::string name() const { return is_cpu() ? "cpu" : "cuda:" + std::to_string(index); }
  bool operator==(const Device&) const = default;
};

}  // namespace moxie
