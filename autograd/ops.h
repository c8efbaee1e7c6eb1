// SPDX-License-Identifier: Apache-2.0
// The ops. Inputs of one op must share dtype and device: nothing is converted or moved implicitly. Every op throws
// std::invalid_argument, naming itself, the rule, and the shapes, where its inputs don't fit. `dim` may count from the
// back. Unless said otherwise ops take f64, f32 and bf16, and accumulate bf16 in f32.
#pragma once
#include <span>
#include <vector>

#include "autograd/tensor.h"
#include "core/philox.h"

namespace moxie {

// ---- elementwise, operands broadcast like NumPy's ----
Tensor add(const Tensor& x, const Tensor& y);
Tensor sub(const Tensor& x, const Tensor& y);
Tensor mul(const Tensor& x, const Tensor& y);
Tensor div(const Tensor& x, const Tensor& y);
inline Tensor operator+(const Tensor& x, const Tensor& y) { return add(x, y); }
inline Tensor operator-(const Tensor& x, const Tensor& y) { return sub(x, y); }
inline Tensor operator*(const Tensor& x, const Tensor& y) { return mul(x, y); }
inline Tensor operator/(const Tensor& x, const Tensor& y) { return div(x, y); }
// scale * x + shift
Tensor affine(const Tensor& x, double scale, double shift);
inline Tensor operator*(double scale, const Tensor& x) { return affine(x, scale, 0); }
inline Tensor operator*(const Tensor& x, double scale) { return affine(x, scale, 0); }
inline Tensor operator/(const Tensor& x, double divisor) { return affine(x, 1 / divisor, 0); }
inline Tensor operator+(const Tensor& x, double shift) { return affine(x, 1, shift); }
inline Tensor operator+(double shift, const Tensor& x) { return affine(x, 1, shift); }
inline Tensor operator-(const Tensor& x, double shift) { return affine(x, 1, -shift); }
inline Tensor operator-(double shift, const Tensor& x) { return affine(x, -1, shift); }

Tensor neg(const Tensor& x);
inline Tensor operator-(const Tensor& x) { return neg(x); }
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor relu(const Tensor& x);  // gradient 0 at 0
Tensor gelu(const Tensor& x);  // exact, by erf
Tensor silu(const Tensor& x);  // x sigmoid(x)
Tensor sigmoid(const Tensor& x);
Tensor softplus(const Tensor& x);  // log(1 + exp(x))
// x in another float dtype; the gradient is converted back.
Tensor cast(const Tensor& x, Dtype dtype);

// How the hidden units of a feed-forward network are made from its first projection.
enum class Activation { swiglu, gelu, relu };
const char* name_of(Activation activation);
// Throws std::invalid_argument for a name other than swiglu, gelu, relu.
Activation activation_from_name(std::string_view name);
// Width of the first projection for `hidden` units: twice as many for swiglu, whose gate rows come first.
int64_t projection_width(Activation activation, int64_t hidden);
// swiglu: silu(gate) * up for x = [gate, up] [.., 2 hidden] -> [.., hidden]; gelu, relu: elementwise.
Tensor activate(const Tensor& x, Activation activation);

// ---- reductions ----
// Over one dimension, which disappears (or stays with size 1 where `keep`).
Tensor sum(const Tensor& x, int64_t dim, bool keep = false);
Tensor mean(const Tensor& x, int64_t dim, bool keep = false);
Tensor logsumexp(const Tensor& x, int64_t dim, bool keep = false);
// Over everything; the result is a scalar.
Tensor sum(const Tensor& x);
Tensor mean(const Tensor& x);

// ---- matmul ----
// x [.., m, k] times y [.., k, n] -> [.., m, n]; equal leading dimensions, or y is a matrix shared by all of them.
// A transposed operand is given as [.., k, m] or [.., n, k].
struct MatmulOptions {
  bool transpose_x = false;
  bool transpose_y = false;
};
Tensor matmul(const Tensor& x, const Tensor& y, MatmulOptions options = {});
// x [.., in] times weight [out, in] transposed, plus bias [out] where defined -> [.., out]. x and weight may be bf16
// while the weight's gradient is kept in f32.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
// x [rows, in], sorted by group, times weight [groups, out, in] transposed -> [rows, out]. offsets [groups + 1] (i32)
// says that group g has rows [offsets[g], offsets[g + 1]); empty groups get zero gradients.
Tensor grouped_matmul(const Tensor& x, const Tensor& weight, const Array& offsets);

// ---- shape ----
Tensor reshape(const Tensor& x, const Shape& shape);
Tensor reshape(const Tensor& x, std::initializer_list<int64_t> sizes);  // one size may be -1
Tensor permute(const Tensor& x, std::initializer_list<int64_t> order);
Tensor permute(const Tensor& x, std::span<const int64_t> order);
Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1);
Tensor concat(std::span<const Tensor> inputs, int64_t dim);
Tensor concat(std::initializer_list<Tensor> inputs, int64_t dim);
// Elements [first, first + count) of dimension `dim`.
Tensor slice(const Tensor& x, int64_t dim, int64_t first, int64_t count);

