// SPDX-License-Identifier: Apache-2.0
// Parallel loops over plain threads, for tests: ThreadSanitizer does not know OpenMP's.
#pragma once
#include <atomic>
#include <cstdint>

namespace moxie {

// The number of the thread in its loop, -1 outside.
inline thread_local int plain_thread = -1;

// Calls f(data, m) on a thread of its own for every m in [0, members), 0 on this one, and waits for all.
void on_plain_threads(int members, void (*f)(const void* data, int m), const void* data);

template <class F> void on_plain_threads(int members, const F& f) {
  on_plain_threads(
      members, [](const void* data, int m) { (*static_cast<const F*>(data))(m); }, &f);
}

// Calls f(i) for every i in [0, count), cut evenly over the threads.
template <class F> void plain_threads_for(int64_t count, int members, F&& f) {
  on_plain_threads(members, [&](int64_t m) {
    for (int64_t i = count * m / members; i < count * (m + 1) / members; ++i) f(i);
  });
}
// The same with work handed out one piece at a time.
template <class F> void plain_threads_for_uneven(int64_t count, int members, F&& f) {
  std::atomic<int64_t> next{0};
  on_plain_threads(members, [&](int64_t) {
    // Relaxed, lest a thread seem to see what another one wrote for an earlier piece.
    const auto take = [&] { return next.fetch_add(1, std::memory_order_relaxed); };
    for (int64_t i = take(); i < count; i = take()) f(i);
  });
}

}  // namespace moxie
