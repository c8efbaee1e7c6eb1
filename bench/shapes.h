// SPDX-License-Identifier: Apache-2.0
// The language models that the CPU benchmarks train: those that the peers were measured at.
#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "core/check.h"

namespace moxie::bench {

struct ModelShape {
  int64_t layers, width, heads, experts, top_k, hidden, time, batch;
  bool dense;
};

inline const std::map<std::string, ModelShape>& shapes() {
  static const std::map<std::string, ModelShape> all = {
      {"tiny", {4, 128, 4, 8, 2, 128, 128, 16, false}},
      {"small", {8, 256, 8, 16, 2, 256, 256, 16, false}},
      {"fine", {8, 256, 8, 64, 8, 64, 256, 16, false}},
      {"dense", {8, 256, 8, 1, 1, 512, 256, 16, true}},
  };
  return all;
}

inline const char* shape_names() { return "tiny, small, fine or dense"; }

// `batch` 0: the shape's own.
inline ModelShape shape_named(const std::string& name, int64_t batch) {
  check(shapes().contains(name), "shape: must be {}, got '{}'", shape_names(), name);
  ModelShape shape = shapes().at(name);
  if (batch > 0) shape.batch = batch;
  return shape;
}

}  // namespace moxie::bench
