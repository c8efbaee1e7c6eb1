// SPDX-License-Identifier: Apache-2.0
// Random numbers without state. Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)
// turns a counter into four random words, so that every number is a function of its key and its place: the same on CPU
// and GPU, in recomputation and after a resume. All draws are made in f32.
#pragma once
#include <cstdint>
#include <type_traits>
#ifdef __CUDACC__
#include <curand_philox4x32_x.h>
#endif

#include "core/macros.h"
#include "core/math.h"
#include "core/team.h"

namespace moxie {

// Four random words.
struct Philox4 {
  uint32_t word[4];
};

// Four random numbers.
struct Random4 {
  float value[4];
};

// Names one stream of random numbers. cuRAND's curand_init(seed, uint64_t{stream} << 32 | step, 4 * block) begins the
// same Philox sequence.
struct RandomKey {
  uint64_t seed = 0;
  uint32_t stream = 0;  // the layer or the purpose
  uint32_t step = 0;    // the optimizer step
  // Where kernels read the step in its place: memory of their device, for work that a graph repeats (core/graph.h).
  const uint32_t* step_at = nullptr;

  // The key that draws are made with; to be called where `step_at` may be read.
  MOXIE_FN RandomKey resolved() const { return {seed, stream, step_at != nullptr ? *step_at : step, nullptr}; }
};

namespace detail {

struct PhiloxState {
  uint32_t c0, c1, c2, c3, k0, k1;
};

MOXIE_FN PhiloxState philox_round(PhiloxState s) {
  const uint64_t a = uint64_t{0xD2511F53u} * s.c0;
  const uint64_t b = uint64_t{0xCD9E8D57u} * s.c2;
  return {static_cast<uint32_t>(b >> 32) ^ s.c1 ^ s.k0,
          static_cast<uint32_t>(b),
          static_cast<uint32_t>(a >> 32) ^ s.c3 ^ s.k1,
          static_cast<uint32_t>(a),
          s.k0 + 0x9E3779B9u,
          s.k1 + 0xBB67AE85u};
}

struct SineCosine {
  float sine, cosine;
};

// sin(2 pi t) and cos(2 pi t) for t in [0, 1], branch-free.
MOXIE_FN SineCosine sine_cosine_of_turns(float t) {
  const float quarters = 4.0f * t;
  const int32_t quadrant = static_cast<int32_t>(quarters + 0.5f);
  const float r = quarters - static_cast<float>(quadrant);  // [-1/2, 1/2], exact
  const float r2 = r * r;
  float s = -4.682986997e-3f;
  s = s * r2 + 7.971159369e-2f;
  s = s * r2 + -6.459665895e-1f;
  s = s * r2 + 1.570796371f;
  s = s * r;
  float c = 8.944734582e-4f;
  c = c * r2 + -2.085559443e-2f;
  c = c * r2 + 2.536685467e-1f;
  c = c * r2 + -1.233700514f;
  c = c * r2 + 1.0f;
  const bool odd = (quadrant & 1) != 0;
  const float sine = odd ? c : s;
  const float cosine = odd ? s : c;
  return {(quadrant & 2) != 0 ? -sine : sine, ((quadrant + 1) & 2) != 0 ? -cosine : cosine};
}

}  // namespace detail

// Philox4x32-10: ten rounds, as in Random123; on CUDA by cuRAND.
MOXIE_FN Philox4 philox4x32_10(const uint32_t (&counter)[4], const uint32_t (&key)[2]) {
#ifdef __CUDA_ARCH__
  const uint4 r =
      curand_Philox4x32_10(make_uint4(counter[0], counter[1], counter[2], counter[3]), make_uint2(key[0], key[1]));
  return {{r.x, r.y, r.z, r.w}};
#else
  detail::PhiloxState s{counter[0], counter[1], counter[2], counter[3], key[0], key[1]};
  s = detail::philox_round(s);
  s = detail::philox_round(s);
  s = detail::philox_round(s);
  s = detail::philox_round(s);
  s = detail::philox_round(s);
  s = detail::philox_round(s);
  s = detail::philox_round(s);
  s = detail::philox_round(s);
  s = detail::philox_round(s);
  s = detail::philox_round(s);
  return {{s.c0, s.c1, s.c2, s.c3}};
#endif
}

// The random words of elements 4 * block to 4 * block + 3.
MOXIE_FN Philox4 random_block(RandomKey key, uint64_t block) {
  const uint32_t counter[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), key.step, key.stream};
  const uint32_t words[2] = {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)};
  return philox4x32_10(counter, words);
}

