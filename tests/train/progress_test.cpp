// SPDX-License-Identifier: Apache-2.0
// nn/train/progress.h, interrupt.h and memory.h.
#include "nn/train/progress.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <limits>
#include <utility>
#include <vector>

#include "nn/train/interrupt.h"
#include "nn/train/memory.h"
#include "tests/temporary_folder.h"

using namespace moxie::train;
using namespace moxie::test;

TEST_CASE("format_duration: two units, rounded, never 60 of one") {
  CHECK(format_duration(0) == "0.0s");
  CHECK(format_duration(0.84) == "0.8s");
  CHECK(format_duration(9.94) == "9.9s");
  CHECK(format_duration(9.96) == "10s");
  CHECK(format_duration(59.4) == "59s");
  CHECK(format_duration(59.6) == "1m00s");
  CHECK(format_duration(271) == "4m31s");
  CHECK(format_duration(3599.6) == "1h00m");
  CHECK(format_duration(3720) == "1h02m");
  CHECK(format_duration(86399) == "1d00h");
  CHECK(format_duration(183600) == "2d03h");
  CHECK(format_duration(1e12) == "11574074d");
  CHECK(format_duration(-1) == "?");
  CHECK(format_duration(std::numeric_limits<double>::infinity()) == "?");
  CHECK(format_duration(std::numeric_limits<double>::quiet_NaN()) == "?");
}

TEST_CASE("format_bytes, format_count, format_flops: three digits and a unit") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(1000) == "1.00 kB");
  CHECK(format_bytes(512e6) == "512 MB");
  CHECK(format_bytes(999.6e6) == "1.00 GB");
  CHECK(format_bytes(1.25e9) == "1.25 GB");
  CHECK(format_bytes(3e18) == "3000 PB");
  CHECK(format_count(950) == "950");
  CHECK(format_count(18249) == "18.2k");
  CHECK(format_count(99960) == "100k");
  CHECK(format_count(1.314e6) == "1.31M");
  CHECK(format_count(2.4e9) == "2.40G");
  CHECK(format_count(12.34) == "12.3");
  CHECK(format_flops(31.24e9) == "31.2 GFLOP/s");
  CHECK(format_flops(1.24e12) == "1.24 TFLOP/s");
  CHECK(format_flops(5e5) == "0.50 MFLOP/s");
  const double nan_value = std::numeric_limits<double>::quiet_NaN();
  CHECK(contains(format_bytes(nan_value), "nan"));
  CHECK(contains(format_count(nan_value), "nan"));
  CHECK(contains(format_flops(nan_value), "nan"));
}

TEST_CASE("format_progress: one line, aligned, with what there is") {
  Progress p{.step = 120, .steps = 1377, .loss = 2.31449};
  CHECK(format_progress(p) == " 120/1377  loss 2.3145  val   -   ");
  p.validation_loss = 2.2981;
  p.balance_loss = 1.02131;
  p.erc_loss = 0.0451;
  p.load_max_over_mean = 1.418;
  p.gradient_norm = 0.5312;
  p.learning_rate = 0.003;
  p.seconds_per_step = 0.2154;
  p.tokens_per_second = 9510;
  p.flops_per_second = 31.2e9;
  p.memory_bytes = 412'000'000;
  p.seconds_left = 271;
  CHECK(format_progress(p) ==
        " 120/1377  loss 2.3145  val 2.2981  balance 1.0213  erc 0.0451  load 1.42  |g| 0.531  lr 3.00e-03   215 ms  "
        "9.51k tok/s  31.2 GFLOP/s   412 MB  left 4m31s");
  p.loss = std::numeric_limits<double>::quiet_NaN();
  CHECK(contains(format_progress(p), "loss nan"));
}

TEST_CASE("StepTimer: the median of the last steps, unmoved by a slow one") {
  StepTimer timer(5);
  CHECK(timer.seconds_per_step() == 0);
  CHECK_FALSE(timer.seconds_left(10).has_value());
  timer.add(2);
  CHECK(timer.seconds_per_step() == 2);
  timer.add(4);
  CHECK(timer.seconds_per_step() == 3);
  timer.add(1000);
  CHECK(timer.seconds_per_step() == 4);
  for (const double seconds : {1.0, 1.0, 1.0, 500.0, 1.0}) timer.add(seconds);
  CHECK(timer.seconds_per_step() == 1);
  CHECK(timer.seconds_left(90) == 90);
  CHECK(timer.seconds_left(-5) == 0);
  CHECK_THROWS_WITH_AS(timer.add(-1), "StepTimer: a time must be finite and not negative, got -1",
                       std::invalid_argument);
  CHECK_THROWS_AS(timer.add(std::numeric_limits<double>::quiet_NaN()), std::invalid_argument);
  CHECK_THROWS_WITH_AS(StepTimer(0), "StepTimer: the window must be at least 1, got 0", std::invalid_argument);
}

TEST_CASE("InterruptGuard: the first signal is a flag, handlers come back") {
  const auto handlers = [] {
    struct sigaction interrupt {
    }, terminate{};
    ::sigaction(SIGINT, nullptr, &interrupt);
    ::sigaction(SIGTERM, nullptr, &terminate);
    return std::pair(interrupt.sa_handler, terminate.sa_handler);
  };
  const auto before = handlers();
  {
    const InterruptGuard guard;
    CHECK_FALSE(interrupted());
    CHECK_THROWS_AS(InterruptGuard(), std::logic_error);
    ::raise(SIGTERM);
    CHECK(interrupted());
    CHECK(interrupt_signal() == SIGTERM);
    CHECK((handlers() != before));
  }
  CHECK(interrupted());
  CHECK((handlers() == before));
  const InterruptGuard again;
  CHECK_FALSE(interrupted());
  CHECK(interrupt_signal() == 0);
}

TEST_CASE("InterruptGuard: the second signal ends the process, one that was ignored stays ignored") {
  const auto run = [](auto&& f) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);
      f();
      ::_exit(interrupted() ? 7 : 8);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
  };
  const int once = run([] {
    const InterruptGuard guard;
    ::raise(SIGINT);
  });
  CHECK(WIFEXITED(once));
  CHECK(WEXITSTATUS(once) == 7);
  const int twice = run([] {
    ::signal(SIGINT, SIG_DFL);
    const InterruptGuard guard;
    ::raise(SIGINT);
    ::raise(SIGINT);
  });
  CHECK(WIFSIGNALED(twice));
  CHECK(WTERMSIG(twice) == SIGINT);
  const int ignored = run([] {
    ::signal(SIGINT, SIG_IGN);
    const InterruptGuard guard;
    ::raise(SIGINT);
  });
  CHECK(WIFEXITED(ignored));
  CHECK(WEXITSTATUS(ignored) == 8);
}

TEST_CASE("memory: touching pages shows, giving them back leaves the peak") {
  constexpr int64_t size = 64 << 20;
  const int64_t before = resident_bytes();
  CHECK(before > 1 << 20);
  int64_t during = 0;
  {
    const std::vector<char> block(static_cast<size_t>(size), 'x');
    CHECK(block[size / 2] == 'x');
    during = resident_bytes();
  }
  CHECK(during - before > size / 2);
  CHECK(peak_resident_bytes() >= during - (4 << 20));
  CHECK(resident_bytes() < during - size / 2);
}
