// SPDX-License-Identifier: Apache-2.0
// Rotary embedding by 16 bytes: a thread turns a pack of pairs of two heads, with the angles that both share. The
// generic kernel's team goes through the heads one after the other, and a head has work for a few of its threads.
#pragma once
#include "core/kernels/attention/rope.h"
#include "cuda/packs.cuh"

namespace moxie::cuda {

template <class T> struct PackedRope {
  static constexpr int pack = pack_size<T>;
  Rope<T> rope;
  uint32_t packs, pairs;  // packs of half a head; pairs of heads of a token

  explicit PackedRope(const Rope<T>& kernel)
      : rope(kernel),
        packs(static_cast<uint32_t>(kernel.head_dim / 2 / pack)),
        pairs(static_cast<uint32_t>((kernel.heads + 1) / 2)) {}
  // Whether halves of heads, and of the table, begin and end at multiples of 16 bytes.
  static bool fits(const Rope<T>& kernel) {
    return kernel.head_dim / 2 % pack == 0 && is_aligned(kernel.x) && is_aligned(kernel.y) &&
           is_aligned(kernel.cosine) && is_aligned(kernel.sine);
  }
  int64_t threads(int64_t rows) const { return rows * packs * pairs; }

  // What thread `index` of `count` threads does; `count` fits into 32 bits.
  MOXIE_DEVICE void operator()(uint32_t index, uint32_t count) const {
    if (index >= count) return;
    const uint32_t row = index / (packs * pairs), within = index % (packs * pairs);
    const int64_t half = rope.head_dim / 2, place = within % packs * pack, heads = rope.heads;
    const int64_t first_head = within / packs, second_head = first_head + pairs;
    const int64_t at = row % static_cast<uint32_t>(rope.time) * half + place;
    const int64_t from = (row * heads + first_head) * rope.head_dim + place;
    const int64_t apart = pairs * rope.head_dim;
    const bool has_second = second_head < heads;
    Vector16 data[2][2] = {{load_16(rope.x + from), load_16(rope.x + from + half)}, {}};
    if (has_second) {
      data[1][0] = load_16(rope.x + from + apart);
      data[1][1] = load_16(rope.x + from + apart + half);
    }
    float cosine[pack], sine[pack];
    MOXIE_UNROLL
    for (int e = 0; e < pack; e += 4) {
      const Vector16 c = load_16(rope.cosine + at + e), s = load_16(rope.sine + at + e);
      MOXIE_UNROLL
      for (int w = 0; w < 4; ++w) {
        cosine[e + w] = std::bit_cast<float>(c.word[w]);
        sine[e + w] = rope.direction * std::bit_cast<float>(s.word[w]);
      }
    }
    MOXIE_UNROLL
    for (int h = 0; h < 2; ++h) {
      if (h == 1 && !has_second) continue;
      T* const to = rope.y + from + h * apart;
      const bool turns = (h == 0 ? first_head : second_head) < rope.turned;
      if (!turns && !rope.accumulate) {
        *reinterpret_cast<Vector16*>(to) = data[h][0];
        *reinterpret_cast<Vector16*>(to + half) = data[h][1];
        continue;
      }
      float a[pack], b[pack];
      unpack<T>(a, data[h][0]);
      unpack<T>(b, data[h][1]);
      MOXIE_UNROLL
      for (int e = 0; e < pack; ++e) {
        const float first = a[e], second = b[e];
        a[e] = turns ? first * cosine[e] - second * sine[e] : first;
        b[e] = turns ? second * cosine[e] + first * sine[e] : second;
      }
      if (rope.accumulate) {
        float a_before[pack], b_before[pack];
        unpack<T>(a_before, *reinterpret_cast<const Vector16*>(to));
        unpack<T>(b_before, *reinterpret_cast<const Vector16*>(to + half));
        MOXIE_UNROLL
        for (int e = 0; e < pack; ++e) a[e] = a_before[e] + a[e], b[e] = b_before[e] + b[e];
      }
      *reinterpret_cast<Vector16*>(to) = to_pack<T>(a);
      *reinterpret_cast<Vector16*>(to + half) = to_pack<T>(b);
    }
  }
};

}  // namespace moxie::cuda
