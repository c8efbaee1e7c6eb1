// SPDX-License-Identifier: Apache-2.0
// Attention forward on the CPU for one or two queries, as in generating token by token: the elements of a head lie
// along the lanes, since so few queries would leave most lanes of the other form empty. The formulas are those of
// attention_forward.cpp.
#include "core/attention_cpu.h"

namespace moxie::attention_cpu {
namespace {

constexpr int64_t key_block = 128;

// scores[j] = q . keys[j], for `lanes` keys at a time: their products side by side, transposed, then added.
template <class C> void dot_rows(const C* q, const Rows<C>& keys, C* scores, int64_t count, int64_t padded) {
  using Memory = typename Simd<C>::Memory;
  using Vector = typename Simd<C>::Vector;
  constexpr int64_t lanes = Simd<C>::lanes;
  for (int64_t j = 0; j < count; j += lanes) {
    Vector sums[lanes] = {};
    const int64_t rows = std::min(lanes, count - j);
    for (int64_t l = 0; l < rows; ++l) {
      const C* k = keys.data + (j + l) * keys.row;
      Vector sum{};
      for (int64_t i = 0; i < padded; i += lanes) {
        sum += *reinterpret_cast<const Memory*>(q + i) * *reinterpret_cast<const Memory*>(k + i);
      }
      sums[l] = sum;
    }
    simd::transpose_stages<1>(sums);
    Vector total = sums[0];
    for (int64_t l = 1; l < lanes; ++l) total += sums[l];
    *reinterpret_cast<Memory*>(scores + j) = total;
  }
}

// One query of one head.
template <class T>
void query_forward(const Attention& p, int64_t b, int64_t h, int64_t query, int64_t padded, Accumulator<T>* memory) {
  using C = Accumulator<T>;
  constexpr C infinity = std::numeric_limits<C>::infinity();
  const int64_t d = p.head_dim, kv_head = h / (p.heads / p.kv_heads);
  const Visibility visibility(p, b, h);
  const int64_t visible = visibility.end_key_of(query);
  const T* k = static_cast<const T*>(p.k) + b * p.k_batch_stride + kv_head * d;
  const T* v = static_cast<const T*>(p.v) + b * p.v_batch_stride + kv_head * d;
  Cutter<C> cut(memory);
  C* q = cut.take(padded);
  C* out = cut.take(padded);
  C* scores = cut.take(key_block);
  C* k_rows = cut.take(key_block * padded);
  C* v_rows = cut.take(key_block * padded);
  copy_rows(static_cast<const T*>(p.q) + b * p.q_batch_stride + query * p.q_stride + h * d, p.q_stride, q, 1, d, padded,
            static_cast<C>(p.scale));
  std::fill_n(out, padded, C{0});

  C top = -infinity, sum = 0;
  for (int64_t first = visibility.first_key_of(query); first < visible; first += key_block) {
    const int64_t keys = std::min(key_block, visible - first);
    const Rows<C> k_block = rows_of(k + first * p.k_stride, p.k_stride, k_rows, keys, d, padded);
    const Rows<C> v_block = rows_of(v + first * p.v_stride, p.v_stride, v_rows, keys, d, padded);
    const C before = top;
    dot_rows(q, k_block, scores, keys, padded);
    if (p.softcap > 0) {
      const C cap = static_cast<C>(p.softcap), inverse = C{1} / cap;
      for (int64_t j = 0; j < keys; ++j) scores[j] = cap * math::tanh(scores[j] * inverse);
    }
    bool hidden = false;
    if (visibility.mask != nullptr) {
      const uint8_t* seen = visibility.mask + query * visibility.mask_stride + first;
      hidden = std::memchr(seen, 0, static_cast<size_t>(keys)) != nullptr;
      for (int64_t j = 0; j < keys; ++j) scores[j] = seen[j] != 0 ? scores[j] : -infinity;
    }
    for (int64_t j = 0; j < keys; ++j) top = scores[j] > top ? scores[j] : top;
    const C base = top == -infinity ? C{0} : top;
    const C shrink = exponential(before - base);
    sum *= shrink;
    for (int64_t i = 0; i < padded; ++i) out[i] *= shrink;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < keys; ++j) {
      scores[j] = exponential(scores[j] - base);
      sum += scores[j];
    }
    if (hidden && !all_finite(v_block.data, v_block.row, keys, padded)) {
      // 0 * inf is NaN: a value must not reach the query that does not see it.
      for (int64_t j = 0; j < keys; ++j) {
        if (!visibility.sees(query, first + j)) continue;
        for (int64_t i = 0; i < padded; ++i) out[i] += scores[j] * v_block.data[j * v_block.row + i];
      }
      continue;
    }
    multiply_columns<true>(Product<C>{scores, 1, 1, v_block.data, v_block.row, out, padded, keys, true}, 1, padded);
  }

  T* to = static_cast<T*>(p.out) + b * p.out_batch_stride + query * p.out_stride + h * d;
  store_rows(out, padded, to, p.out_stride, 1, d, sum == C{0} ? C{0} : C{1} / sum);
  static_cast<C*>(p.lse)[(b * p.heads + h) * p.q_length + query] = sum == C{0} ? -infinity : top + math::log(sum);
}

}  // namespace

template <class T> void decode(const Attention& p) {
  using C = Accumulator<T>;
  const int64_t padded = round_up(p.head_dim, Simd<C>::lanes);
  const Scratch<C> scratch((2 + 2 * key_block) * padded + key_block + 64 * 5);
  const int64_t tasks = p.batch * p.heads * p.q_length;
  parallel_for(tasks, tasks * p.k_length * p.head_dim >= parallel_threshold, [&](int64_t task) {
    const int64_t head = task / p.q_length;
    query_forward<T>(p, head / p.heads, head % p.heads, task % p.q_length, padded, scratch.mine());
  });
}

template void decode<double>(const Attention&);
template void decode<float>(const Attention&);
template void decode<bf16>(const Attention&);

}  // namespace moxie::attention_cpu
