// SPDX-License-Identifier: Apache-2.0
// One attention problem with its buffers, and the same in plain loops.
#pragma once
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "core/attention.h"
#include "core/attention_pairs.h"

namespace moxie::testing {

struct AttentionShape {
  int64_t batch = 1, heads = 1, kv_heads = 1, q_length = 1, k_length = 1, head_dim = 1;
  bool causal = true;
  bool packed = false;  // q, k and v in the rows of one buffer
  int64_t window = 0;
  double softcap = 0;
  enum Mask { no_mask, shared_mask, batch_mask, head_mask, full_mask } mask = no_mask;  // what it is repeated over
  bool rope = false;  // every key's place has angles of its own
};

inline std::string describe(const AttentionShape& s) {
  return fmt::format("batch {} heads {}/{} q {} k {} dim {}{}{} window {} softcap {} mask {}{}", s.batch, s.heads,
                     s.kv_heads, s.q_length, s.k_length, s.head_dim, s.causal ? " causal" : "",
                     s.packed ? " packed" : "", s.window, s.softcap, static_cast<int>(s.mask), s.rope ? " rope" : "");
}

// The buffers of one problem, outputs poisoned with NaN.
template <class T> struct AttentionCase {
  AttentionShape shape;
  double scale;
  std::vector<T> qkv, gradients;  // q, k and v one after another, or packed in rows
  std::vector<T> out, dout;
  std::vector<Accumulator<T>> lse;
  std::vector<Accumulator<T>> cosine, sine;  // [k_length, head_dim / 2]
  std::vector<uint8_t> mask;                 // a third hidden; some rows see everything, some nothing

  explicit AttentionCase(const AttentionShape& s, unsigned seed = 1, double size = 1)
      : shape(s), scale(1 / std::sqrt(static_cast<double>(s.head_dim))) {
    const auto count = [](int64_t n) { return static_cast<size_t>(n); };
    const int64_t heads = s.heads + 2 * s.kv_heads;
    const int64_t positions = s.heads * s.q_length + 2 * s.kv_heads * s.k_length;
    qkv.resize(count(s.batch * s.head_dim * (s.packed ? heads * s.q_length : positions)));
    out.resize(count(s.batch * s.q_length * s.heads * s.head_dim));
    lse.resize(count(s.batch * s.heads * s.q_length));
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, size);
    for (T& x : qkv) x = static_cast<T>(static_cast<Accumulator<T>>(normal(random)));
    dout.resize(out.size());
    for (T& x : dout) x = static_cast<T>(static_cast<Accumulator<T>>(normal(random) / size));
    gradients.resize(qkv.size());
    if (s.rope) {
      for (int64_t i = 0; i < s.k_length * (s.head_dim / 2); ++i) {
        const double angle = std::uniform_real_distribution<double>(0, 6.3)(random);
        cosine.push_back(static_cast<Accumulator<T>>(std::cos(angle)));
        sine.push_back(static_cast<Accumulator<T>>(std::sin(angle)));
      }
    }
    if (s.mask != AttentionShape::no_mask) {
      const int64_t rows = (mask_batches() * mask_heads()) * s.q_length;
      for (int64_t row = 0; row < rows; ++row) {
        const unsigned hidden = row % 7 == 3 ? 0 : row % 11 == 5 ? 12 : 4;  // of 12
        for (int64_t j = 0; j < s.k_length; ++j)
          mask.push_back(static_cast<uint8_t>(random() % 12 < hidden ? 0 : 1 + row % 3));
      }
    }
    poison();
  }

  void poison() {
    const auto nan = std::numeric_limits<Accumulator<T>>::quiet_NaN();
    std::fill(out.begin(), out.end(), static_cast<T>(nan));
    std::fill(lse.begin(), lse.end(), nan);
    std::fill(gradients.begin(), gradients.end(), static_cast<T>(nan));
  }

  int64_t mask_batches() const {
    return shape.mask == AttentionShape::batch_mask || shape.mask == AttentionShape::full_mask ? shape.batch : 1;
  }
  int64_t mask_heads() const {
    return shape.mask == AttentionShape::head_mask || shape.mask == AttentionShape::full_mask ? shape.heads : 1;
  }
  bool sees(int64_t b, int64_t h, int64_t t, int64_t j) const {
    const int64_t place = t + shape.k_length - shape.q_length;
    if (shape.causal && j > place) return false;
    if (shape.window > 0 && j <= place - shape.window) return false;
    if (mask.empty()) return true;
    const int64_t batch = mask_batches() > 1 ? b : 0, head = mask_heads() > 1 ? h : 0;
    return mask[static_cast<size_t>(((batch * mask_heads() + head) * shape.q_length + t) * shape.k_length + j)] != 0;
  }

