// SPDX-License-Identifier: Apache-2.0
// Ctrl-C as a wish that a program looks at when it suits, so that it can save first.
#pragma once
#include <csignal>

namespace moxie::train {

// While an instance lives, the first SIGINT or SIGTERM sets a flag instead of ending the process; the second of a kind
// ends it as usual. Signals that were ignored before (nohup) stay ignored. Signal handlers belong to the whole process:
// make one in the program, not in a library; a second one at the same time throws std::logic_error.
class InterruptGuard final {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  struct sigaction before_[2];
};

// True from the first signal on, until the next InterruptGuard is made.
bool interrupted();
// Which signal that was (SIGINT, SIGTERM); 0 for none.
int interrupt_signal();

}  // namespace moxie::train
