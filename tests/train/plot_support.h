// SPDX-License-Identifier: Apache-2.0
// What the tests of plots share: where a colour is, and what a refusal says.
#pragma once
#include <algorithm>
#include <stdexcept>
#include <string>

#include "nn/train/plot.h"

namespace moxie::test {

// Where exactly this colour is.
struct Found {
  int64_t count = 0, left = 1 << 20, right = -1, top = 1 << 20, bottom = -1;
  int64_t width() const { return right - left + 1; }
  int64_t height() const { return bottom - top + 1; }
};

inline Found find(const train::Canvas& canvas, train::Color color) {
  Found found;
  for (int64_t y = 0; y < canvas.pixel_height(); ++y)
    for (int64_t x = 0; x < canvas.pixel_width(); ++x) {
      if (canvas.pixel(x, y) != color) continue;
      ++found.count;
      found.left = std::min(found.left, x), found.right = std::max(found.right, x);
      found.top = std::min(found.top, y), found.bottom = std::max(found.bottom, y);
    }
  return found;
}

template <class F> std::string refusal(F&& f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace moxie::test
