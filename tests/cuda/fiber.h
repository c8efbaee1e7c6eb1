// SPDX-License-Identifier: Apache-2.0
// A fiber is a function on a stack of its own that runs, on the thread which resumes it, until it gives way. The
// sanitizers are told of every switch. To ThreadSanitizer a fiber is another thread that runs beside all others: what
// it does is in order with what they do only where release() and acquire() say so, after whatever came before start()
// and, for the last function it ran, before its destructor ends.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <memory>
#include <new>

// fiber.cpp and what includes this are compiled without -fsanitize=thread, but with this macro where the rest is: their
// own bookkeeping goes from fiber to fiber and is no race.
#ifdef MOXIE_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
extern "C" {
void __tsan_read_range(const void* from, size_t bytes);
void __tsan_write_range(void* to, size_t bytes);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace moxie::testing {

struct DeleteAligned {
  static constexpr std::align_val_t alignment{1024};
  void operator()(unsigned char* memory) const { ::operator delete[](memory, alignment); }
};
using Bytes = std::unique_ptr<unsigned char[], DeleteAligned>;
// Other memory in its place, which no fiber has touched yet.
void renew(Bytes& memory, size_t bytes);

class Fiber final {
 public:
  Fiber() = default;
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next resume() enters run(), which calls entered() first and finish() last. What ran here before need not have
  // finished; what its stack holds is lost.
  void start(void (*run)());
  // Runs the fiber until it gives way or finishes; not for one that has finished.
  void resume();

  // By the fiber itself:
  void entered();
  void give_way() { switch_back(false); }
  void finish() { switch_back(true); }

 private:
  // Where one of the two stopped.
  struct Place {
    ucontext_t context{};
    jmp_buf jump{};
    bool left = false;  // by a switch, after which `jump` leads back
  };
  static void go(Place& from, Place& to);
  void switch_back(bool for_good);

  Bytes stack_;
  Place fiber_, resumer_;
  // What AddressSanitizer wants to know of the resumer's stack.
  const void* resumer_stack_ = nullptr;
  size_t resumer_stack_bytes_ = 0;
#ifdef MOXIE_THREAD_SANITIZER
  void* thread_ = nullptr;
  void* resumer_thread_ = nullptr;
#endif
};

// What came before release(place) has happened for whoever calls acquire(place) afterwards.
inline void release([[maybe_unused]] void* place) {
#ifdef MOXIE_THREAD_SANITIZER
  __tsan_release(place);
#endif
}
inline void acquire([[maybe_unused]] void* place) {
#ifdef MOXIE_THREAD_SANITIZER
  __tsan_acquire(place);
#endif
}

// The fiber reads or writes this memory, by code that is compiled without -fsanitize=thread.
inline void note_read([[maybe_unused]] const void* from, [[maybe_unused]] size_t bytes) {
#ifdef MOXIE_THREAD_SANITIZER
  __tsan_read_range(from, bytes);
#endif
}
inline void note_write([[maybe_unused]] void* to, [[maybe_unused]] size_t bytes) {
#ifdef MOXIE_THREAD_SANITIZER
  __tsan_write_range(to, bytes);
#endif
}

}  // namespace moxie::testing
