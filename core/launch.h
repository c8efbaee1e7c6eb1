// SPDX-License-Identifier: Apache-2.0
// The launch seam: runs a team kernel for every row, on the device where its data lives.
#pragma once
#include <cstdint>

#include "core/device.h"
#include "core/parallel.h"
#include "core/team.h"
#ifdef MOXIE_THREAD_TEAM
#include "core/thread_team.h"
#endif

namespace moxie {

[[noreturn]] void throw_built_without_cuda();

// Work below this many elements stays on the calling thread: waking another costs more. A row is as much work as
// `row_least` elements at the least.
inline constexpr int64_t parallel_threshold = 64 * 1024;
inline constexpr int64_t row_least = 32;

// Built with MOXIE_THREAD_TEAM, every row is owned by two real threads, as a GPU's threads would own it: under
// ThreadSanitizer the whole suite then shows a kernel that lacks a sync().
template <class Kernel> void for_rows_cpu(const Kernel& kernel, int64_t rows, [[maybe_unused]] int64_t cols) {
#ifdef MOXIE_THREAD_TEAM
  run_rows_thread_team(kernel, rows, 2);
#else
  parallel_for(rows, rows * (cols > row_least ? cols : row_least) >= parallel_threshold,
               [&](int64_t row) { kernel(SerialTeam{}, row); });
#endif
}

namespace cuda {
#ifdef MOXIE_PRETEND_CUDA
// Does the work with the memory of the pretended GPU open, or notes it where that records; tests/pretend_cuda/.
void do_or_record(void* work, void (*run)(void*), void (*destroy)(void*));
template <class F> void do_or_record(F work) {
  do_or_record(
      new F(work), [](void* noted) { (*static_cast<F*>(noted))(); },
      [](void* noted) { delete static_cast<F*>(noted); });
}
template <class Kernel> void for_rows(int, const Kernel& kernel, int64_t rows, int64_t cols) {
  do_or_record([=] { for_rows_cpu(kernel, rows, cols); });
}
#else
// Declared here, defined and instantiated in cuda/: a missing instantiation is a link error that names the kernel.
template <class Kernel> void for_rows(int device, const Kernel& kernel, int64_t rows, int64_t cols);
#endif
}  // namespace cuda

// Runs kernel(team, row) once for every row in [0, rows), one team per row; `cols` says how much work a row is.
template <class Kernel> void for_rows(Device device, const Kernel& kernel, int64_t rows, int64_t cols) {
  if (rows == 0) return;
  if (device.is_cpu()) return for_rows_cpu(kernel, rows, cols);
#ifdef MOXIE_CUDA
  cuda::for_rows(device.index, kernel, rows, cols);
#else
  throw_built_without_cuda();
#endif
}

}  // namespace moxie
