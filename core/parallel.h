// SPDX-License-Identifier: Apache-2.0
// Loops over CPU threads. How work is cut never depends on the number of threads, so results don't either.
#pragma once
#include <cstdint>
#ifdef _OPENMP
#include <omp.h>
#elif defined(MOXIE_THREAD_TEAM)
#include "core/plain_threads.h"
#endif

namespace moxie {

// How many CPU threads the library uses; 1 where it was built without OpenMP
// (MOXIE_THREAD_TEAM: plain threads, for ThreadSanitizer).
int threads();
// Sets the number of CPU threads, from 1 up. Throws std::invalid_argument otherwise.
void set_threads(int count);

// True inside a parallel loop: nested loops then run on the calling thread.
inline bool in_parallel() {
#ifdef _OPENMP
  return omp_in_parallel() != 0;
#elif defined(MOXIE_THREAD_TEAM)
  return plain_thread >= 0;
#else
  return false;
#endif
}

// The calling thread's number in the parallel loop that it runs, below threads(); 0 outside.
inline int thread_number() {
#ifdef _OPENMP
  return omp_get_thread_num();
#elif defined(MOXIE_THREAD_TEAM)
  return in_parallel() ? plain_thread : 0;
#else
  return 0;
#endif
}

// Calls f(i) for every i in [0, count), cut evenly over the threads; `parallel` false keeps it on this thread.
// f must not throw.
template <class F> void parallel_for(int64_t count, bool parallel, F&& f) {
#ifdef _OPENMP
  if (parallel && count > 1 && !in_parallel()) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; ++i) f(i);
    return;
  }
#elif defined(MOXIE_THREAD_TEAM)
  if (parallel && count > 1 && threads() > 1 && !in_parallel()) return plain_threads_for(count, threads(), f);
#endif
  (void)parallel;
  for (int64_t i = 0; i < count; ++i) f(i);
}

// The same with work handed out one piece at a time, for pieces of uneven size.
template <class F> void parallel_for_uneven(int64_t count, bool parallel, F&& f) {
#ifdef _OPENMP
  if (parallel && count > 1 && !in_parallel()) {
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < count; ++i) f(i);
    return;
  }
#elif defined(MOXIE_THREAD_TEAM)
  if (parallel && count > 1 && threads() > 1 && !in_parallel()) return plain_threads_for_uneven(count, threads(), f);
#endif
  (void)parallel;
  for (int64_t i = 0; i < count; ++i) f(i);
}

}  // namespace moxie
