// SPDX-License-Identifier: Apache-2.0
// The verbs of core/team.h: SerialTeam against plain loops, ThreadTeam against SerialTeam.
#include "core/team.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "core/philox.h"
#include "core/thread_team.h"
#include "tests/core/verbs.h"

using namespace moxie;
using moxie::testing::AllVerbs, moxie::testing::Seen, moxie::testing::TwoPasses;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float quiet_nan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> test_row(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = normal_at(RandomKey{.seed = 11, .stream = 3}, i);
  return x;
}

template <class Team> int64_t argmax_of(const Team& team, const std::vector<float>& x) {
  const float* in = x.data();
  return team.argmax(static_cast<int64_t>(x.size()), [=](int64_t i) { return in[i]; });
}

// The argmax that a team of threads finds; every member must find the same.
struct ArgmaxKernel {
  const std::vector<float>* x;
  int64_t* result;  // [members]
  int64_t members;
  template <class Team> void operator()(Team team, int64_t) const {
    const int64_t found = argmax_of(team, *x);
    int64_t* out = result;
    team.each(members, [=](int64_t member) { out[member] = found; });
  }
};

}  // namespace

TEST_CASE("SerialTeam: the verbs") {
  const SerialTeam team;
  const std::vector<float> x = {3, -1, 7, 7, 2};
  const float* in = x.data();
  const auto value = [=](int64_t i) { return in[i]; };
  std::vector<int> visits(5);
  team.each(5, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
  CHECK(visits == std::vector<int>(5, 1));
  std::vector<float> copy(5);
  team.each(5, value, [&](int64_t i, float v) { copy[static_cast<size_t>(i)] = v; });
  CHECK(copy == x);
  CHECK(team.sum(5, value) == 18.0f);
  CHECK(team.max(5, value) == 7.0f);
  CHECK(team.argmax(5, value) == 2);
  int calls = 0;
  team.once([&] { ++calls; });
  CHECK(calls == 1);
  team.sync();
}

TEST_CASE("SerialTeam: sums and maxima of whole and ragged rows take every element once") {
  const SerialTeam team;
  int64_t wrong_sums = 0, wrong_maxima = 0;
  for (int64_t n = 1; n <= 200; ++n) {
    wrong_sums += team.sum(n, [](int64_t i) { return static_cast<double>(i * i); }) !=
                  static_cast<double>((n - 1) * n * (2 * n - 1) / 6);
    for (int64_t top = 0; top < n; ++top)
      wrong_maxima += team.max(n, [=](int64_t i) { return i == top ? 1.0f : i % 2 == 0 ? -1.0f : quiet_nan; }) != 1.0f;
  }
  CHECK(wrong_sums == 0);
  CHECK(wrong_maxima == 0);
  CHECK(team.sum(100, [](int64_t) { return 1; }) == 100);
}

TEST_CASE("SerialTeam: nothing to do") {
  const SerialTeam team;
  const auto value = [](int64_t) { return 1.0f; };
  CHECK(team.sum(0, value) == 0.0f);
  CHECK(team.max(0, value) == -infinity);
  CHECK(team.argmax(0, value) == -1);
}

TEST_CASE("argmax: lowest of equals, NaN never wins, on all teams") {
  struct Row {
    std::vector<float> x;
    int64_t expected;
  };
  std::vector<float> late(1000, 0.5f);
  late[700] = late[701] = late[999] = 2.0f;
  const std::vector<Row> rows = {{{1, 1, 1}, 0},
                                 {{0, 5, 5}, 1},
                                 {{quiet_nan, 1, 2}, 2},
                                 {{2, quiet_nan, 1}, 0},
                                 {{1, quiet_nan, 2, 2}, 2},
                                 {{quiet_nan, -infinity}, 1},
                                 {{quiet_nan, quiet_nan, quiet_nan}, 0},
                                 {{-infinity, -infinity, -infinity}, 0},
                                 {{-3, infinity, infinity}, 1},
                                 {{0.0f, -0.0f}, 0},
                                 {late, 700},
                                 {{}, -1}};
  for (const Row& row : rows) {
    CAPTURE(row.expected);
    CHECK(argmax_of(SerialTeam{}, row.x) == row.expected);
    for (int members = 1; members <= 5; ++members) {
      std::vector<int64_t> found(static_cast<size_t>(members), -2);
      run_rows_thread_team(ArgmaxKernel{&row.x, found.data(), members}, 1, members);
      CHECK(found == std::vector<int64_t>(static_cast<size_t>(members), row.expected));
    }
  }
}

TEST_CASE("ThreadTeam: every verb agrees with SerialTeam, and all members see the same") {
  for (const int64_t n : {0, 1, 31, 32, 33, 1000}) {
    const std::vector<float> x = test_row(n);
    std::vector<float> doubled(x.size()), serial_doubled(x.size());
    std::vector<Seen> seen(x.size() + 1);
    int64_t onces = 0;
    AllVerbs{x.data(), serial_doubled.data(), &onces, seen.data(), n}(SerialTeam{}, 0);
    const Seen serial = seen[0];
    CHECK(onces == 1);
    for (int members = 1; members <= 5; ++members) {
      CAPTURE(n);
      CAPTURE(members);
      std::fill(doubled.begin(), doubled.end(), quiet_nan);
      seen.assign(x.size() + 1, Seen{-1, quiet_nan, 0, quiet_nan, 0, -2, -2});
      onces = 0;
      run_rows_thread_team(AllVerbs{x.data(), doubled.data(), &onces, seen.data(), n}, 1, members);
      CHECK(onces == 1);
      CHECK(doubled == serial_doubled);
      int64_t different = 0;
      for (const Seen& s : seen) {
        different += s.int_sum != serial.int_sum;
        different += !(std::abs(s.float_sum - serial.float_sum) <= 1e-4f);
        different += !(std::abs(s.double_sum - serial.double_sum) <= 1e-12);
        different += s.float_sum != seen[0].float_sum || s.double_sum != seen[0].double_sum;
        different += s.max != serial.max || s.double_max != serial.double_max;
        different += s.argmax != serial.argmax || s.argmax_of_ties != serial.argmax_of_ties;
      }
      CHECK(different == 0);
    }
  }
}

TEST_CASE("ThreadTeam: a kernel of two passes with a sync equals the serial one") {
  const int64_t rows = 50;
  for (const int64_t cols : {1, 31, 37}) {
    const std::vector<float> x = test_row(rows * cols);
    std::vector<float> t(x.size()), serial(x.size()), threads(x.size());
    const TwoPasses kernel{x.data(), t.data(), serial.data(), cols};
    for (int64_t row = 0; row < rows; ++row) kernel(SerialTeam{}, row);
    for (int members = 1; members <= 5; ++members) {
      std::fill(t.begin(), t.end(), quiet_nan);
      run_rows_thread_team(TwoPasses{x.data(), t.data(), threads.data(), cols}, rows, members);
      CHECK(threads == serial);
    }
  }
}

// For ThreadSanitizer's build, which runs it by itself and must find it (tests/CMakeLists.txt): a sum makes the members
// wait for each other, but orders no memory.
TEST_CASE("ThreadTeam: a race" * doctest::skip()) {
  std::vector<int64_t> t(2);
  int64_t* const at = t.data();
  run_rows_thread_team(
      [at](auto team, int64_t) {
        team.each(2, [=](int64_t i) { at[i] = i; });
        team.sum(2, [=](int64_t i) { return i; });
        team.each(2, [=](int64_t i) { at[i] += at[1 - i]; });
      },
      1, 2);
}

TEST_CASE("ThreadTeam: each_normal draws the same numbers") {
  std::vector<float> serial(77), threads(77);
  const auto draw = [](auto team, float* out) {
    each_normal(team, RandomKey{.seed = 5}, 3, 77, [=](int64_t i, float z) { out[i] = z; });
  };
  draw(SerialTeam{}, serial.data());
  run_rows_thread_team([&](auto team, int64_t) { draw(team, threads.data()); }, 1, 3);
  CHECK(threads == serial);
}

TEST_CASE("run_rows_thread_team: no rows, and too few members") {
  int64_t calls = 0;
  run_rows_thread_team([&](auto, int64_t) { ++calls; }, 0, 2);
  CHECK(calls == 0);
  CHECK_THROWS_WITH_AS(run_rows_thread_team([](auto, int64_t) {}, 1, 0),
                       "run_rows_thread_team: members must be at least 1, got 0", std::invalid_argument);
}

TEST_CASE("SerialTeam: the first of the largest whole numbers, of few and of many") {
  const SerialTeam team;
  constexpr int64_t least = std::numeric_limits<int64_t>::min();
  int64_t wrong = 0;
  for (int64_t n = 1; n <= 70; ++n) {
    wrong += team.argmax(n, [](int64_t) { return least; }) != 0;
    for (int64_t top = 0; top < n; ++top)
      for (const int64_t again : {top, n - 1})
        wrong += team.argmax(n, [=](int64_t i) { return i == top || i == again ? int64_t{3} : i % 3 - 2; }) != top;
  }
  CHECK(wrong == 0);
}
