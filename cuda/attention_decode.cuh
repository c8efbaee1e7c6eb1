// SPDX-License-Identifier: Apache-2.0
// Attention of one query per head against many keys, as in sampling with a cache. It is bound by reading keys and
// values: so each block reads a part of them, once for all query heads that share them, and a second kernel adds the
// parts up.
//   part p: m_p = max of s_j, l_p = sum of 2^(s_j - m_p), o_p = sum of 2^(s_j - m_p) v_j, with s = scale log2(e) q . k
//   out = sum of 2^(m_p - m) o_p / l, l = sum of 2^(m_p - m) l_p, m = max of m_p, lse = m ln(2) + log(l)
#pragma once
#include <limits>

#include "core/attention.h"
#include "core/math.h"
#include "cuda/attention_statistics.cuh"
#include "cuda/attention_visibility.cuh"
#include "cuda/packs.cuh"

namespace moxie::cuda {

inline constexpr int decode_threads = 128, decode_warps = decode_threads / warp_size;
inline constexpr int decode_ahead = 4;              // keys whose numbers a thread asks for before it uses the first
inline constexpr int decode_least_keys = 256;       // of a part, where there are more parts than one
inline constexpr int64_t decode_busy_blocks = 512;  // so many keep a GPU busy

struct DecodeProblem {
  Attention attention;
  int first_key, end_key;  // that the query sees
  int parts, keys_of_part;
  int chunks;      // of query heads that share keys
  float* partial;  // [batch * heads, parts, head_dim + 2]: o, m, l
  int64_t blocks;
};

// Heads: of a block. How keys are divided depends on the problem alone; `partial` is still to be set.
template <int Heads> DecodeProblem decode_problem(const Attention& a) {
  const Visibility visibility = Visibility::of(a);
  DecodeProblem p{a, visibility.first_key(0), visibility.end_key(0), 1, 0, 0, nullptr, 0};
  const int keys = p.end_key > p.first_key ? p.end_key - p.first_key : 0;
  p.chunks = static_cast<int>((a.heads / a.kv_heads + Heads - 1) / Heads);
  const int64_t blocks = a.batch * a.kv_heads * p.chunks;
  const int64_t wanted = (decode_busy_blocks + blocks - 1) / blocks, most = keys / decode_least_keys;
  p.parts = static_cast<int>(wanted < most ? wanted : most > 1 ? most : 1);
  p.keys_of_part = (keys + p.parts - 1) / p.parts;
  p.blocks = blocks * p.parts;
  return p;
}
inline int64_t decode_partial_size(const DecodeProblem& p) {
  return p.attention.batch * p.attention.heads * p.parts * (p.attention.head_dim + 2);
}

// An online softmax: m, l and the lane's elements of o.
template <int Elements> struct DecodeSums {
  float top = -std::numeric_limits<float>::infinity(), sum = 0, out[Elements] = {};
};

// The shared memory of a block: o, m, l of each warp and head.
template <class T, int Lanes, int Heads> constexpr uint32_t decode_shared_bytes() {
  return decode_warps * Heads * (Lanes * pack_size<T> + 2) * static_cast<uint32_t>(sizeof(float));
}

// One part of the keys of `Heads` heads, `Lanes` threads to a key. Lanes * pack_size<T> is at least head_dim.
template <class T, int Lanes, int Heads>
MOXIE_DEVICE void attention_decode_part(const DecodeProblem& p, int64_t block, float* shared) {
  constexpr int elements = pack_size<T>, keys_at_once = decode_warps * (warp_size / Lanes);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const Attention& a = p.attention;
  const int head_dim = static_cast<int>(a.head_dim), group = static_cast<int>(a.heads / a.kv_heads);
  const int part = static_cast<int>(block % p.parts), chunk = static_cast<int>(block / p.parts % p.chunks);
  const int64_t kv = block / p.parts / p.chunks % a.kv_heads, b = block / p.parts / p.chunks / a.kv_heads;
  const int64_t first_head = kv * group + chunk * Heads;
  const int heads = group - chunk * Heads < Heads ? group - chunk * Heads : Heads;
  const int lane = lane_index() % Lanes, slot = warp_index() * (warp_size / Lanes) + lane_index() / Lanes;
  const int column = lane * elements;
  const bool has_columns = column < head_dim;

  float q[Heads][elements] = {};
  MOXIE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    if (h >= heads || !has_columns) continue;
    unpack<T>(q[h], load_16(static_cast<const T*>(a.q) + b * a.q_batch_stride + (first_head + h) * head_dim + column));
    MOXIE_UNROLL
    for (int e = 0; e < elements; ++e) q[h][e] *= static_cast<float>(a.scale * log2_e);
  }
  const T* keys = static_cast<const T*>(a.k) + b * a.k_batch_stride + kv * head_dim + column;
  const T* values = static_cast<const T*>(a.v) + b * a.v_batch_stride + kv * head_dim + column;

