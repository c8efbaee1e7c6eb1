// SPDX-License-Identifier: Apache-2.0
// Every rule of the ops in autograd/ops.h has a message, and this is its text.
#include <doctest/doctest.h>

#include <functional>

#include "autograd/ops.h"

using namespace moxie;

namespace {

struct Case {
  std::function<void()> f;
  const char* message;
};

void expect(const std::vector<Case>& cases) {
  for (const Case& c : cases) CHECK_THROWS_WITH_AS(c.f(), c.message, std::invalid_argument);
}

Tensor of(const Shape& shape, Dtype dtype = Dtype::f32) { return Tensor::zeros(shape, {dtype}); }
Array indices(const std::vector<int32_t>& values) { return Array::from(values, {static_cast<int64_t>(values.size())}); }

const Tensor whole = of({2}, Dtype::i32);

}  // namespace

TEST_CASE("errors: elementwise ops") {
  expect({
      {[] {
         add(of({2, 3}), of({2}));
       },
       "add: shapes don't broadcast, x [2, 3] and y [2] (dimension -1: 3 and 2)"},
      {[] {
         sub(of({4, 1}), of({3, 1}));
       },
       "sub: shapes don't broadcast, x [4, 1] and y [3, 1] (dimension -2: 4 and 3)"},
      {[] { mul(of({2}), of({0})); }, "mul: shapes don't broadcast, x [2] and y [0] (dimension -1: 2 and 0)"},
      {[] { moxie::div(of({2}), of({2}, Dtype::f64)); }, "div: x is f32 and y is f64; convert one with cast"},
      {[] { add(whole, whole); }, "add: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] { affine(whole, 2, 0); }, "affine: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] { relu(whole); }, "relu: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] { cast(whole, Dtype::f32); }, "cast: needs float dtypes, got i32 to f32; an Array converts with .to(dtype)"},
      {[] { cast(of({2}), Dtype::u8); }, "cast: needs float dtypes, got f32 to u8; an Array converts with .to(dtype)"},
      {[] {
         activate(of({2, 3}), Activation::swiglu);
       },
       "activate: swiglu needs gate and up halves of equal width, got shape [2, 3]"},
      {[] { activate(of({}), Activation::swiglu); },
       "activate: swiglu needs gate and up halves of equal width, got shape []"},
      {[] { activation_from_name("tanh"); }, "activation: must be swiglu, gelu or relu, got 'tanh'"},
      {[] { dropout(of({2}), 1, {}); }, "dropout: p must be in [0, 1), got 1"},
      {[] { dropout(of({2}), -0.1, {}); }, "dropout: p must be in [0, 1), got -0.1"},
  });
}

TEST_CASE("errors: reductions and rows") {
  expect({
      {[] {
         sum(of({2, 3}), 2);
       },
       "sum: dimension 2 is out of range for shape [2, 3]"},
      {[] {
         sum(of({2, 3}), -3);
       },
       "sum: dimension -3 is out of range for shape [2, 3]"},
      {[] { sum(whole, 0); }, "sum: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] {
         mean(of({2, 0}), 1);
       },
       "mean: dimension 1 of shape [2, 0] is empty"},
      {[] {
         mean(of({2, 0}));
       },
       "mean: shape [2, 0] is empty"},
      {[] { logsumexp(of({}), 0); }, "logsumexp: dimension 0 is out of range for shape []"},
      {[] { softmax(of({})); }, "softmax: needs at least one dimension, got a scalar"},
      {[] { log_softmax(of({})); }, "log_softmax: needs at least one dimension, got a scalar"},
      {[] { l2_norm(of({})); }, "l2_norm: needs at least one dimension, got a scalar"},
      {[] { l2_norm(of({2}), -1); }, "l2_norm: offset must not be negative, got -1"},
      {[] {
         rms_norm(of({2, 3}), of({2}));
       },
       "rms_norm: weight must be [width], got x [2, 3] and weight [2]"},
      {[] {
         rms_norm(of({2, 3}, Dtype::bf16), of({3}, Dtype::bf16));
       },
       "rms_norm: for x in bf16 on cpu the weight must be f32 there, got bf16 on cpu"},
      {[] {
         rms_norm(of({2, 3}), of({3}), -1);
       },
       "rms_norm: epsilon must not be negative, got -1"},
      {[] {
         cross_entropy(of({2, 3}), indices({0}));
       },
       "cross_entropy: targets must have the logits' shape without the last dimension, got logits [2, 3] and targets "
       "[1]"},
      {[] {
         cross_entropy(of({0, 0}), indices({}));
       },
       "cross_entropy: there must be at least one class, got logits [0, 0]"},
      {[] {
         cross_entropy(of({1, 3}), indices({3}));
       },
       "cross_entropy: index 3 at position 0 is out of range [0, 3)"},
      {[] {
         cross_entropy(of({1, 3}), Array::zeros({1}));
       },
       "cross_entropy: indices must be i32, got f32"},
  });
}

