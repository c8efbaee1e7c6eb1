// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <exception>

#include "core/parallel.h"

namespace moxie {

// parallel_for_uneven for an f that may throw: one of the errors is thrown again after the loop.
template <class F> void parallel_for_throwing(int64_t count, bool parallel, F&& f) {
  std::exception_ptr error;
  std::atomic_flag failed;
  parallel_for_uneven(count, parallel, [&](int64_t i) {
    try {
      f(i);
    } catch (...) {
      if (!failed.test_and_set()) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

}  // namespace moxie
