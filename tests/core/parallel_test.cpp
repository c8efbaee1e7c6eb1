// SPDX-License-Identifier: Apache-2.0
// core/parallel.h and core/launch.h: every index exactly once, whatever the number of threads.
#include "core/parallel.h"

#include <doctest/doctest.h>

#include <stdexcept>
#include <vector>

#include "core/launch.h"

using namespace moxie;

namespace {

// Restores the number of threads at the end of a test.
class ThreadsGuard final {
 public:
  ThreadsGuard() = default;
  ThreadsGuard(const ThreadsGuard&) = delete;
  ThreadsGuard& operator=(const ThreadsGuard&) = delete;
  ~ThreadsGuard() { set_threads(before_); }

 private:
  int before_ = threads();
};

struct CountRow {
  int* visits;
  int64_t cols;
  template <class Team> void operator()(Team team, int64_t row) const {
    int* out = visits + row * cols;
    team.each(cols, [=](int64_t i) { ++out[i]; });
  }
};

}  // namespace

TEST_CASE("parallel_for: every index exactly once") {
  const ThreadsGuard guard;
  for (const int count_of_threads : {1, 2, 3, 7}) {
    set_threads(count_of_threads);
    for (const bool parallel : {false, true}) {
      for (const int64_t count : {0, 1, 2, 3, 100, 1001}) {
        std::vector<int> even(static_cast<size_t>(count)), uneven(even.size());
        parallel_for(count, parallel, [&](int64_t i) { ++even[static_cast<size_t>(i)]; });
        parallel_for_uneven(count, parallel, [&](int64_t i) { ++uneven[static_cast<size_t>(i)]; });
        CHECK(even == std::vector<int>(even.size(), 1));
        CHECK(uneven == std::vector<int>(even.size(), 1));
      }
    }
  }
}

// For ThreadSanitizer's build, which runs it by itself and must find it (tests/CMakeLists.txt).
TEST_CASE("parallel_for: a race" * doctest::skip()) {
  const ThreadsGuard guard;
  set_threads(2);
  int sum = 0;
  parallel_for(2, true, [&](int64_t) { ++sum; });
}

TEST_CASE("parallel_for: a nested loop runs on the calling thread, once per index") {
  const ThreadsGuard guard;
  set_threads(3);
  std::vector<int> visits(12 * 17);
  std::vector<char> nested(12);
  parallel_for(12, true, [&](int64_t i) {
    nested[static_cast<size_t>(i)] = in_parallel();
    parallel_for(17, true, [&](int64_t j) { ++visits[static_cast<size_t>(i * 17 + j)]; });
  });
  CHECK(visits == std::vector<int>(visits.size(), 1));
#if defined(_OPENMP) || defined(MOXIE_THREAD_TEAM)
  CHECK(nested == std::vector<char>(12, 1));
#endif
  CHECK_FALSE(in_parallel());
}

TEST_CASE("for_rows_cpu: every element of every row once, below and above the parallel threshold") {
  const ThreadsGuard guard;
  set_threads(3);
  for (const int64_t rows : {0, 1, 5, 1000}) {
    for (const int64_t cols : {0, 1, 33, 64}) {
      std::vector<int> visits(static_cast<size_t>(rows * cols));
      for_rows_cpu(CountRow{visits.data(), cols}, rows, cols);
      CHECK(visits == std::vector<int>(visits.size(), 1));
    }
  }
}

TEST_CASE("set_threads: takes effect, and refuses less than one") {
  const ThreadsGuard guard;
  CHECK(threads() >= 1);
  set_threads(2);
#if defined(_OPENMP) || defined(MOXIE_THREAD_TEAM)
  CHECK(threads() == 2);
#else
  CHECK(threads() == 1);
#endif
  CHECK_THROWS_WITH_AS(set_threads(0), "set_threads: count must be at least 1, got 0", std::invalid_argument);
  CHECK_THROWS_WITH_AS(set_threads(-3), "set_threads: count must be at least 1, got -3", std::invalid_argument);
  CHECK(threads() >= 1);
}
