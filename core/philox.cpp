// SPDX-License-Identifier: Apache-2.0
#include "core/philox.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace moxie::detail {

namespace {

// A vector of blocks in 64-bit lanes: a counter word is the lower half of its lane, the upper half holds anything, and
// the product of two lower halves fills a lane. So one multiplication, one shift and two xors make half a round.
#if defined(__AVX512F__)
using Lanes = __m512i;
Lanes product(Lanes a, Lanes b) { return _mm512_maskz_mul_epu32(0xFF, a, b); }
#elif defined(__AVX2__)
using Lanes = __m256i;
Lanes product(Lanes a, Lanes b) { return _mm256_mul_epu32(a, b); }
#elif defined(__SSE2__)
using Lanes = __m128i;
Lanes product(Lanes a, Lanes b) { return _mm_mul_epu32(a, b); }
#else
typedef uint64_t Lanes __attribute__((vector_size(16)));
Lanes product(Lanes a, Lanes b) { return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu); }
#endif

typedef uint64_t Vector __attribute__((vector_size(sizeof(Lanes))));
constexpr int lanes = sizeof(Vector) / 8;

inline Vector multiply(Vector a, Vector b) { return (Vector)product((Lanes)a, (Lanes)b); }

// low[0], high[0], low[1], ...
typedef uint64_t Pairs __attribute__((vector_size(sizeof(Lanes)), may_alias, aligned(8)));
inline void interleave(Vector low, Vector high, Pairs* out) {
#if defined(__AVX512F__)
  out[0] = (Pairs)__builtin_shufflevector(low, high, 0, 8, 1, 9, 2, 10, 3, 11);
  out[1] = (Pairs)__builtin_shufflevector(low, high, 4, 12, 5, 13, 6, 14, 7, 15);
#elif defined(__AVX2__)
  out[0] = (Pairs)__builtin_shufflevector(low, high, 0, 4, 1, 5);
  out[1] = (Pairs)__builtin_shufflevector(low, high, 2, 6, 3, 7);
#else
  out[0] = (Pairs)__builtin_shufflevector(low, high, 0, 2);
  out[1] = (Pairs)__builtin_shufflevector(low, high, 1, 3);
#endif
}

constexpr int rounds = 10;

struct RoundKeys {
  Vector k0[rounds], k1[rounds];
};

// The four words of as many vectors of blocks. A round waits for the one before: more vectors fill the gap.
template <int vectors> struct Blocks {
  Vector c0[vectors], c1[vectors], c2[vectors], c3[vectors];

  // c0 holds the numbers of the blocks.
  void draw(const RoundKeys& keys, RandomKey key) {
    const Vector m0 = Vector{} + uint64_t{0xD2511F53u}, m1 = Vector{} + uint64_t{0xCD9E8D57u};
    for (int v = 0; v < vectors; ++v) {
      c1[v] = c0[v] >> 32;
      c2[v] = Vector{} + key.step;
      c3[v] = Vector{} + key.stream;
    }
#pragma GCC unroll 10
    for (int r = 0; r < rounds; ++r) {
      for (int v = 0; v < vectors; ++v) {
        const Vector a = multiply(c0[v], m0), b = multiply(c2[v], m1);
        c0[v] = (b >> 32) ^ (c1[v] ^ keys.k0[r]);
        c1[v] = b;
        c2[v] = (a >> 32) ^ (c3[v] ^ keys.k1[r]);
        c3[v] = a;
      }
    }
  }
};

constexpr int many = 4;

RoundKeys round_keys(RandomKey key) {
  RoundKeys keys;
  for (int r = 0; r < rounds; ++r) {
    const uint32_t n = static_cast<uint32_t>(r);
    keys.k0[r] = Vector{} + (static_cast<uint32_t>(key.seed) + n * 0x9E3779B9u);
    keys.k1[r] = Vector{} + (static_cast<uint32_t>(key.seed >> 32) + n * 0xBB67AE85u);
  }
  return keys;
}

// step * (0, 1, 2, ...)
Vector every(uint64_t step) {
  Vector numbers;
  for (int i = 0; i < lanes; ++i) numbers[i] = step * static_cast<uint64_t>(i);
  return numbers;
}

Vector pack(Vector low, Vector high) { return (low & 0xFFFFFFFFu) | (high << 32); }

// The words of `vectors` * lanes blocks from first_block on, block by block.
template <int vectors> void draw_words(const RoundKeys& keys, RandomKey key, uint64_t first_block, uint32_t* words) {
  Blocks<vectors> b;
  for (int v = 0; v < vectors; ++v) b.c0[v] = every(1) + (first_block + static_cast<uint64_t>(v * lanes));
  b.draw(keys, key);
  for (int v = 0; v < vectors; ++v)
    interleave(pack(b.c0[v], b.c1[v]), pack(b.c2[v], b.c3[v]), reinterpret_cast<Pairs*>(words + 4 * v * lanes));
}

}  // namespace

void random_words(RandomKey key, uint64_t first_block, int64_t groups, uint32_t* words) {
  constexpr int group_vectors = random_group / lanes;
  const RoundKeys keys = round_keys(key);
  const int64_t blocks = groups * random_group;
  int64_t done = 0;
  for (; done + many * lanes <= blocks; done += many * lanes)
    draw_words<many>(keys, key, first_block + static_cast<uint64_t>(done), words + 4 * done);
  if (done < blocks) draw_words<group_vectors>(keys, key, first_block + static_cast<uint64_t>(done), words + 4 * done);
}

void random_planes(RandomKey key, uint64_t first_block, uint32_t* planes) {
  const RoundKeys keys = round_keys(key);
  for (int64_t done = 0; done < mask_blocks; done += many * lanes) {
    // Two neighbouring vectors have the even and the odd blocks of a stretch.
    Blocks<many> b;
    for (int v = 0; v < many; ++v)
      b.c0[v] = every(2) + (first_block + static_cast<uint64_t>(done + v / 2 * 2 * lanes + v % 2));
    b.draw(keys, key);
    for (int v = 0; v < many; v += 2) {
      auto* plane = reinterpret_cast<Pairs*>(planes + done + v * lanes);
      constexpr int64_t apart = mask_blocks / 2 / lanes;  // in vectors
      plane[0] = (Pairs)pack(b.c0[v], b.c0[v + 1]);
      plane[apart] = (Pairs)pack(b.c1[v], b.c1[v + 1]);
      plane[2 * apart] = (Pairs)pack(b.c2[v], b.c2[v + 1]);
      plane[3 * apart] = (Pairs)pack(b.c3[v], b.c3[v + 1]);
    }
  }
}

}  // namespace moxie::detail
