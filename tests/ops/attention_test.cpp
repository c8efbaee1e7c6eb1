// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: rope, attention and packed_attention.
#include <doctest/doctest.h>

#include <cmath>

#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

struct Case {
  int64_t batch, time, keys, heads, kv_heads, head_dim;
  AttentionOptions options = {};
};

// Element (b, t, h, i) of an operand is at[((b * time + t) * heads_in_row + first + h) * head_dim + i].
struct Operand {
  const Numbers& numbers;
  int64_t time, heads_in_row, first, head_dim;
  double operator()(int64_t b, int64_t t, int64_t h, int64_t i) const {
    return numbers[((b * time + t) * heads_in_row + first + h) * head_dim + i];
  }
  // The same turned by rope, as that of the key at `place`.
  double turned(const AttentionOptions& options, int64_t place, int64_t b, int64_t t, int64_t h, int64_t i) const {
    const double x = (*this)(b, t, h, i);
    if (options.rope_base == 0) return x;
    const int64_t half = head_dim / 2, pair = i % half;
    const double angle = static_cast<double>(options.first_position + place) *
                         std::pow(options.rope_base, -2.0 * static_cast<double>(pair) / static_cast<double>(head_dim));
    const double other = (*this)(b, t, h, i < half ? i + half : i - half);
    return x * std::cos(angle) + (i < half ? -other : other) * std::sin(angle);
  }
};

bool sees(const Case& c, int64_t b, int64_t h, int64_t t, int64_t s) {
  const int64_t place = t + c.keys - c.time;
  if (c.options.causal && s > place) return false;
  if (c.options.window > 0 && s <= place - c.options.window) return false;
  const Array& mask = c.options.mask;
  if (!mask.defined()) return true;
  int64_t at = 0;
  const int64_t index[] = {b, h, t, s}, first = 4 - mask.shape().rank();
  for (int64_t i = first; i < 4; ++i) {
    const int64_t size = mask.shape()[i - first];
    at = at * size + (size == 1 ? 0 : index[i]);
  }
  return mask.data<uint8_t>()[at] != 0;
}

Numbers attend(const Case& c, const Operand& q, const Operand& k, const Operand& v) {
  Numbers out({c.batch, c.time, c.heads, c.head_dim});
  const double scale = c.options.scale > 0 ? c.options.scale : 1 / std::sqrt(static_cast<double>(c.head_dim));
  int64_t at = 0;
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t t = 0; t < c.time; ++t)
      for (int64_t h = 0; h < c.heads; ++h) {
        const int64_t kv = h / (c.heads / c.kv_heads);
        std::vector<double> weight(static_cast<size_t>(c.keys));
        double total = 0;
        for (int64_t s = 0; s < c.keys; ++s) {
          if (!sees(c, b, h, t, s)) continue;
          double score = 0;
          for (int64_t i = 0; i < c.head_dim; ++i)
            score += q.turned(c.options, t + c.keys - c.time, b, t, h, i) * k.turned(c.options, s, b, s, kv, i);
          score *= scale;
          if (c.options.softcap > 0) score = c.options.softcap * std::tanh(score / c.options.softcap);
          total += weight[static_cast<size_t>(s)] = std::exp(score);
        }
        for (int64_t i = 0; i < c.head_dim; ++i, ++at)
          for (int64_t s = 0; s < c.keys; ++s)
            if (total > 0) out[at] += weight[static_cast<size_t>(s)] / total * v(b, s, kv, i);
      }
  return out;
}

constexpr Tolerances tolerances{.f32 = 2e-5, .bf16 = 0.1};  // dout . out, of a rounded out, cancels

}  // namespace

