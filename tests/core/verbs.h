// SPDX-License-Identifier: Apache-2.0
// Kernels that use every verb of a team, for tests on all teams.
#pragma once
#include "core/team.h"

namespace moxie::testing {

// What one member saw of every verb.
struct Seen {
  int64_t int_sum = 0;
  float float_sum = 0;
  double double_sum = 0;
  float max = 0;
  double double_max = 0;
  int64_t argmax = 0;
  int64_t argmax_of_ties = 0;
};

// Runs all verbs over one row and stores what they return, from every member: all must see the same.
struct AllVerbs {
  const float* x;
  float* doubled;
  int64_t* onces;
  Seen* seen;  // [n + 1]: entry i written by whoever owns index i
  int64_t n;

  template <class Team> MOXIE_FN void operator()(Team team, int64_t) const {
    const float* in = x;
    float* out = doubled;
    Seen* results = seen;
    int64_t* count = onces;
    team.each(
        n, [=](int64_t i) { return 2 * in[i]; }, [=](int64_t i, float twice) { out[i] = twice; });
    team.once([=] { ++*count; });
    Seen s;
    s.int_sum = team.sum(n, [](int64_t i) { return i * i; });
    s.float_sum = team.sum(n, [=](int64_t i) { return in[i]; });
    s.double_sum = team.sum(n, [=](int64_t i) { return static_cast<double>(in[i]); });
    s.max = team.max(n, [=](int64_t i) { return in[i]; });
    s.double_max = team.max(n, [=](int64_t i) { return -static_cast<double>(in[i]); });
    s.argmax = team.argmax(n, [=](int64_t i) { return in[i]; });
    s.argmax_of_ties = team.argmax(n, [=](int64_t i) { return static_cast<float>(i * 7 % 5); });
    team.each(n + 1, [=](int64_t i) { results[i] = s; });
  }
};

// y[i] = sum(x) + t[n - 1 - i] with t = 2 x: the second pass reads what other members wrote in the first.
struct TwoPasses {
  const float* x;
  float* t;
  float* y;
  int64_t cols;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t n = cols;
    const float* in = x + row * n;
    float* twice = t + row * n;
    float* out = y + row * n;
    team.each(n, [=](int64_t i) { twice[i] = 2 * in[i]; });
    const float top = team.max(n, [=](int64_t i) { return in[i]; });
    team.sync();
    team.each(n, [=](int64_t i) { out[i] = top + twice[n - 1 - i]; });
  }
};

}  // namespace moxie::testing
