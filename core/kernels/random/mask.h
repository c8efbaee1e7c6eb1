// SPDX-License-Identifier: Apache-2.0
// Random bits for masks, sixteen for every element, eight of them its own: a block of Philox serves 16 elements.
// Element e belongs to block 64 (e / 1024) + e mod 64, in which it is number (e / 64) mod 16. The elements of a block
// lie 64 apart, so that neighbours are neighbouring lanes of a vector, and neighbouring threads of a GPU.
//
// Number 4 w + b of a block has byte b of word w above byte b of (word w + 1) ^ (word w + 2), counted round. Any two of
// the sixteen numbers are uniform and independent, since the four bytes that make them are linearly independent; of
// three, the lower byte, which decides once in 256 times, may depend on the others' upper ones.
#pragma once
#include "core/philox.h"

namespace moxie {

inline constexpr int64_t mask_piece = 1024, mask_of_block = mask_piece / detail::mask_blocks;

// The bits of number 4 w + b of a block, b in [0, 4), from its word w and from the xor of the two that follow.
MOXIE_FN uint32_t mask_bits_of(uint32_t word, uint32_t following, int b) {
  return ((word >> (8 * b)) & 0xFFu) << 8 | ((following >> (8 * b)) & 0xFFu);
}
MOXIE_FN uint32_t mask_bits_of(const Philox4& block, int number) {
  const int w = number / 4;
  return mask_bits_of(block.word[w], block.word[(w + 1) % 4] ^ block.word[(w + 2) % 4], number % 4);
}

// The bits of one element. Rows are drawn several times faster by each_mask.
MOXIE_FN uint32_t mask_bits(RandomKey key, uint64_t element) {
  const Philox4 block = random_block(key, element / mask_piece * detail::mask_blocks + element % detail::mask_blocks);
  return mask_bits_of(block, static_cast<int>(element / detail::mask_blocks % mask_of_block));
}

// g(i, f(i, mask_bits(key, first + i))) for every i in [0, n), where first is a multiple of 1024. A thread of a GPU
// draws a block, calls f for all its elements and only then g.
template <class Team, class F, class G>
MOXIE_FN void each_mask(const Team& team, RandomKey key, uint64_t first, int64_t n, F f, G g) {
  using Value = decltype(f(int64_t{0}, uint32_t{0}));
  constexpr int64_t apart = detail::mask_blocks;
  if constexpr (std::is_same_v<Team, SerialTeam>) {
    for (int64_t done = 0; done < n; done += mask_piece) {
      alignas(64) uint32_t planes[4 * apart], following[4 * apart];
      const uint64_t piece = (first + static_cast<uint64_t>(done)) / mask_piece;
      detail::random_planes(key, piece * apart, planes);
      for (int64_t w = 0; w < 4; ++w) {
        const uint32_t *a = planes + (w + 1) % 4 * apart, *b = planes + (w + 2) % 4 * apart;
        uint32_t* out = following + w * apart;
        team.each(apart, [=](int64_t i) { out[i] = a[i] ^ b[i]; });
      }
      for (int64_t number = 0; number < mask_of_block; ++number) {
        const int64_t begin = done + number * apart, left = n - begin, w = number / 4;
        const uint32_t *own = planes + w * apart, *next = following + w * apart;
        const int b = static_cast<int>(number % 4);
        team.each(
            left < apart ? left : apart, [=](int64_t i) { return f(begin + i, mask_bits_of(own[i], next[i], b)); },
            [=](int64_t i, Value value) { g(begin + i, value); });
      }
    }
  } else {
    const auto blocks = static_cast<uint32_t>((n + mask_piece - 1) / mask_piece) * uint32_t{detail::mask_blocks};
    const uint64_t first_block = first / mask_piece * apart;
    const auto draw = [=](int64_t at, auto inside) {
      const auto block = static_cast<uint32_t>(at);
      const Philox4 words = random_block(key, first_block + block);
      const int64_t begin = block / detail::mask_blocks * mask_piece + block % detail::mask_blocks;
      Value values[mask_of_block];
#ifdef __CUDACC__
#pragma unroll
#endif
      for (int number = 0; number < mask_of_block; ++number) {
        const int64_t i = begin + number * apart;
        if (inside(i)) values[number] = f(i, mask_bits_of(words, number));
      }
#ifdef __CUDACC__
#pragma unroll
#endif
      for (int number = 0; number < mask_of_block; ++number) {
        const int64_t i = begin + number * apart;
        if (inside(i)) g(i, values[number]);
      }
    };
    // Without a question at every element its loads are asked for at once.
    if (n % mask_piece == 0) {
      team.each(blocks, [=](int64_t block) { draw(block, [](int64_t) { return true; }); });
    } else {
      team.each(blocks, [=](int64_t block) { draw(block, [=](int64_t i) { return i < n; }); });
    }
  }
}

}  // namespace moxie