TEST_CASE("errors: matmul") {
  expect({
      {[] {
         matmul(of({32, 64}), of({128, 10}));
       },
       "matmul: inner dimensions differ, x [32, 64] and y [128, 10] (64 and 128)"},
      {[] {
         matmul(of({2, 3}), of({4, 5}), {.transpose_x = true, .transpose_y = true});
       },
       "matmul: inner dimensions differ, x [2, 3] transposed and y [4, 5] transposed (2 and 5)"},
      {[] {
         matmul(of({3}), of({3, 4}));
       },
       "matmul: operands must be matrices or batches of them, got x [3] and y [3, 4]"},
      {[] {
         matmul(of({2, 3, 4}), of({5, 4, 6}));
       },
       "matmul: leading dimensions differ, x [2, 3, 4] and y [5, 4, 6]; y may also be a single matrix"},
      {[] {
         matmul(of({3, 4}), of({5, 4, 6}));
       },
       "matmul: leading dimensions differ, x [3, 4] and y [5, 4, 6]; y may also be a single matrix"},
      {[] {
         matmul(of({2, 2}, Dtype::i32), of({2, 2}, Dtype::i32));
       },
       "matmul: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] {
         matmul(of({2, 2}), of({2, 2}, Dtype::bf16));
       },
       "matmul: x is f32 and y is bf16; convert one with cast"},
      {[] {
         linear(of({2, 3}), of({5, 4}));
       },
       "linear: x [2, 3] doesn't fit weight [5, 4] ([out, in], in = 4)"},
      {[] {
         linear(of({}), of({5, 4}));
       },
       "linear: x [] doesn't fit weight [5, 4] ([out, in], in = 4)"},
      {[] {
         linear(of({2, 3}), of({3}));
       },
       "linear: weight must be [out, in], got [3]"},
      {[] {
         linear(of({2, 3}), of({5, 3}), of({3}));
       },
       "linear: bias must be [5], got [3]"},
      {[] {
         linear(of({2, 3}, Dtype::i32), of({5, 3}, Dtype::i32));
       },
       "linear: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] {
         linear(of({2, 3}), of({5, 3}, Dtype::f64));
       },
       "linear: x is f32 and weight is f64; convert one with cast"},
      {[] {
         grouped_matmul(of({2, 3}), of({1, 4, 5}), indices({0, 2}));
       },
       "grouped_matmul: x must be [rows, in] and weight [groups, out, in], got x [2, 3] and weight [1, 4, 5]"},
      {[] {
         grouped_matmul(of({2, 3}, Dtype::i32), of({1, 4, 3}, Dtype::i32), indices({0, 2}));
       },
       "grouped_matmul: needs a float dtype (f64, f32 or bf16), got i32"},
      {[] {
         grouped_matmul(of({2, 3}), of({2, 4, 3}), indices({0, 2}));
       },
       "grouped_matmul: offsets must be i32 [groups + 1 = 3], got i32 [2]"},
      {[] {
         grouped_matmul(of({2, 3}), of({1, 4, 3}), Array::zeros({2}));
       },
       "grouped_matmul: offsets must be i32 [groups + 1 = 2], got f32 [2]"},
      {[] {
         grouped_matmul(of({2, 3}), of({1, 4, 3}), indices({0, 3}));
       },
       "grouped_matmul: offsets must run from 0 to the number of rows 2, got 0 to 3"},
      {[] {
         grouped_matmul(of({2, 3}), of({3, 4, 3}), indices({0, 2, 1, 2}));
       },
       "grouped_matmul: offsets must not fall, got 2 then 1 at group 1"},
  });
}

