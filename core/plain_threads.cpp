// SPDX-License-Identifier: Apache-2.0
#ifdef MOXIE_THREAD_TEAM
#include "core/plain_threads.h"

#include <thread>
#include <vector>

namespace moxie {

void on_plain_threads(int members, void (*f)(const void* data, int m), const void* data) {
  const auto run = [=](int m) {
    plain_thread = m;
    f(data, m);
    plain_thread = -1;
  };
  std::vector<std::thread> running;
  for (int m = 1; m < members; ++m) running.emplace_back(run, m);
  run(0);
  for (std::thread& thread : running) thread.join();
}

}  // namespace moxie
#endif
