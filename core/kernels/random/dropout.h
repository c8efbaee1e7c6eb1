// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/philox.h"

namespace moxie {

typedef uint16_t HalfWord __attribute__((may_alias));

// The sixteen random bits of one element: half a word of the stream, the low half first.
MOXIE_FN uint32_t half_word(RandomKey key, uint64_t element) {
  return (random_bits(key, element / 2) >> (element % 2 != 0 ? 16 : 0)) & 0xFFFFu;
}

// The same for n elements on one CPU thread, many words at once. Calls f(i, bits) for elements first + i; first is a
// multiple of 8.
template <class F> inline void each_half_word_serial(RandomKey key, uint64_t first, int64_t n, F f) {
  constexpr int64_t group = 8 * detail::random_group, piece = 4 * group;
  alignas(64) uint32_t words[piece / 2];
  for (int64_t done = 0; done < n; done += piece) {
    const int64_t count = n - done < piece ? n - done : piece;
    detail::random_words(key, (first + static_cast<uint64_t>(done)) / 8, (count + group - 1) / group, words);
    const auto* halves = reinterpret_cast<const HalfWord*>(words);  // little-endian: the low half is first
    SerialTeam().each(count, [=](int64_t i) { f(done + i, uint32_t{halves[i]}); });
  }
}

// y (+)= x / (1 - p) where 16 random bits say at least p 2^16, else 0. Its own backward: the key draws the mask again.
template <class T> struct Dropout {
  const T* x;
  T* y;
  int64_t numel;
  double p;
  RandomKey key;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    using V = Accumulator<T>;
    const int64_t first = row * elementwise_row;
    const T* in = x + first;
    T* out = y + first;
    const RandomKey drawn = key.resolved();
    const uint32_t threshold = static_cast<uint32_t>(p * 65536 + 0.5);
    const V scale = static_cast<V>(1 / (1 - p));
    const int64_t n = elementwise_count(numel, row);
    branch(accumulate, [=, this](auto add) {
      if constexpr (std::is_same_v<Team, SerialTeam>) {
        each_half_word_serial(drawn, static_cast<uint64_t>(first), n, [=](int64_t i, uint32_t bits) {
          store(out[i], bits >= threshold ? V(in[i]) * scale : V(0), add);
        });
      } else {  // a block drawn for every element costs less than elements that lie apart
        store_each(team, n, out, add, [=, this](int64_t i) {
          const V kept = V(in[i]) * scale;
          return half_word(drawn, static_cast<uint64_t>(first + i)) >= threshold ? kept : V(0);
        });
      }
    });
  }
};

}  // namespace moxie
