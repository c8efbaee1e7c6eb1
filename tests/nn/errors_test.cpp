// SPDX-License-Identifier: Apache-2.0
// Every rule of the layers has a message, and this is its text.
#include <doctest/doctest.h>

#include <functional>

#include "nn/attention.h"
#include "nn/layers.h"

using namespace moxie;
using namespace moxie::nn;

namespace {

struct Case {
  std::function<void()> f;
  const char* message;
};

void expect(const std::vector<Case>& cases) {
  for (const Case& c : cases) CHECK_THROWS_WITH_AS(c.f(), c.message, std::invalid_argument);
}

Attention attention(const nn::AttentionOptions& options) {
  Initializer init(1);
  return Attention(options, init);
}

}  // namespace

TEST_CASE("errors: layers") {
  Initializer init(1);
  expect({
      {[&] { Linear(0, 3, init); }, "Linear: in and out must be positive, got 0 and 3"},
      {[&] { Linear(3, -1, init); }, "Linear: in and out must be positive, got 3 and -1"},
      {[&] { Embedding(0, 3, init); }, "Embedding: vocabulary and width must be positive, got 0 and 3"},
      {[&] { Embedding(3, 0, init); }, "Embedding: vocabulary and width must be positive, got 3 and 0"},
      {[&] { RmsNorm(0); }, "RmsNorm: width must be positive, got 0"},
      {[&] { LayerNorm(-2); }, "LayerNorm: width must be positive, got -2"},
      {[&] { Dropout(1); }, "Dropout: p must be in [0, 1), got 1"},
      {[&] { Dropout(-0.5); }, "Dropout: p must be in [0, 1), got -0.5"},
  });
}

TEST_CASE("errors: attention") {
  expect({
      {[] { attention({.width = 0, .heads = 2}); }, "Attention: width and heads must be positive, got 0 and 2"},
      {[] { attention({.width = 8, .heads = 0}); }, "Attention: width and heads must be positive, got 8 and 0"},
      {[] { attention({.width = 8, .heads = 4, .kv_heads = 3}); },
       "Attention: kv_heads must divide heads, got heads = 4, kv_heads = 3"},
      {[] { attention({.width = 9, .heads = 2}); },
       "Attention: heads must divide width, got width = 9, heads = 2; or set head_dim"},
      {[] { attention({.width = 6, .heads = 2}); }, "Attention: head_dim must be even and positive, got 3"},
      {[] {
         attention({.width = 8, .heads = 2})(Tensor::zeros({2, 8}), {});
       },
       "Attention: x must be [batch, time, width = 8], got [2, 8]"},
      {[] {
         attention({.width = 8, .heads = 2})(Tensor::zeros({1, 2, 6}), {});
       },
       "Attention: x must be [batch, time, width = 8], got [1, 2, 6]"},
      {[] {
         const Attention layer = attention({.width = 8, .heads = 2});
         KeyValueCache cache;
         layer(Tensor::zeros({1, 3, 8}), {}, &cache);
         layer(Tensor::zeros({1, 1, 8}), {.first_position = 2}, &cache);
       },
       "Attention: the cache holds 3 tokens, but first_position is 2"},
      {[] { attention({.width = 8, .heads = 2, .rope_base = -1}); },
       "Attention: rope_base must not be negative, got -1"},
      {[] { attention({.width = 8, .heads = 2, .causal = false, .window = 4}); },
       "Attention: a window of 4 needs causal = true"},
      {[] { attention({.width = 8, .heads = 2, .window = -4, .softcap = 3}); },
       "Attention: window and softcap must not be negative, got -4 and 3"},
      {[] {
         KeyValueCache cache;
         attention({.width = 8, .heads = 2, .causal = false})(Tensor::zeros({1, 2, 8}), {}, &cache);
       },
       "Attention: a cache needs causal = true"},
  });
}
