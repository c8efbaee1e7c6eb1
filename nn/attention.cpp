// SPDX-License-Identifier: Apache-2.0
#include "nn/attention.h"

namespace moxie::nn {
namespace {

AttentionOptions completed(AttentionOptions options) {
  check(options.width >= 1 && options.heads >= 1, "Attention: width and heads must be positive, got {} and {}",
        options.width, options.heads);
  if (options.kv_heads == 0) options.kv_heads = options.heads;
  check(options.kv_heads >= 1 && options.heads % options.kv_heads == 0,
        "Attention: kv_heads must divide heads, got heads = {}, kv_heads = {}", options.heads, options.kv_heads);
  if (options.head_dim == 0) {
    check(options.width % options.heads == 0,
          "Attention: heads must divide width, got width = {}, heads = {}; or set head_dim", options.width,
          options.heads);
    options.head_dim = options.width / options.heads;
  }
  check(options.head_dim >= 2 && options.head_dim % 2 == 0, "Attention: head_dim must be even and positive, got {}",
        options.head_dim);
  check(options.clip_qkv >= 0, "Attention: clip_qkv must not be negative, got {}", options.clip_qkv);
  check(options.rope_base >= 0, "Attention: rope_base must not be negative, got {}", options.rope_base);
  check(options.window == 0 || options.causal, "Attention: a window of {} needs causal = true", options.window);
  check(options.window >= 0 && options.softcap >= 0,
        "Attention: window and softcap must not be negative, got {} and {}", options.window, options.softcap);
  return options;
}

// Appends rows [batch, time, heads, head_dim] to a cache that grows by doubling.
Array append(const Array& cache, int64_t length, const Array& rows) {
  const Shape& shape = rows.shape();
  const int64_t needed = length + shape[1];
  Array grown = cache;
  if (!cache.defined() || cache.shape()[1] < needed) {
    const int64_t capacity = std::max<int64_t>(needed, cache.defined() ? 2 * cache.shape()[1] : 64);
    grown = Array::zeros(shape.with(1, capacity), rows.options());
    if (cache.defined())
      for (int64_t b = 0; b < shape[0]; ++b)
        grown.rows(b, 1)
            .reshape(shape.with(1, capacity).without(0))
            .rows(0, length)
            .copy_from(cache.rows(b, 1).reshape(cache.shape().without(0)).rows(0, length));
  }
  for (int64_t b = 0; b < shape[0]; ++b)
    grown.rows(b, 1)
        .reshape(grown.shape().without(0))
        .rows(length, shape[1])
        .copy_from(rows.rows(b, 1).reshape(shape.without(0)));
  return grown;
}

}  // namespace

const char* name_of(QkNorm norm) {
  switch (norm) {
    case QkNorm::none: return "none";
    case QkNorm::per_head: return "per_head";
    case QkNorm::whole: return "whole";
  }
  return "?";
}

QkNorm qk_norm_from_name(std::string_view name) {
  for (const QkNorm norm : {QkNorm::none, QkNorm::per_head, QkNorm::whole})
    if (name == name_of(norm)) return norm;
  throw_invalid_argument(fmt::format("qk_norm: must be none, per_head or whole, got '{}'", name));
}

Attention::Attention(const AttentionOptions& wanted, Initializer& init)
    : options(completed(wanted)),
      qkv(options.width, (options.heads + 2 * options.kv_heads) * options.head_dim, init,
          {.bias = options.bias,
           .stacked = {options.heads * options.head_dim, options.kv_heads * options.head_dim,
                       options.kv_heads * options.head_dim}}),
      output(options.heads * options.head_dim, options.width, init, options.bias, options.output_gain) {
  if (options.qk_norm == QkNorm::none) return;
  const bool whole = options.qk_norm == QkNorm::whole;
  q_norm.emplace(options.head_dim * (whole ? options.heads : 1), options.norm_epsilon);
  k_norm.emplace(options.head_dim * (whole ? options.kv_heads : 1), options.norm_epsilon);
}

Tensor Attention::normed(Tensor x, const Context& context) const {
  const int64_t heads = options.heads, kv_heads = options.kv_heads;
  if (q_norm) {
    const auto part_normed = [&](const RmsNorm& norm, int64_t first, int64_t count) {
      const Tensor part = slice(x, 2, first, count);
      if (options.qk_norm == QkNorm::per_head) return norm(part, context);
      return reshape(norm(reshape(part, {x.dim(0), x.dim(1), count * options.head_dim}), context), part.shape());
    };
    x = concat({part_normed(*q_norm, 0, heads), part_normed(*k_norm, heads, kv_heads),
                slice(x, 2, heads + kv_heads, kv_heads)},
               2);
  }
  return options.clip_qkv > 0 ? clamp(x, -options.clip_qkv, options.clip_qkv) : x;
}

Tensor Attention::operator()(const Tensor& x, const Context& context, KeyValueCache* cache, const Array& mask) const {
  check(x.shape().rank() == 3 && x.dim(2) == options.width, "Attention: x must be [batch, time, width = {}], got {}",
        options.width, x.shape());
  const int64_t heads = options.heads, kv_heads = options.kv_heads;
  const Tensor ready =
      normed(reshape(qkv(x, context), {x.dim(0), x.dim(1), heads + 2 * kv_heads, options.head_dim}), context);
  moxie::AttentionOptions how{
      .causal = options.causal, .window = options.window, .softcap = options.softcap, .mask = mask};
  Tensor mixed;
  if (cache == nullptr) {
    how.rope_base = options.rope_base;
    how.first_position = context.first_position;
    mixed = packed_attention(ready, heads, kv_heads, how);
  } else {
    const NoGrad guard;
    check(options.causal, "Attention: a cache needs causal = true");
    check(context.first_position == cache->length, "Attention: the cache holds {} tokens, but first_position is {}",
          cache->length, context.first_position);
    // The cache holds keys that are turned already.
    const Tensor turned =
        options.rope_base > 0 ? rope(ready, heads + kv_heads, context.first_position, options.rope_base) : ready;
    cache->keys = append(cache->keys, cache->length, slice(turned, 2, heads, kv_heads).value());
    cache->values = append(cache->values, cache->length, slice(turned, 2, heads + kv_heads, kv_heads).value());
    cache->length += x.dim(1);
    const Tensor keys = slice(Tensor(cache->keys), 1, 0, cache->length),
                 values = slice(Tensor(cache->values), 1, 0, cache->length);
    mixed = attention(slice(turned, 2, 0, heads), keys, values, how);
  }
  return output(reshape(mixed, {x.dim(0), x.dim(1), heads * options.head_dim}), context);
}

}  // namespace moxie::nn
