// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "core/kernels/elementwise/accumulate.h"
#include "core/philox.h"

namespace moxie {

typedef uint16_t HalfWord __attribute__((may_alias));

// Sixteen random bits for each of n elements, half a word of the stream each, the low half first: element i has bits
// 16 (i % 2) and up of random_bits(key, i / 2). Calls f(i, bits) for elements first + i; first is a multiple of 8.
template <class Team, class F>
MOXIE_FN void each_half_word(const Team& team, RandomKey key, uint64_t first, int64_t n, F f) {
  if constexpr (std::is_same_v<Team, SerialTeam>) {
    constexpr int64_t group = 8 * detail::random_group, piece = 4 * group;
    alignas(64) uint32_t words[piece / 2];
    for (int64_t done = 0; done < n; done += piece) {
      const int64_t count = n - done < piece ? n - done : piece;
      detail::random_words(key, (first + static_cast<uint64_t>(done)) / 8, (count + group - 1) / group, words);
      const auto* halves = reinterpret_cast<const HalfWord*>(words);  // little-endian: the low half is first
      team.each(count, [=](int64_t i) { f(done + i, uint32_t{halves[i]}); });
    }
  } else {
    team.each((n + 7) / 8, [=](int64_t b) {
      const Philox4 block = random_block(key, first / 8 + static_cast<uint64_t>(b));
      for (int64_t i = 8 * b; i < n && i < 8 * b + 8; ++i)
        f(i, (block.word[(i / 2) % 4] >> (i % 2 != 0 ? 16 : 0)) & 0xFFFFu);
    });
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
    const uint32_t threshold = static_cast<uint32_t>(p * 65536 + 0.5);
    const V scale = static_cast<V>(1 / (1 - p));
    const int64_t n = elementwise_count(numel, row);
    branch(accumulate, [=, this](auto add) {
      each_half_word(team, key, static_cast<uint64_t>(first), n, [=](int64_t i, uint32_t bits) {
        store(out[i], bits >= threshold ? V(in[i]) * scale : V(0), add);
      });
    });
  }
};

}  // namespace moxie
