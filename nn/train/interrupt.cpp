// SPDX-License-Identifier: Apache-2.0
#include "nn/train/interrupt.h"

#include <atomic>

#include "core/check.h"

namespace moxie::train {
namespace {

constexpr int signals[] = {SIGINT, SIGTERM};

// A signal handler may touch only lock-free atomics.
std::atomic<int> caught{0};
static_assert(std::atomic<int>::is_always_lock_free);
std::atomic<bool> guarded{false};

extern "C" void moxie_remember_signal(int signal) { caught.store(signal, std::memory_order_relaxed); }

}  // namespace

InterruptGuard::InterruptGuard() {
  check_internal(!guarded.exchange(true), "InterruptGuard: there is one already");
  caught = 0;
  struct sigaction action {};
  action.sa_handler = moxie_remember_signal;
  sigemptyset(&action.sa_mask);
  // RESETHAND: the second signal finds the default. RESTART: files being written don't notice.
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  for (int i = 0; i < 2; ++i) {
    ::sigaction(signals[i], nullptr, &before_[i]);
    if (before_[i].sa_handler != SIG_IGN) ::sigaction(signals[i], &action, nullptr);
  }
}

InterruptGuard::~InterruptGuard() {
  for (int i = 0; i < 2; ++i) ::sigaction(signals[i], &before_[i], nullptr);
  guarded = false;
}

bool interrupted() { return caught.load(std::memory_order_relaxed) != 0; }
int interrupt_signal() { return caught.load(std::memory_order_relaxed); }

}  // namespace moxie::train
