// SPDX-License-Identifier: Apache-2.0
#include "core/attention.h"

#include <doctest/doctest.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/parallel.h"

using namespace moxie;

namespace {

struct Shape {
  int64_t batch = 1, heads = 1, kv_heads = 1, q_length = 1, k_length = 1, head_dim = 1;
  bool causal = true;
  bool packed = false;  // q, k and v in the rows of one buffer
};

std::string describe(const Shape& s) {
  return fmt::format("batch {} heads {}/{} q {} k {} dim {}{}{}", s.batch, s.heads, s.kv_heads, s.q_length, s.k_length,
                     s.head_dim, s.causal ? " causal" : "", s.packed ? " packed" : "");
}

// The buffers of one problem, outputs poisoned with NaN.
template <class T> struct Case {
  Shape shape;
  double scale;
  std::vector<T> qkv, gradients;  // q, k and v one after another, or packed in rows
  std::vector<T> out, dout;
  std::vector<Accumulator<T>> lse;

  explicit Case(const Shape& s, unsigned seed = 1, double size = 1)
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
struct Reference {
  std::vector<long double> out, lse, gradients;
};

template <class T> Reference reference(const Case<T>& c) {
  const Shape& s = c.shape;
  Reference r;
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

template <class T> void compare(const Shape& shape, double tolerance, double gradient_tolerance) {
  CAPTURE(describe(shape));
  Case<T> c(shape);
  c.forward();
  Reference r = reference(c);
  CHECK(difference(c.out, r.out) <= tolerance);
  CHECK(difference(c.lse, r.lse) <= (dtype_of<T> == Dtype::f64 ? tolerance : 4e-6));
  if (shape.packed && shape.q_length != shape.k_length) return;
  c.backward();
  CHECK(difference(c.gradients, r.gradients) <= gradient_tolerance);
}

void compare_all(const Shape& shape) {
  compare<double>(shape, 1e-13, 1e-12);
  compare<float>(shape, 4e-6, 4e-5);
  compare<bf16>(shape, 0.02, 0.15);
}

template <class T> bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace

TEST_CASE("attention: lengths around the block sizes") {
  for (const int64_t length : {1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130, 257}) {
    compare_all({.heads = 2, .kv_heads = 2, .q_length = length, .k_length = length, .head_dim = 8});
  }
}

TEST_CASE("attention: head dimensions") {
  for (const int64_t dim : {1, 2, 3, 4, 8, 16, 20, 32, 33, 64, 80}) {
    compare_all({.heads = 1, .kv_heads = 1, .q_length = 67, .k_length = 67, .head_dim = dim});
  }
  compare_all({.heads = 1, .kv_heads = 1, .q_length = 40, .k_length = 40, .head_dim = 300});
}

TEST_CASE("attention: grouped heads, batches, packed rows") {
  for (const int64_t kv_heads : {1, 2, 4}) {
    for (const bool packed : {false, true}) {
      compare_all({2, 4, kv_heads, 70, 70, 16, true, packed});
      compare_all({2, 4, kv_heads, 70, 70, 20, false, packed});
    }
  }
}

TEST_CASE("attention: key/value caches, full attention, more queries than keys") {
  for (const bool causal : {true, false}) {
    for (const auto& [q, k] : {std::pair{1, 1},
                               {1, 130},
                               {1, 600},
                               {2, 77},
                               {5, 64},
                               {33, 200},
                               {64, 65},
                               {100, 129},
                               {65, 64},
                               {70, 3},
                               {200, 70},
                               {150, 1},
                               {3, 2}}) {
      compare_all({2, 4, 2, q, k, 20, causal, false});
    }
  }
}

TEST_CASE("attention: empty sizes") {
  for (const bool causal : {true, false}) {
    compare_all({0, 2, 2, 5, 5, 8, causal, false});
    compare_all({2, 2, 2, 0, 5, 8, causal, false});
    compare_all({2, 2, 1, 5, 0, 8, causal, false});
  }
}

TEST_CASE("attention: backward is the derivative of forward") {
  for (const Shape& shape : {Shape{1, 2, 1, 6, 6, 4, true, false}, Shape{2, 2, 2, 3, 5, 3, true, false},
                             Shape{1, 1, 1, 5, 3, 2, true, false}, Shape{1, 4, 2, 4, 4, 5, false, true}}) {
    CAPTURE(describe(shape));
    Case<double> c(shape);
    c.forward();
    c.backward();
    const double h = 1e-3;
    for (size_t i = 0; i < c.qkv.size(); ++i) {
      const double x = c.qkv[i];
      const auto loss = [&](double step) {
        c.qkv[i] = x + step;
        c.forward();
        double sum = 0;
        for (size_t o = 0; o < c.out.size(); ++o) sum += c.out[o] * c.dout[o];
        return sum;
      };
      const double slope = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h);
      c.qkv[i] = x;
      CAPTURE(i);
      CHECK(std::abs(slope - c.gradients[i]) <= 1e-9);
    }
  }
}

TEST_CASE("attention: the same bits for any number of threads") {
  const int before = threads();
  for (const Shape& shape : {Shape{3, 4, 2, 150, 150, 32, true, true}, Shape{1, 4, 1, 300, 500, 20, true, false}}) {
    Case<float> one(shape), two(shape);
    set_threads(1);
    one.forward();
    one.backward();
    for (const int count : {2, 3}) {
      set_threads(count);
      two.poison();
      two.forward();
      two.backward();
      CHECK(same_bits(one.out, two.out));
      CHECK(same_bits(one.lse, two.lse));
      CHECK(same_bits(one.gradients, two.gradients));
    }
  }
  set_threads(before);
}

TEST_CASE("attention: large scores don't overflow") {
  const Shape shape{1, 2, 2, 140, 140, 8, true, false};
  Case<double> exact(shape, 1, 100);
  Case<float> c(shape, 1, 100);
  c.forward();
  c.backward();
  for (size_t i = 0; i < c.qkv.size(); ++i) exact.qkv[i] = c.qkv[i];
  for (size_t i = 0; i < c.dout.size(); ++i) exact.dout[i] = c.dout[i];
  exact.forward();
  exact.backward();
  Reference r = reference(exact);
  CHECK(difference(exact.out, r.out) <= 1e-9);
  CHECK(difference(exact.gradients, r.gradients) <= 1e-7);
  CHECK(*std::max_element(c.lse.begin(), c.lse.end()) > 1e4F);
  // Scores of 1e4 carry an error of 1e-3 in f32, values are around 100.
  CHECK(difference(c.out, r.out) <= 0.5);
  for (const float x : c.gradients) CHECK(std::isfinite(x));
}

TEST_CASE("attention: NaN and inf reach whoever sees them, and nobody else") {
  const Shape shape{1, 2, 1, 100, 100, 8, true, false};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const int64_t at : {0, 37, 99}) {
      for (const int which : {0, 1, 2, 3}) {  // q, k, v, dout
        CAPTURE(which);
        CAPTURE(at);
        Case<float> c(shape);
        if (which == 3) c.dout[static_cast<size_t>(c.out_index(0, at, 0, 3))] = bad;
        if (which < 3) {
          const int64_t i = which == 0   ? c.q_index(0, at, 0, 3)
                            : which == 1 ? c.k_index(0, at, 0, 3)
                                         : c.v_index(0, at, 0, 3);
          c.qkv[static_cast<size_t>(i)] = bad;
        }
        c.forward();
        c.backward();
        for (int64_t t = 0; t < 100; ++t) {
          const bool sees = which == 0 ? t == at : which == 3 ? false : t >= at;
          bool out_bad = false, dq_bad = false, dkv_bad = false;
          for (int64_t i = 0; i < 8; ++i) {
            out_bad |= !std::isfinite(c.out[static_cast<size_t>(c.out_index(0, t, 0, i))]);
            dq_bad |= !std::isfinite(c.gradients[static_cast<size_t>(c.q_index(0, t, 0, i))]);
            dkv_bad |= !std::isfinite(c.gradients[static_cast<size_t>(c.k_index(0, t, 0, i))]);
            dkv_bad |= !std::isfinite(c.gradients[static_cast<size_t>(c.v_index(0, t, 0, i))]);
          }
          // With inf in q or k a score may be -inf, which is no more than a weight of zero.
          if (std::isnan(bad) || which >= 2) CHECK(out_bad == sees);
          if (!sees) CHECK(!out_bad);
          if (which == 0 || which == 3) {  // one bad query: the keys up to it, and dq of its own
            CHECK((!dq_bad || t == at));
            CHECK((!dkv_bad || t <= at));
            if (std::isnan(bad)) CHECK(dq_bad == (t == at));
            if (std::isnan(bad)) CHECK(dkv_bad == (t <= at));
          } else {
            CHECK((!dq_bad || t >= at));
            if (std::isnan(bad)) CHECK(dq_bad == (t >= at));
          }
        }
      }
    }
  }
}

