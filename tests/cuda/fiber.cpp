// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda/fiber.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace moxie::testing {
namespace {

constexpr size_t stack_bytes = 256 * 1024;

// To AddressSanitizer: the thread is about to go on with another stack, and where that was `left` (null: for good); it
// goes on with the stack that it left so, and came from one that lies there.
void leave_stack([[maybe_unused]] void** left, [[maybe_unused]] const void* to, [[maybe_unused]] size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(left, to, bytes);
#endif
}
void enter_stack([[maybe_unused]] void* left, [[maybe_unused]] const void** from, [[maybe_unused]] size_t* bytes) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(left, from, bytes);
#endif
}

}  // namespace

void renew(Bytes& memory, size_t bytes) {
#ifdef MOXIE_THREAD_SANITIZER
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
  memory.reset();
  memory.reset(static_cast<unsigned char*>(::operator new[](bytes, Bytes::deleter_type::alignment)));
#ifdef MOXIE_THREAD_SANITIZER
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
#endif
}

Fiber::~Fiber() {
#ifdef MOXIE_THREAD_SANITIZER
  if (thread_ == nullptr) return;
  void* const me = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(thread_, 0);
  __tsan_switch_to_fiber(me, 0);
  __tsan_destroy_fiber(thread_);
#endif
}

void Fiber::start(void (*run)()) {
  fiber_.left = false;
#ifdef MOXIE_THREAD_SANITIZER
  // Another stack, too, lest what the fibers of this one have there looks like a race.
  renew(stack_, stack_bytes);
  if (thread_ != nullptr) __tsan_destroy_fiber(thread_);
  thread_ = __tsan_create_fiber(0);
  resumer_thread_ = __tsan_get_current_fiber();
#else
  if (stack_ == nullptr) renew(stack_, stack_bytes);
#endif
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack_.get(), stack_bytes);
#endif
  ucontext_t& context = fiber_.context;
  getcontext(&context);
  context.uc_stack.ss_sp = stack_.get();
  context.uc_stack.ss_size = stack_bytes;
  context.uc_link = nullptr;
  makecontext(&context, run, 0);
  // Only makecontext() needs it; AddressSanitizer would forget the stack's frames at each switch.
  context.uc_stack = {};
}

// A jump goes on where its place was left, without the system call that swapcontext() makes for the signal mask. The
// sanitizers follow contexts only.
void Fiber::go(Place& from, Place& to) {
#if defined(__SANITIZE_ADDRESS__) || defined(MOXIE_THREAD_SANITIZER)
  swapcontext(&from.context, &to.context);
#else
  if (_setjmp(from.jump) != 0) return;
  from.left = true;
  if (to.left) _longjmp(to.jump, 1);
  setcontext(&to.context);
#endif
}

void Fiber::resume() {
  void* left = nullptr;
  leave_stack(&left, stack_.get(), stack_bytes);
#ifdef MOXIE_THREAD_SANITIZER
  __tsan_switch_to_fiber(thread_, __tsan_switch_to_fiber_no_sync);
#endif
  go(resumer_, fiber_);
  enter_stack(left, nullptr, nullptr);
}

void Fiber::entered() { enter_stack(nullptr, &resumer_stack_, &resumer_stack_bytes_); }

void Fiber::switch_back(bool for_good) {
  void* left = nullptr;
  leave_stack(for_good ? nullptr : &left, resumer_stack_, resumer_stack_bytes_);
#ifdef MOXIE_THREAD_SANITIZER
  __tsan_switch_to_fiber(resumer_thread_, __tsan_switch_to_fiber_no_sync);
#endif
  go(fiber_, resumer_);
  enter_stack(left, &resumer_stack_, &resumer_stack_bytes_);
}

}  // namespace moxie::testing