// The random word of one element.
MOXIE_FN uint32_t random_bits(RandomKey key, uint64_t element) {
  const Philox4 block = random_block(key, element / 4);
  const uint32_t low = (element & 1) != 0 ? block.word[1] : block.word[0];
  const uint32_t high = (element & 1) != 0 ? block.word[3] : block.word[2];
  return (element & 2) != 0 ? high : low;
}

// The upper 23 bits as an odd multiple of 2^-24: uniform in (0, 1), symmetric about 1/2, never 0 nor 1.
MOXIE_FN float uniform(uint32_t bits) {
  return static_cast<float>(static_cast<int32_t>((bits >> 9) * 2 + 1)) * 5.9604644775390625e-8f;
}

// Two independent standard normal numbers from two words (Box and Muller), in [-5.77, 5.77].
struct NormalPair {
  float first, second;
};
MOXIE_FN NormalPair normal_pair(uint32_t radius_bits, uint32_t angle_bits) {
  const float radius = math::sqrt(-2.0f * math::log(uniform(radius_bits)));
  const detail::SineCosine direction = detail::sine_cosine_of_turns(uniform(angle_bits));
  return {radius * direction.cosine, radius * direction.sine};
}

// Uniform in (0, 1), for elements 4 * block to 4 * block + 3.
MOXIE_FN Random4 uniform4(RandomKey key, uint64_t block) {
  const Philox4 r = random_block(key, block);
  return {{uniform(r.word[0]), uniform(r.word[1]), uniform(r.word[2]), uniform(r.word[3])}};
}

// Standard normal, for elements 4 * block to 4 * block + 3.
MOXIE_FN Random4 normal4(RandomKey key, uint64_t block) {
  const Philox4 r = random_block(key, block);
  const NormalPair a = normal_pair(r.word[0], r.word[1]);
  const NormalPair b = normal_pair(r.word[2], r.word[3]);
  return {{a.first, a.second, b.first, b.second}};
}

// Uniform in (0, 1), for one element. Rows are drawn several times faster by each_uniform.
MOXIE_FN float uniform_at(RandomKey key, uint64_t element) { return uniform(random_bits(key, element)); }

// Standard normal, for one element. Rows are drawn several times faster by each_normal.
MOXIE_FN float normal_at(RandomKey key, uint64_t element) {
  const Philox4 block = random_block(key, element / 4);
  const bool upper = (element & 2) != 0;
  const NormalPair pair = normal_pair(upper ? block.word[2] : block.word[0], upper ? block.word[3] : block.word[1]);
  return (element & 1) != 0 ? pair.second : pair.first;
}

// A uniform number in (0, 1) stretched to 1 - bound to 1 + bound.
MOXIE_FN float bounded(float uniform_number, float bound) { return 1.0f + bound * (2.0f * uniform_number - 1.0f); }

// Uniform from 1 - bound to 1 + bound, for one element: multiplicative jitter.
MOXIE_FN float bounded_at(RandomKey key, uint64_t element, float bound) {
  return bounded(uniform_at(key, element), bound);
}