TEST_CASE("attention: messages") {
  Case<float> c({1, 4, 2, 3, 3, 4, true, false});
  const auto message = [](const AttentionBackward& p, bool backward) -> std::string {
    try {
      backward ? attention_backward(Device::cpu(), p) : attention(Device::cpu(), p.forward);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  AttentionBackward p = c.problem();
  p.forward.kv_heads = 3;
  CHECK(message(p, false) == "attention: heads must be a multiple of kv_heads, got heads = 4, kv_heads = 3");
  CHECK(message(p, true) == "attention_backward: heads must be a multiple of kv_heads, got heads = 4, kv_heads = 3");
  p = c.problem();
  p.forward.dtype = Dtype::i32;
  CHECK(message(p, false) == "attention: dtype must be f64, f32 or bf16, got i32");
  p = c.problem();
  p.forward.head_dim = 0;
  CHECK(message(p, false) == "attention: head_dim must be at least 1, got 0");
  p = c.problem();
  p.forward.batch = -1;
  CHECK(message(p, false) == "attention: sizes must not be negative, batch -1, q 3, k 3");
  p = c.problem();
  p.forward.v_stride = 7;
  CHECK(
      message(p, false) ==
      "attention: strides must hold all heads of a position, q 16 and out 16 (at least 16), k 8 and v 7 (at least 8)");
  p = c.problem();
  p.dout_stride = 15;
  CHECK(message(p, true) ==
        "attention_backward: the stride of dout must hold all heads of a position, got 15, at least 16");
#ifndef MOXIE_CUDA
  CHECK_THROWS_AS(attention(Device::cuda(), c.problem().forward), std::invalid_argument);
  CHECK_THROWS_AS(attention_backward(Device::cuda(), c.problem()), std::invalid_argument);
#endif
}
