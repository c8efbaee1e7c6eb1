// SPDX-License-Identifier: Apache-2.0
// nn/schedule.h: every shape at its corners and in between.
#include "nn/schedule.h"

#include "tests/nn/support.h"

using namespace moxie;
using namespace moxie::nn;
using namespace moxie::testing;

namespace {

Numbers rates(const Schedule& schedule, int64_t count) {
  Numbers all;
  for (int64_t step = 0; step < count; ++step) all.push_back(schedule.at(step));
  return all;
}

void check_near(const Numbers& found, const Numbers& expected) {
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) CHECK(found[i] == doctest::Approx(expected[i]).epsilon(1e-12));
}

}  // namespace

TEST_CASE("Schedule: warm-up, then cosine, linear or constant") {
  Schedule schedule{.peak = 2, .steps = 7, .warmup = 2, .decay = Decay::linear, .final_share = 0.2};
  check_near(rates(schedule, 9), {1, 2, 2, 1.6, 1.2, 0.8, 0.4, 0.4, 0.4});
  schedule.decay = Decay::cosine;
  check_near(rates(schedule, 8),
             {1, 2, 2, 0.4 + 1.6 * (0.5 + std::sqrt(0.125)), 1.2, 0.4 + 1.6 * (0.5 - std::sqrt(0.125)), 0.4, 0.4});
  schedule.decay = Decay::constant;
  check_near(rates(schedule, 8), {1, 2, 2, 2, 2, 2, 2, 2});
}

TEST_CASE("Schedule: WSD stays at the peak and falls in its last share of the steps") {
  Schedule schedule{
      .peak = 2, .steps = 10, .warmup = 2, .decay = Decay::wsd_linear, .final_share = 0, .decay_share = 0.4};
  check_near(rates(schedule, 11), {1, 2, 2, 2, 2, 2, 1.5, 1, 0.5, 0, 0});
  schedule.decay = Decay::wsd_sqrt;
  schedule.final_share = 0.5;
  check_near(rates(schedule, 11),
             {1, 2, 2, 2, 2, 2, 1 + 0.5, 1 + (1 - std::sqrt(0.5)), 1 + (1 - std::sqrt(0.75)), 1, 1});
  schedule.decay_share = 0;
  check_near(rates(schedule, 11), {1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2});
  schedule.decay_share = 1;  // the warm-up goes before
  CHECK(schedule.at(0) == 1);
  CHECK(schedule.at(1) == 2);
  CHECK(schedule.at(9) == 1);
  // A longer run is the same until the shorter one falls.
  const Schedule shorter{.peak = 1, .steps = 100, .warmup = 10, .decay = Decay::wsd_linear, .decay_share = 0.2};
  Schedule longer = shorter;
  longer.steps = 1000;
  for (int64_t step = 0; step < 80; ++step) CHECK(shorter.at(step) == longer.at(step));
  CHECK(shorter.at(80) < longer.at(80));
}

TEST_CASE("Schedule: one cycle without a rise, and of one step") {
  Schedule schedule{.peak = 1, .steps = 3, .warmup = 0, .decay = Decay::one_cycle, .final_share = 0};
  check_near(rates(schedule, 4), {1, 0.5, 0, 0});
  schedule.steps = 1;
  CHECK(schedule.at(0) == 1);
  schedule.warmup = 1;
  CHECK(schedule.at(0) == 1);
}

TEST_CASE("Schedule: names and messages") {
  for (const char* name : {"cosine", "linear", "constant", "wsd_linear", "wsd_sqrt", "one_cycle"})
    CHECK(std::string(name_of(decay_from_name(name))) == name);
  CHECK(refusal([] { decay_from_name("step"); }) ==
        "schedule: decay must be cosine, linear, constant, wsd_linear, wsd_sqrt or one_cycle, got 'step'");
  CHECK(refusal([] { Schedule{.steps = 0}.at(0); }) ==
        "Schedule: steps must be positive, warmup and final_share not negative, got 0, 0, 0.1");
  CHECK(refusal([] { Schedule{.decay_share = 1.5}.at(0); }) ==
        "Schedule: decay_share must be in [0, 1] and initial_share not negative, got 1.5 and 0.04");
}