// ---- index: indices are i32 arrays without gradient, checked against the range ----
// The index[i]-th element along `dim`: y has index's shape, which is x's but for `dim`.
Tensor gather(const Tensor& x, int64_t dim, const Array& index);
// x with source[i] added to row index[i]: x [rows, ..], index [n], source [n, ..]; rows met several times add up.
Tensor index_add(const Tensor& x, const Array& index, const Tensor& source);
// Rows index of weight [vocabulary, width] -> [index shape.., width]
Tensor embedding(const Tensor& weight, const Array& index);
// The k largest of the last dimension in falling order, the lowest index first among equals; NaN counts as smallest.
struct TopK {
  Tensor values;  // [.., k]
  Array indices;  // [.., k], i32
};
TopK top_k(const Tensor& x, int64_t k);

// ---- rows: over the last dimension ----
Tensor softmax(const Tensor& x);
Tensor log_softmax(const Tensor& x);
// Mean of -log softmax(logits)[target] over the targets that aren't `ignore_index` -> scalar in f32 (f64 for f64);
// 0 with zero gradient where all are ignored. logits [.., classes], targets [..] (i32).
Tensor cross_entropy(const Tensor& logits, const Array& targets, int64_t ignore_index = -100);
// x / sqrt(mean(x^2) + epsilon) * weight [width]; weight is f32, or f64 for f64
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon = 1e-5);
// |x| + offset of each row -> [..]; gradient 0 where |x| = 0
Tensor l2_norm(const Tensor& x, double offset = 0);
// x with each element set to 0 with probability p and divided by 1 - p otherwise; the same key draws the same mask.
Tensor dropout(const Tensor& x, double p, RandomKey key);

// ---- attention ----
// Rotates the first `heads` heads of x [batch, time, heads_in_x, head_dim] by position (RoPE, half-split pairs i and
// i + head_dim / 2, angle = position * base^(-2 i / head_dim)); position of time t is first_position + t.
Tensor rope(const Tensor& x, int64_t heads, int64_t first_position = 0, double base = 10000);
struct AttentionOptions {
  bool causal = true;
  double scale = 0;  // 0: 1 / sqrt(head_dim)
};
// softmax(scale q k^T) v per head. q [batch, time, heads, head_dim], k and v [batch, keys, kv_heads, head_dim], where
// kv_heads divides heads. Causal: query i sees keys up to i + keys - time. Memory is linear in length.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, AttentionOptions options = {});
// The same reading q, k and v from one tensor qkv [batch, time, heads + 2 kv_heads, head_dim].
Tensor packed_attention(const Tensor& qkv, int64_t heads, int64_t kv_heads, AttentionOptions options = {});

}  // namespace moxie