  DecodeSums<elements> sums[Heads];
  const int begin = p.first_key + part * p.keys_of_part;
  const int end = begin + p.keys_of_part < p.end_key ? begin + p.keys_of_part : p.end_key;
  MOXIE_DO_NOT_UNROLL
  for (int first = begin; first < end; first += decode_ahead * keys_at_once) {
    Vector16 k[decode_ahead] = {}, v[decode_ahead] = {};
    bool sees[decode_ahead];
    MOXIE_UNROLL
    for (int j = 0; j < decode_ahead; ++j) {
      const int key = first + j * keys_at_once + slot;
      sees[j] = key < end;
      if (!sees[j] || !has_columns) continue;
      k[j] = load_16(keys + key * a.k_stride);
      v[j] = load_16(values + key * a.v_stride);
    }
    float score[decode_ahead][Heads];
    MOXIE_UNROLL
    for (int j = 0; j < decode_ahead; ++j) {
      float of_key[elements];
      unpack<T>(of_key, k[j]);
      MOXIE_UNROLL
      for (int h = 0; h < Heads; ++h) {
        float product = 0;
        MOXIE_UNROLL
        for (int e = 0; e < elements; ++e) product += q[h][e] * of_key[e];
        MOXIE_UNROLL
        for (int mask = Lanes / 2; mask > 0; mask /= 2) product += shuffle_xor(product, mask);
        score[j][h] = sees[j] ? product : -infinity;
      }
    }
    MOXIE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      DecodeSums<elements>& s = sums[h];
      float top = s.top;
      MOXIE_UNROLL
      for (int j = 0; j < decode_ahead; ++j) top = score[j][h] > top ? score[j][h] : top;
      const float base = softmax_base(top), shrink = exp2_fast(s.top - base);
      s.top = top;
      s.sum *= shrink;
      MOXIE_UNROLL
      for (int e = 0; e < elements; ++e) s.out[e] *= shrink;
      MOXIE_UNROLL
      for (int j = 0; j < decode_ahead; ++j) score[j][h] = exp2_fast(score[j][h] - base);
    }
    MOXIE_UNROLL
    for (int j = 0; j < decode_ahead; ++j) {
      float of_value[elements];
      unpack<T>(of_value, v[j]);
      MOXIE_UNROLL
      for (int h = 0; h < Heads; ++h) {
        sums[h].sum += score[j][h];
        MOXIE_UNROLL
        for (int e = 0; e < elements; ++e) sums[h].out[e] += score[j][h] * of_value[e];
      }
    }
  }

  // The keys of a warp, then the warps of the block.
  constexpr int row = Lanes * elements + 2;
  MOXIE_UNROLL
  for (int h = 0; h < Heads; ++h) {
    DecodeSums<elements>& s = sums[h];
    MOXIE_UNROLL
    for (int mask = Lanes; mask < warp_size; mask *= 2) {
      const float other = shuffle_xor(s.top, mask), top = other > s.top ? other : s.top;
      const float base = softmax_base(top), mine = exp2_fast(s.top - base), theirs = exp2_fast(other - base);
      s.top = top;
      s.sum = s.sum * mine + shuffle_xor(s.sum, mask) * theirs;
      MOXIE_UNROLL
      for (int e = 0; e < elements; ++e) s.out[e] = s.out[e] * mine + shuffle_xor(s.out[e], mask) * theirs;
    }
    if (lane_index() >= Lanes) continue;
    float* const to = shared + (warp_index() * Heads + h) * row;
    MOXIE_UNROLL
    for (int e = 0; e < elements; ++e) to[column + e] = s.out[e];
    if (lane == 0) to[Lanes * elements] = s.top, to[Lanes * elements + 1] = s.sum;
  }
  sync_threads();
  for (int at = thread_index(); at < heads * (head_dim + 2); at += decode_threads) {
    const int h = at / (head_dim + 2), c = at % (head_dim + 2);
    const auto of_warp = [&](int warp, int place) { return shared[(warp * Heads + h) * row + place]; };
    float top = -infinity, total = 0;
    for (int warp = 0; warp < decode_warps; ++warp) {
      const float other = of_warp(warp, Lanes * elements);
      top = other > top ? other : top;
    }
    const float base = softmax_base(top);
    const int place = c < head_dim ? c : Lanes * elements + 1;
    for (int warp = 0; warp < decode_warps; ++warp)
      total += exp2_fast(of_warp(warp, Lanes * elements) - base) * of_warp(warp, place);
    p.partial[((b * a.heads + first_head + h) * p.parts + part) * (head_dim + 2) + c] = c == head_dim ? top : total;
  }
}

// The sum of the parts of head `block` of batch * heads.
template <class T> MOXIE_DEVICE void attention_decode_sum(const DecodeProblem& p, int64_t block) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const Attention& a = p.attention;
  const int head_dim = static_cast<int>(a.head_dim), row = head_dim + 2;
  const float* const parts = p.partial + block * p.parts * row;
  float top = -infinity, total = 0;
  for (int part = 0; part < p.parts; ++part)
    top = parts[part * row + head_dim] > top ? parts[part * row + head_dim] : top;
  const float base = softmax_base(top);
  for (int part = 0; part < p.parts; ++part)
    total += exp2_fast(parts[part * row + head_dim] - base) * parts[part * row + head_dim + 1];
  const float factor = total == 0 ? 0.0f : 1 / total;
  T* const out = static_cast<T*>(a.out) + block / a.heads * a.out_batch_stride + block % a.heads * head_dim;
  for (int c = thread_index(); c < head_dim; c += decode_threads) {
    float sum = 0;
    for (int part = 0; part < p.parts; ++part)
      sum += exp2_fast(parts[part * row + head_dim] - base) * parts[part * row + c];
    out[c] = static_cast<T>(sum * factor);
  }
  if (thread_index() == 0)
    static_cast<float*>(a.lse)[block] =
        total == 0 ? -infinity : top * static_cast<float>(1 / log2_e) + math::log(total);
}

}  // namespace moxie::cuda
