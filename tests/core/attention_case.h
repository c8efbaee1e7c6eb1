// SPDX-License-Identifier: Apache-2.0
// One attention problem with its buffers, and the same in plain loops.
#pragma once
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/attention.h"

namespace moxie::testing {

struct AttentionShape {
  int64_t batch = 1, heads = 1, kv_heads = 1, q_length = 1, k_length = 1, head_dim = 1;
  bool causal = true;
  bool packed = false;  // q, k and v in the rows of one buffer
};

inline std::string describe(const AttentionShape& s) {
  return fmt::format("batch {} heads {}/{} q {} k {} dim {}{}{}", s.batch, s.heads, s.kv_heads, s.q_length, s.k_length,
                     s.head_dim, s.causal ? " causal" : "", s.packed ? " packed" : "");
}

// The buffers of one problem, outputs poisoned with NaN.
template <class T> struct AttentionCase {
  AttentionShape shape;
  double scale;
  std::vector<T> qkv, gradients;  // q, k and v one after another, or packed in rows
  std::vector<T> out, dout;
  std::vector<Accumulator<T>> lse;

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
    poison();
  }

  void poison() {
    const auto nan = std::numeric_limits<Accumulator<T>>::quiet_NaN();
    std::fill(out.begin(), out.end(), static_cast<T>(nan));
    std::fill(lse.begin(), lse.end(), nan);
    std::fill(gradients.begin(), gradients.end(), static_cast<T>(nan));
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

// The same in plain long double loops.
struct AttentionReference {
  std::vector<long double> out, lse, gradients;
};

template <class T> AttentionReference reference(const AttentionCase<T>& c) {
  const AttentionShape& s = c.shape;
  AttentionReference r;
  r.out.assign(c.out.size(), 0);
  r.lse.assign(c.lse.size(), -std::numeric_limits<long double>::infinity());
  r.gradients.assign(c.qkv.size(), 0);
  const auto x = [](const std::vector<T>& v, int64_t i) -> long double {
    return static_cast<Accumulator<T>>(v[static_cast<size_t>(i)]);
  };
  const auto at = [](std::vector<long double>& v, int64_t i) -> long double& { return v[static_cast<size_t>(i)]; };
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t g = h / (s.heads / s.kv_heads);
      for (int64_t t = 0; t < s.q_length; ++t) {
        const int64_t keys = s.causal ? t + s.k_length - s.q_length + 1 : s.k_length;
        if (keys <= 0) continue;
        std::vector<long double> p(static_cast<size_t>(keys));
        long double top = -std::numeric_limits<long double>::infinity(), sum = 0, dot = 0;
        for (int64_t j = 0; j < keys; ++j) {
          long double score = 0;
          for (int64_t i = 0; i < s.head_dim; ++i) {
            score += x(c.qkv, c.q_index(b, t, h, i)) * x(c.qkv, c.k_index(b, j, g, i));
          }
          at(p, j) = score * c.scale;
          top = std::max(top, at(p, j));
        }
        for (long double& y : p) sum += y = std::exp(y - top);
        for (long double& y : p) y /= sum;
        at(r.lse, (b * s.heads + h) * s.q_length + t) = top + std::log(sum);
        for (int64_t i = 0; i < s.head_dim; ++i) {
          long double& o = at(r.out, c.out_index(b, t, h, i));
          for (int64_t j = 0; j < keys; ++j) o += at(p, j) * x(c.qkv, c.v_index(b, j, g, i));
          dot += o * x(c.dout, c.out_index(b, t, h, i));
        }
        for (int64_t j = 0; j < keys; ++j) {
          long double dp = 0;
          for (int64_t i = 0; i < s.head_dim; ++i) {
            dp += x(c.dout, c.out_index(b, t, h, i)) * x(c.qkv, c.v_index(b, j, g, i));
          }
          const long double ds = at(p, j) * (dp - dot) * c.scale;
          for (int64_t i = 0; i < s.head_dim; ++i) {
            at(r.gradients, c.q_index(b, t, h, i)) += ds * x(c.qkv, c.k_index(b, j, g, i));
            at(r.gradients, c.k_index(b, j, g, i)) += ds * x(c.qkv, c.q_index(b, t, h, i));
            at(r.gradients, c.v_index(b, j, g, i)) += at(p, j) * x(c.dout, c.out_index(b, t, h, i));
          }
        }
      }
    }
  }
  return r;
}

// The largest difference, NaN where one is NaN and the other is not; equal infinities don't differ.
template <class T> double difference(const std::vector<T>& got, const std::vector<long double>& expected) {
  double largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const auto value = static_cast<long double>(static_cast<Accumulator<T>>(got[i]));
    if (value == expected[i]) continue;
    const auto error = static_cast<double>(std::abs(value - expected[i]));
    if (!(error <= largest)) largest = error;
    if (std::isnan(largest)) break;
  }
  return largest;
}

}  // namespace moxie::testing