TEST_CASE("errors: shapes and indices") {
  expect({
      {[] {
         reshape(of({2, 3}), {4});
       },
       "reshape: [2, 3] has 6 elements, [4] has 4"},
      {[] {
         reshape(of({2, 3}), {4, -1});
       },
       "reshape: [2, 3] doesn't divide into the sizes given, whose product is 4"},
      {[] {
         reshape(of({0}), {0, -1});
       },
       "reshape: [0] doesn't divide into the sizes given, whose product is 0"},
      {[] {
         reshape(of({2}), {-1, -1});
       },
       "Shape: sizes must not be negative, got -1 in dimension 1"},
      {[] {
         permute(of({2, 3}), {0});
       },
       "permute: order names 1 dimensions, shape [2, 3] has 2"},
      {[] {
         permute(of({2, 3}), {0, -2});
       },
       "permute: dimension 0 of shape [2, 3] is named twice"},
      {[] {
         permute(of({2, 3}), {0, 2});
       },
       "permute: dimension 2 is out of range for shape [2, 3]"},
      {[] {
         transpose(of({2, 3}), 0, 2);
       },
       "transpose: dimension 2 is out of range for shape [2, 3]"},
      {[] { concat(std::span<const Tensor>(), 0); }, "concat: needs at least one tensor"},
      {[] {
         concat({of({2, 3}), of({2, 4})}, 0);
       },
       "concat: shapes must agree but for dimension 0, got [2, 3] and [2, 4]"},
      {[] {
         concat({of({2, 3}), of({2})}, 0);
       },
       "concat: shapes must agree but for dimension 0, got [2, 3] and [2]"},
      {[] {
         concat({of({2}), of({2}, Dtype::f64)}, 0);
       },
       "concat: the first tensor is f32 and another is f64; convert one with cast"},
      {[] {
         slice(of({4, 3}), 0, 2, 3);
       },
       "slice: [2, 5) is out of range for dimension 0 of [4, 3]"},
      {[] {
         slice(of({4, 3}), 1, -1, 2);
       },
       "slice: [-1, 1) is out of range for dimension 1 of [4, 3]"},
      {[] {
         slice(of({4, 3}), 2, 0, 1);
       },
       "slice: dimension 2 is out of range for shape [4, 3]"},
      {[] {
         gather(of({2, 3}), 1, Array::zeros({3, 1}, {Dtype::i32}));
       },
       "gather: index must have x's shape but for dimension 1, got x [2, 3] and index [3, 1]"},
      {[] {
         gather(of({3}), 0, indices({0, 3}));
       },
       "gather: index 3 at position 1 is out of range [0, 3)"},
      {[] { gather(of({3}), 0, Array::zeros({1}, {Dtype::u8})); }, "gather: indices must be i32, got u8"},
      {[] { embedding(of({4}), indices({0})); }, "embedding: weight must be float [vocabulary, width], got f32 [4]"},
      {[] {
         embedding(of({4, 2}, Dtype::i32), indices({0}));
       },
       "embedding: weight must be float [vocabulary, width], got i32 [4, 2]"},
      {[] {
         embedding(of({4, 2}), indices({1, -1}));
       },
       "embedding: index -1 at position 1 is out of range [0, 4)"},
      {[] {
         index_add(of({4, 2}), indices({0}), of({2, 2}));
       },
       "index_add: x must be [rows, ..], index [n] and source [n, ..], got x [4, 2], index [1] and source [2, 2]"},
      {[] {
         index_add(of({4, 2}), indices({4}), of({1, 2}));
       },
       "index_add: index 4 at position 0 is out of range [0, 4)"},
      {[] { index_add(of({4}), indices({0}), of({1}, Dtype::f64)); },
       "index_add: x is f32 and source is f64; convert one with cast"},
      {[] { top_k(of({}), 1); }, "top_k: needs at least one dimension, got a scalar"},
      {[] {
         top_k(of({2, 3}), 4);
       },
       "top_k: k must be between 1 and the last size, got k = 4, shape [2, 3]"},
      {[] {
         top_k(of({2, 3}), 0);
       },
       "top_k: k must be between 1 and the last size, got k = 0, shape [2, 3]"},
  });
}