TEST_CASE("attention") {
  for (const Case& c : {Case{1, 1, 1, 1, 1, 1}, Case{2, 3, 3, 2, 2, 4}, Case{2, 3, 3, 4, 2, 2}, Case{1, 5, 5, 3, 1, 3},
                        Case{2, 3, 5, 2, 1, 4}, Case{1, 5, 3, 2, 2, 4}, Case{0, 3, 3, 2, 2, 4}, Case{2, 0, 3, 2, 2, 4},
                        Case{2, 3, 0, 2, 2, 4}, Case{1, 31, 33, 2, 1, 16}, Case{1, 130, 130, 2, 1, 8},
                        Case{2, 65, 65, 4, 4, 32}, Case{1, 3, 1025, 1, 1, 5}}) {
    for (const AttentionOptions& options :
         {AttentionOptions{}, AttentionOptions{.causal = false}, AttentionOptions{true, 0.7}}) {
      if (options.scale > 0 && c.time > 10) continue;
      Case with = c;
      with.options = options;
      run({.covers = "attention(Tensor, Tensor, Tensor, AttentionOptions)",
           .name = fmt::format("{}, scale {}", options.causal ? "causal" : "full", options.scale),
           .function = [=](std::span<const Tensor> x) { return attention(x[0], x[1], x[2], options); },
           .reference =
               [=](std::span<const Numbers> x) {
                 return attend(with, {x[0], c.time, c.heads, 0, c.head_dim}, {x[1], c.keys, c.kv_heads, 0, c.head_dim},
                               {x[2], c.keys, c.kv_heads, 0, c.head_dim});
               },
           .inputs = {{{c.batch, c.time, c.heads, c.head_dim}},
                      {{c.batch, c.keys, c.kv_heads, c.head_dim}},
                      {{c.batch, c.keys, c.kv_heads, c.head_dim}}},
           .tolerances = tolerances});
    }
  }
}

// The options with their mask where x is.
AttentionOptions on(const Tensor& x, AttentionOptions options) {
  options.mask = options.mask.to(x.device());
  return options;
}

// Half of the pairs hidden; the queries of the last position see nothing.
Array half_mask(const Shape& shape) {
  const std::vector<int32_t> drawn = random_indices(shape, 2).to_vector<int32_t>();
  const auto keys = static_cast<size_t>(shape[-1]), queries = static_cast<size_t>(shape[-2]);
  std::vector<uint8_t> mask;
  for (size_t i = 0; i < drawn.size(); ++i)
    mask.push_back(queries > 2 && i / keys % queries == queries - 1 ? 0 : static_cast<uint8_t>(drawn[i]));
  return Array::from(mask, shape);
}

TEST_CASE("attention: window, softcap and mask") {
  for (const Case& c : {Case{2, 5, 5, 2, 1, 3, {.window = 2}}, Case{1, 4, 7, 2, 2, 2, {.window = 3, .softcap = 0.8}},
                        Case{1, 70, 140, 2, 1, 4, {.window = 50}}, Case{1, 5, 5, 2, 2, 3, {.softcap = 1.5}},
                        Case{1, 2, 33, 2, 1, 4, {.causal = false, .softcap = 1}},
                        Case{2, 4, 5, 2, 1, 3, {.causal = false, .mask = half_mask({4, 5})}},
                        Case{2, 4, 4, 2, 2, 3, {.mask = half_mask({2, 1, 4, 4})}},
                        Case{2, 3, 5, 4, 2, 2, {.causal = false, .mask = half_mask({1, 4, 3, 5})}},
                        Case{3, 4, 6, 2, 2, 4, {.causal = false, .mask = half_mask({3, 1, 1, 6})}},
                        Case{2, 33, 65, 2, 1, 4, {.window = 20, .softcap = 2, .mask = half_mask({2, 2, 33, 65})}},
                        Case{1, 1, 130, 2, 1, 8, {.window = 20, .softcap = 2, .mask = half_mask({1, 130})}},
                        Case{0, 3, 3, 2, 1, 2, {.window = 2, .mask = half_mask({0, 2, 3, 3})}},
                        Case{2, 5, 5, 2, 1, 2, {.rope_base = 100}},
                        Case{1, 4, 7, 2, 2, 6, {.window = 3, .rope_base = 10000, .first_position = 11}},
                        Case{1, 2, 3, 2, 1, 16, {.softcap = 2, .rope_base = 50, .first_position = 3}},
                        Case{1, 1, 5, 1, 1, 4, {.causal = false, .rope_base = 10000}},
                        Case{0, 3, 3, 2, 1, 2, {.rope_base = 100}}, Case{1, 0, 3, 2, 1, 2, {.rope_base = 100}}})
    run({.covers = "attention(Tensor, Tensor, Tensor, AttentionOptions)",
         .name = fmt::format("window {}, softcap {}, rope {}, mask {}", c.options.window, c.options.softcap,
                             c.options.rope_base,
                             c.options.mask.defined() ? fmt::format("{}", c.options.mask.shape()) : "none"),
         .function = [=](std::span<const Tensor> x) { return attention(x[0], x[1], x[2], on(x[0], c.options)); },
         .reference =
             [=](std::span<const Numbers> x) {
               return attend(c, {x[0], c.time, c.heads, 0, c.head_dim}, {x[1], c.keys, c.kv_heads, 0, c.head_dim},
                             {x[2], c.keys, c.kv_heads, 0, c.head_dim});
             },
         .inputs = {{{c.batch, c.time, c.heads, c.head_dim}},
                    {{c.batch, c.keys, c.kv_heads, c.head_dim}},
                    {{c.batch, c.keys, c.kv_heads, c.head_dim}}},
         .tolerances = tolerances});
}