  int64_t row() const { return (shape.heads + 2 * shape.kv_heads) * shape.head_dim; }
  int64_t q_stride() const { return shape.packed ? row() : shape.heads * shape.head_dim; }
  int64_t k_stride() const { return shape.packed ? row() : shape.kv_heads * shape.head_dim; }
  int64_t q_batch() const { return q_stride() * shape.q_length; }
  int64_t k_batch() const { return k_stride() * shape.k_length; }
  int64_t k_at() const { return shape.packed ? shape.heads * shape.head_dim : shape.batch * q_batch(); }
  int64_t v_at() const { return k_at() + (shape.packed ? shape.kv_heads * shape.head_dim : shape.batch * k_batch()); }
  int64_t q_index(int64_t b, int64_t t, int64_t h, int64_t i) const {
    return b * q_batch() + t * q_stride() + h * shape.head_dim + i;
  }
  int64_t k_index(int64_t b, int64_t t, int64_t h, int64_t i) const {
    return k_at() + b * k_batch() + t * k_stride() + h * shape.head_dim + i;
  }
  int64_t v_index(int64_t b, int64_t t, int64_t h, int64_t i) const { return k_index(b, t, h, i) - k_at() + v_at(); }
  int64_t out_index(int64_t b, int64_t t, int64_t h, int64_t i) const {
    return ((b * shape.q_length + t) * shape.heads + h) * shape.head_dim + i;
  }

  AttentionBackward problem() {
    Attention p{dtype_of<T>,    shape.batch,    shape.heads,    shape.kv_heads,
                shape.q_length, shape.k_length, shape.head_dim, scale};
    p.causal = shape.causal;
    p.window = shape.window;
    p.softcap = shape.softcap;
    if (!mask.empty()) {
      p.mask = mask.data();
      p.mask_stride = shape.k_length;
      if (mask_heads() > 1) p.mask_head_stride = shape.q_length * p.mask_stride;
      if (mask_batches() > 1) p.mask_batch_stride = mask_heads() * shape.q_length * p.mask_stride;
    }
    if (!cosine.empty()) {
      p.cosine = cosine.data();
      p.sine = sine.data();
    }
    p.q = qkv.data();
    p.k = qkv.data() + k_at();
    p.v = qkv.data() + v_at();
    p.q_stride = q_stride();
    p.k_stride = p.v_stride = k_stride();
    p.q_batch_stride = q_batch();
    p.k_batch_stride = p.v_batch_stride = k_batch();
    p.out = out.data();
    p.out_stride = shape.heads * shape.head_dim;
    p.out_batch_stride = p.out_stride * shape.q_length;
    p.lse = lse.data();
    return {p,
            dout.data(),
            p.out_stride,
            p.out_batch_stride,
            gradients.data(),
            gradients.data() + k_at(),
            gradients.data() + v_at()};
  }
  void forward() { attention(Device::cpu(), problem().forward); }
  void backward() { attention_backward(Device::cpu(), problem()); }
};

// What the reference computes in: more exact than the accumulator.
template <class T> using Wide = std::conditional_t<std::is_same_v<T, double>, long double, double>;

// Turns the queries and keys among `numbers`, which lie as qkv does, by the angles of their places; or back by them.
template <class T> void turn(const AttentionCase<T>& c, std::vector<Wide<T>>& numbers, bool back) {
  using W = Wide<T>;
  const AttentionShape& s = c.shape;
  const auto turn_head = [&](int64_t at, int64_t place) {
    const int64_t half = s.head_dim / 2;
    for (int64_t i = 0; i < half; ++i) {
      const auto angle = static_cast<size_t>(place * half + i), at_first = static_cast<size_t>(at + i);
      const W cosine = c.cosine[angle], sine = back ? -c.sine[angle] : c.sine[angle];
      W &first = numbers[at_first], &second = numbers[at_first + static_cast<size_t>(half)];
      const W before = first;
      first = before * cosine - second * sine;
      second = second * cosine + before * sine;
    }
  };
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t t = 0; t < s.q_length; ++t)
      for (int64_t h = 0; h < s.heads; ++h) turn_head(c.q_index(b, t, h, 0), t + s.k_length - s.q_length);
    for (int64_t t = 0; t < s.k_length; ++t)
      for (int64_t h = 0; h < s.kv_heads; ++h) turn_head(c.k_index(b, t, h, 0), t);
  }
}

// The same in plain loops over the pairs that see each other.
template <class T> struct AttentionReference { std::vector<Wide<T>> out, lse, gradients; };