TEST_CASE("errors: attention") {
  expect({
      {[] {
         rope(of({2, 3, 4}), 1);
       },
       "rope: x must be [batch, time, heads, head_dim], got [2, 3, 4]"},
      {[] {
         rope(of({1, 2, 3, 5}), 1);
       },
       "rope: head_dim must be even, got 5 in shape [1, 2, 3, 5]"},
      {[] {
         rope(of({1, 2, 3, 4}), 4);
       },
       "rope: heads must be between 0 and x's 3, got 4"},
      {[] {
         rope(of({1, 2, 3, 4}), 1, -1);
       },
       "rope: first_position must not be negative and base positive, got -1 and 10000"},
      {[] {
         rope(of({1, 2, 3, 4}), 1, 0, 0);
       },
       "rope: first_position must not be negative and base positive, got 0 and 0"},
      {[] {
         attention(of({1, 2, 4, 8}), of({1, 2, 3, 8}), of({1, 2, 3, 8}));
       },
       "attention: kv_heads must divide heads, got heads = 4, kv_heads = 3"},
      {[] {
         attention(of({1, 2, 4, 8}), of({1, 2, 4, 8}), of({1, 3, 4, 8}));
       },
       "attention: q must be [batch, time, heads, head_dim], k and v [batch, keys, kv_heads, head_dim], got q [1, 2, "
       "4, 8], k "
       "[1, 2, 4, 8], v [1, 3, 4, 8]"},
      {[] {
         attention(of({1, 2, 4, 8}), of({1, 2, 4, 8}, Dtype::f64), of({1, 2, 4, 8}));
       },
       "attention: q is f32 and k is f64; convert one with cast"},
      {[] {
         attention(of({1, 2, 4, 8}), of({1, 2, 4, 8}), of({1, 2, 4, 8}), {.scale = -1});
       },
       "attention: scale must not be negative, got -1"},
      {[] {
         attention(of({1, 2, 4, 8}), of({1, 2, 4, 8}), of({1, 2, 4, 8}), {.rope_base = -1, .first_position = 3});
       },
       "attention: rope_base and first_position must not be negative, got -1 and 3"},
      {[] {
         packed_attention(of({1, 2, 3, 8}), 1, 1, {.rope_base = 100, .first_position = -3});
       },
       "attention: rope_base and first_position must not be negative, got 100 and -3"},
      {[] {
         packed_attention(of({1, 2, 3, 5}), 1, 1, {.rope_base = 100});
       },
       "attention: head_dim must be even for rope, got 5"},
      {[] {
         attention(of({1, 4, 2, 8}), of({1, 3, 2, 8}), of({1, 3, 2, 8}), {.rope_base = 100});
       },
       "attention: rope needs a key for each query's place, got 4 queries and 3 keys"},
      {[] {
         attention(of({1, 2, 4, 8}), of({1, 3, 4, 8}), of({1, 3, 4, 8}), {.mask = Array::zeros({3, 2}, {Dtype::u8})});
       },
       "attention: mask must be u8 [time, keys] or [batch, heads, time, keys] of [1, 4, 2, 3], where each but keys may "
       "be 1, on cpu, got u8 [3, 2] on cpu"},
      {[] {
         attention(of({1, 2, 4, 8}), of({1, 2, 4, 8}), of({1, 2, 4, 8}), {.mask = Array::zeros({2, 2})});
       },
       "attention: mask must be u8 [time, keys] or [batch, heads, time, keys] of [1, 4, 2, 2], where each but keys may "
       "be 1, on cpu, got f32 [2, 2] on cpu"},
      {[] {
         packed_attention(of({1, 2, 7, 8}), 4, 2);
       },
       "packed_attention: qkv must be [batch, time, heads + 2 kv_heads = 8, head_dim], got [1, 2, 7, 8]"},
      {[] {
         packed_attention(of({1, 2, 4, 8}), 0, 2);
       },
       "attention: kv_heads must divide heads, got heads = 0, kv_heads = 2"},
      {[] {
         packed_attention(of({1, 2, 4, 8}, Dtype::i32), 2, 1);
       },
       "attention: dtype must be f64, f32 or bf16, got i32"},
  });
}