TEST_CASE("packed_attention") {
  for (const Case& c : {Case{1, 1, 1, 1, 1, 1}, Case{2, 3, 3, 2, 2, 4}, Case{2, 3, 3, 4, 2, 2}, Case{1, 5, 5, 3, 1, 3},
                        Case{0, 3, 3, 2, 1, 4}, Case{2, 0, 0, 2, 2, 4}, Case{2, 33, 33, 4, 2, 16},
                        Case{1, 130, 130, 2, 1, 8}, Case{1, 1025, 1025, 1, 1, 2},
                        Case{2, 6, 6, 2, 1, 3, {.window = 3, .softcap = 1, .mask = half_mask({2, 1, 6, 6})}},
                        Case{2, 5, 5, 2, 1, 6, {.rope_base = 100, .first_position = 7}},
                        Case{1, 70, 70, 4, 2, 16, {.window = 20, .rope_base = 10000}},
                        Case{0, 3, 3, 2, 1, 2, {.rope_base = 100}}, Case{2, 0, 0, 2, 1, 2, {.rope_base = 100}}})
    for (const bool causal : {true, false}) {
      Case with = c;
      with.options.causal = causal;
      if (!causal) with.options.window = 0;
      const int64_t row = c.heads + 2 * c.kv_heads;
      run({.covers = "packed_attention(Tensor, int64_t, int64_t, AttentionOptions)",
           .name = causal ? "causal" : "full",
           .function =
               [=](std::span<const Tensor> x) {
                 return packed_attention(x[0], c.heads, c.kv_heads, on(x[0], with.options));
               },
           .reference =
               [=](std::span<const Numbers> x) {
                 return attend(with, {x[0], c.time, row, 0, c.head_dim}, {x[0], c.time, row, c.heads, c.head_dim},
                               {x[0], c.time, row, c.heads + c.kv_heads, c.head_dim});
               },
           .inputs = {{{c.batch, c.time, row, c.head_dim}}},
           .tolerances = tolerances});
    }
}

TEST_CASE("rope") {
  struct RopeCase {
    Shape shape;
    int64_t heads, first_position;
    double base;
  };
  for (const RopeCase& c :
       {RopeCase{{1, 1, 1, 2}, 1, 0, 10000}, RopeCase{{2, 3, 2, 4}, 2, 0, 10000}, RopeCase{{2, 3, 4, 4}, 2, 0, 10000},
        RopeCase{{2, 3, 2, 4}, 0, 5, 10000}, RopeCase{{1, 3, 2, 6}, 2, 1000, 100}, RopeCase{{0, 3, 2, 4}, 2, 0, 10000},
        RopeCase{{2, 0, 2, 4}, 2, 0, 10000}, RopeCase{{1, 2, 3, 0}, 3, 0, 10000}, RopeCase{{1, 33, 3, 62}, 2, 7, 10000},
        RopeCase{{2, 1025, 1, 10}, 1, 0, 500}})
    run({.covers = "rope(Tensor, int64_t, int64_t, double)",
         .name = fmt::format("{} heads from position {}, base {}", c.heads, c.first_position, c.base),
         .function = [=](std::span<const Tensor> x) { return rope(x[0], c.heads, c.first_position, c.base); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y = x[0];
               const int64_t time = c.shape[1], all = c.shape[2], d = c.shape[3], half = d / 2;
               for (int64_t token = 0; token < c.shape[0] * time; ++token)
                 for (int64_t h = 0; h < c.heads; ++h)
                   for (int64_t i = 0; i < half; ++i) {
                     const double angle = static_cast<double>(c.first_position + token % time) *
                                          std::pow(c.base, -2.0 * static_cast<double>(i) / static_cast<double>(d));
                     const int64_t at = (token * all + h) * d + i;
                     const double a = x[0][at], b = x[0][at + half];
                     y[at] = a * std::cos(angle) - b * std::sin(angle);
                     y[at + half] = a * std::sin(angle) + b * std::cos(angle);
                   }
               return y;
             },
         .inputs = {{c.shape}}});
}
