// SPDX-License-Identifier: Apache-2.0
// How the benchmarks take time: alternating runs of two functions in one process, medians of each.
#pragma once
#include <algorithm>
#include <chrono>
#include <vector>

namespace moxie::bench {

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Milliseconds that one call of f takes.
template <class F> double milliseconds(F&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

struct Pair {
  double first, second;  // median milliseconds
  double ratio;          // median of first / second, pair by pair
};

// Times f and g in turns, `repeats` times after one call of each that isn't counted.
template <class F, class G> Pair in_turns(int repeats, F&& f, G&& g) {
  f(), g();
  std::vector<double> first, second, ratio;
  for (int i = 0; i < repeats; ++i) {
    first.push_back(milliseconds(f));
    second.push_back(milliseconds(g));
    ratio.push_back(first.back() / second.back());
  }
  return {median(first), median(second), median(ratio)};
}

}  // namespace moxie::bench
