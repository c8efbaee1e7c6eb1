// SPDX-License-Identifier: Apache-2.0
// Internal to core/attention*.cpp: what the CPU forward and backward share beyond the tiles.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

#include "core/attention.h"
#include "core/attention_tiles.h"
#include "core/launch.h"

namespace moxie::attention_cpu {

// Both are instantiated for double, float and bf16.
template <class T> void forward(const Attention& problem);
template <class T> void backward(const AttentionBackward& problem);

// Which keys a query sees: those below first + t + 1, cut to [0, k_length].
struct Visibility {
  int64_t k_length;
  int64_t offset;  // of the last visible key from the query
  bool causal;
  explicit Visibility(const Attention& p) : k_length(p.k_length), offset(p.k_length - p.q_length), causal(p.causal) {}
  int64_t keys_of(int64_t query) const {
    return causal ? std::clamp<int64_t>(query + offset + 1, 0, k_length) : k_length;
  }
};

// One piece of scratch memory per thread, allocated before a parallel loop so that failing throws there.
template <class C> class Scratch final {
 public:
  explicit Scratch(int64_t elements_per_thread)
      : nested_(in_parallel()),
        stride_(round_up(elements_per_thread, 64)),
        memory_(static_cast<C*>(::operator new(bytes(), alignment))) {}
  ~Scratch() { ::operator delete(memory_, alignment); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // The piece of the calling thread.
  C* mine() const {
#ifdef _OPENMP
    if (!nested_) return memory_ + omp_get_thread_num() * stride_;
#endif
    return memory_;
  }

 private:
  static constexpr std::align_val_t alignment{64};
  size_t bytes() const { return static_cast<size_t>(stride_ * (nested_ ? 1 : threads())) * sizeof(C); }
  bool nested_;
  int64_t stride_;
  C* memory_;
};

// Hands out consecutive pieces of a thread's scratch memory, each on its own cache lines.
template <class C> class Cutter final {
 public:
  explicit Cutter(C* memory) : next_(memory) {}
  C* take(int64_t elements) {
    C* piece = next_;
    next_ += round_up(elements, 64 / static_cast<int64_t>(sizeof(C)));
    return piece;
  }

 private:
  C* next_;
};

}  // namespace moxie::attention_cpu