template <class T> AttentionReference<T> reference(const AttentionCase<T>& c) {
  using W = Wide<T>;
  const AttentionShape& s = c.shape;
  const auto widened = [](const std::vector<T>& values) {
    std::vector<W> wide;
    for (const T& value : values) wide.push_back(static_cast<Accumulator<T>>(value));
    return wide;
  };
  std::vector<W> qkv = widened(c.qkv);
  if (s.rope) turn(c, qkv, false);
  const std::vector<W> dout = widened(c.dout);
  AttentionReference<T> r;
  r.out.assign(c.out.size(), 0);
  r.lse.assign(c.lse.size(), -std::numeric_limits<W>::infinity());
  r.gradients.assign(c.qkv.size(), 0);
  struct Key {
    const W *k, *v;
    W *dk, *dv;
    W p, slope;
  };
  std::vector<Key> keys;
  const int64_t d = s.head_dim;
  const auto dot = [d](const W* x, const W* y) {
    W sum = 0;
    for (int64_t i = 0; i < d; ++i) sum += x[i] * y[i];
    return sum;
  };
  const auto add = [d](W* to, W factor, const W* x) {
    for (int64_t i = 0; i < d; ++i) to[i] += factor * x[i];
  };
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t g = h / (s.heads / s.kv_heads);
      for (int64_t t = 0; t < s.q_length; ++t) {
        const W* q = qkv.data() + c.q_index(b, t, h, 0);
        const W* dy = dout.data() + c.out_index(b, t, h, 0);
        W* out = r.out.data() + c.out_index(b, t, h, 0);
        W* dq = r.gradients.data() + c.q_index(b, t, h, 0);
        keys.clear();
        W top = -std::numeric_limits<W>::infinity(), sum = 0;
        for (int64_t j = 0; j < s.k_length; ++j) {
          if (!c.sees(b, h, t, j)) continue;
          const int64_t k = c.k_index(b, j, g, 0), v = c.v_index(b, j, g, 0);
          W score = static_cast<W>(c.scale) * dot(q, qkv.data() + k), slope = 1;
          if (s.softcap > 0) {
            const W cap = static_cast<W>(s.softcap), tanh = std::tanh(score / cap);
            score = cap * tanh;
            slope = 1 - tanh * tanh;
          }
          keys.push_back(
              {qkv.data() + k, qkv.data() + v, r.gradients.data() + k, r.gradients.data() + v, score, slope});
          top = std::max(top, score);
        }
        if (keys.empty()) continue;
        for (Key& key : keys) sum += key.p = std::exp(key.p - top);
        r.lse[static_cast<size_t>((b * s.heads + h) * s.q_length + t)] = top + std::log(sum);
        for (Key& key : keys) add(out, key.p /= sum, key.v);
        const W mean = dot(out, dy);
        for (const Key& key : keys) {
          const W ds = key.p * (dot(dy, key.v) - mean) * key.slope * static_cast<W>(c.scale);
          add(dq, ds, key.k);
          add(key.dk, ds, q);
          add(key.dv, key.p, dy);
        }
      }
    }
  }
  if (s.rope) turn(c, r.gradients, true);
  return r;
}

// The largest difference, NaN where one is NaN and the other is not; equal infinities don't differ.
template <class T, class W> double difference(const std::vector<T>& got, const std::vector<W>& expected) {
  double largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const auto value = static_cast<W>(static_cast<Accumulator<T>>(got[i]));
    if (value == expected[i]) continue;
    const auto error = static_cast<double>(std::abs(value - expected[i]));
    if (!(error <= largest)) largest = error;
    if (std::isnan(largest)) break;
  }
  return largest;
}

// `forward` and `backward` compute the problem of a case, by pairs of bf16 or not.
template <class T, class Forward, class Backward>
void compare(const AttentionShape& shape, double tolerance, double gradient_tolerance, bool by_pairs, Forward forward,
             Backward backward) {
  CAPTURE(describe(shape));
  AttentionCase<T> c(shape);
  forward(c.problem().forward);
  const AttentionReference<T> r = reference(c);
  CHECK(difference(c.out, r.out) <= tolerance);
  const bool rounded = by_pairs && shape.rope;  // queries and keys, after they are turned
  CHECK(difference(c.lse, r.lse) <= (dtype_of<T> == Dtype::f64 ? tolerance : rounded ? 0.03 : 4e-6));
  if (shape.packed && shape.q_length != shape.k_length) return;
  backward(c.problem());
  CHECK(difference(c.gradients, r.gradients) <= gradient_tolerance);
}

template <class T> void compare(const AttentionShape& shape, double tolerance, double gradient_tolerance) {
  compare<T>(
      shape, tolerance, gradient_tolerance, std::is_same_v<attention_cpu::Arithmetic<T>, attention_cpu::Pairs>,
      [](const Attention& p) { attention(Device::cpu(), p); },
      [](const AttentionBackward& p) { attention_backward(Device::cpu(), p); });
}

inline void compare_all(const AttentionShape& shape) {
  compare<double>(shape, 1e-13, 1e-12);
  compare<float>(shape, 4e-6, 4e-5);
  compare<bf16>(shape, 0.02, 0.15);
}

template <class T> bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace moxie::testing
