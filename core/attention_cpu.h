// SPDX-License-Identifier: Apache-2.0
// Internal to core/attention*.cpp: what the CPU forward and backward share beyond the tiles.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <type_traits>

#include "core/attention.h"
#include "core/attention_tiles.h"
#include "core/launch.h"

namespace moxie::attention_cpu {

// All are instantiated for double, float and bf16. decode() is forward() for very few queries.
template <class T> void forward(const Attention& problem);
template <class T> void decode(const Attention& problem);
template <class T> void backward(const AttentionBackward& problem);

// Up to how many queries decode() is the faster one.
inline constexpr int64_t decode_queries = 2;

// Which query sees which key: with `causal`, query t the keys up to t + offset.
struct Visibility {
  int64_t k_length;
  int64_t offset;
  bool causal;
  explicit Visibility(const Attention& p) : k_length(p.k_length), offset(p.k_length - p.q_length), causal(p.causal) {}
  // How many keys, from the first on, the query sees.
  int64_t keys_of(int64_t query) const {
    return causal ? std::clamp<int64_t>(query + offset + 1, 0, k_length) : k_length;
  }
  // The first query that sees the key; it may be negative.
  int64_t first_query_of(int64_t key) const { return causal ? key - offset : 0; }
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

// Rows of a block of keys or values in the type of the arithmetic.
template <class C> struct Rows {
  const C* data;
  int64_t row;
};

// The rows where they are if their type fits and they are whole vectors (padded == columns), otherwise copied to
// `copy`.
template <class T, class C>
Rows<C> rows_of(const T* from, int64_t from_row, C* copy, int64_t rows, int64_t columns, int64_t padded) {
  if constexpr (std::is_same_v<T, C>) {
    if (padded == columns) return {from, from_row};
  }
  copy_rows(from, from_row, copy, rows, columns, padded, C{1});
  return {copy, padded};
}

}  // namespace moxie::attention_cpu