namespace detail {

inline constexpr int64_t random_group = 16;  // blocks that random_words draws together

// The random words of the `groups` * 16 blocks from first_block on, in vector registers; words [groups * 64].
void random_words(RandomKey key, uint64_t first_block, int64_t groups, uint32_t* words);

inline constexpr int64_t mask_blocks = 64;  // blocks that share a piece of a mask

// Word w of block first_block + b in planes[64 w + b]; planes [256].
void random_planes(RandomKey key, uint64_t first_block, uint32_t* planes);

// f(i, number of element first + i) for every i in [0, n): whole blocks at once, the ragged ends one by one.
template <class Team, class At, class Block, class F>
MOXIE_FN void each_random(const Team& team, uint64_t first, int64_t n, At at, Block block, F f) {
  const int64_t to_next_block = static_cast<int64_t>((0 - first) % 4);
  const int64_t head = n < to_next_block ? n : to_next_block;
  const int64_t blocks = (n - head) / 4;
  const uint64_t first_block = (first + static_cast<uint64_t>(head)) / 4;
  team.each(head, [=](int64_t i) { f(i, at(first + static_cast<uint64_t>(i))); });
  team.each(blocks, [=](int64_t b) {
    const Random4 r = block(first_block + static_cast<uint64_t>(b));
    const int64_t i = head + 4 * b;
    f(i, r.value[0]);
    f(i + 1, r.value[1]);
    f(i + 2, r.value[2]);
    f(i + 3, r.value[3]);
  });
  const int64_t done = head + 4 * blocks;
  team.each(n - done, [=](int64_t i) { f(done + i, at(first + static_cast<uint64_t>(done + i))); });
}

// The same on one CPU thread, piece by piece: convert(words, numbers, count) makes `count` numbers of as many words.
template <class Convert, class F>
inline void each_random_serial(RandomKey key, uint64_t first, int64_t n, Convert convert, F f) {
  constexpr int64_t group_words = 4 * random_group, piece = 4 * group_words;
  alignas(64) uint32_t words[piece];
  alignas(64) float numbers[piece];
  uint64_t block = first / 4;
  int64_t skipped = static_cast<int64_t>(first % 4);
  for (int64_t done = 0; done < n;) {
    const int64_t count = n - done < piece - skipped ? n - done : piece - skipped;
    const int64_t groups = (skipped + count + group_words - 1) / group_words;
    random_words(key, block, groups, words);
    convert(words, numbers, groups * group_words);
    const float* number = numbers + skipped;
    SerialTeam().each(count, [=](int64_t i) { f(done + i, number[i]); });
    done += count;
    block += piece / 4;
    skipped = 0;
  }
}

}  // namespace detail

// Calls f(i, u) for every i in [0, n), where u = uniform_at(key, first + i): the fast way to draw a row.
template <class Team, class F>
MOXIE_FN void each_uniform(const Team& team, RandomKey key, uint64_t first, int64_t n, F f) {
  if constexpr (std::is_same_v<Team, SerialTeam>) {
    const auto convert = [](const uint32_t* words, float* numbers, int64_t count) {
      SerialTeam().each(count, [=](int64_t i) { numbers[i] = uniform(words[i]); });
    };
    detail::each_random_serial(key, first, n, convert, f);
  } else {
    detail::each_random(
        team, first, n, [=](uint64_t element) { return uniform_at(key, element); },
        [=](uint64_t block) { return uniform4(key, block); }, f);
  }
}

// Calls f(i, z) for every i in [0, n), where z = normal_at(key, first + i): the fast way to draw a row.
template <class Team, class F>
MOXIE_FN void each_normal(const Team& team, RandomKey key, uint64_t first, int64_t n, F f) {
  if constexpr (std::is_same_v<Team, SerialTeam>) {
    const auto convert = [](const uint32_t* words, float* numbers, int64_t count) {
      SerialTeam().each(count / 2, [=](int64_t i) {
        const NormalPair pair = normal_pair(words[2 * i], words[2 * i + 1]);
        numbers[2 * i] = pair.first;
        numbers[2 * i + 1] = pair.second;
      });
    };
    detail::each_random_serial(key, first, n, convert, f);
  } else {
    detail::each_random(
        team, first, n, [=](uint64_t element) { return normal_at(key, element); },
        [=](uint64_t block) { return normal4(key, block); }, f);
  }
}

}  // namespace moxie
