// SPDX-License-Identifier: Apache-2.0
#include "core/attention.h"

#include <cmath>

#include "autograd/ops/attention.h"
#include "autograd/ops/attention/angles.h"
#include "autograd/ops/common.h"

namespace moxie {
namespace {

// Sizes of a problem whose q, k and v are arrays of their own, [batch, time, heads, head_dim].
Attention separate_problem(const Shape& q, const Shape& k, Dtype dtype) {
  Attention problem{.dtype = dtype,
                    .batch = q[0],
                    .heads = q[2],
                    .kv_heads = k[2],
                    .q_length = q[1],
                    .k_length = k[1],
                    .head_dim = q[3]};
  problem.q_stride = problem.out_stride = q[2] * q[3];
  problem.k_stride = problem.v_stride = k[2] * k[3];
  problem.q_batch_stride = problem.out_batch_stride = q[1] * problem.q_stride;
  problem.k_batch_stride = problem.v_batch_stride = k[1] * problem.k_stride;
  return problem;
}

// Sizes of a problem whose q, k and v lie side by side in one array, [batch, time, heads + 2 kv_heads, head_dim].
Attention packed_problem(const Shape& qkv, int64_t heads, int64_t kv_heads, Dtype dtype) {
  Attention problem{.dtype = dtype,
                    .batch = qkv[0],
                    .heads = heads,
                    .kv_heads = kv_heads,
                    .q_length = qkv[1],
                    .k_length = qkv[1],
                    .head_dim = qkv[3]};
  problem.q_stride = problem.k_stride = problem.v_stride = qkv[2] * qkv[3];
  problem.q_batch_stride = problem.k_batch_stride = problem.v_batch_stride = qkv[1] * problem.q_stride;
  problem.out_stride = heads * qkv[3];
  problem.out_batch_stride = qkv[1] * problem.out_stride;
  return problem;
}

void set_mask(Attention& problem, const Array& mask, Device device) {
  const Shape& s = mask.shape();
  const Shape full = s.rank() == 4 ? s : s.rank() == 2 ? Shape{1, 1, s[0], s[1]} : Shape{0, 0, 0, 0};
  const auto fits = [&](int64_t i, int64_t size) { return full[i] == 1 || full[i] == size; };
  check(mask.dtype() == Dtype::u8 && mask.device() == device && s.rank() > 0 && fits(0, problem.batch) &&
            fits(1, problem.heads) && fits(2, problem.q_length) && full[3] == problem.k_length,
        "attention: mask must be u8 [time, keys] or [batch, heads, time, keys] of {}, where each but keys may be 1, on "
        "{}, got {} {} on {}",
        Shape{problem.batch, problem.heads, problem.q_length, problem.k_length}, device.name(), name_of(mask.dtype()),
        s, mask.device().name());
  problem.mask = mask.data<uint8_t>();
  problem.mask_stride = full[2] == 1 ? 0 : full[3];
  problem.mask_head_stride = full[1] == 1 ? 0 : full[2] * full[3];
  problem.mask_batch_stride = full[0] == 1 ? 0 : full[1] * full[2] * full[3];
}

void set_options(Attention& problem, const AttentionOptions& options, Device device) {
  check(options.scale >= 0, "attention: scale must not be negative, got {}", options.scale);
  problem.scale = options.scale > 0 ? options.scale : 1 / std::sqrt(static_cast<double>(problem.head_dim));
  problem.causal = options.causal;
  problem.window = options.window;
  problem.softcap = options.softcap;
  if (options.mask.defined()) set_mask(problem, options.mask, device);
}

void check_rope(const AttentionOptions& options, int64_t time, int64_t keys, int64_t head_dim) {
  check(options.rope_base >= 0 && options.first_position >= 0,
        "attention: rope_base and first_position must not be negative, got {} and {}", options.rope_base,
        options.first_position);
  if (options.rope_base == 0) return;
  check(head_dim % 2 == 0, "attention: head_dim must be even for rope, got {}", head_dim);
  check(time <= keys, "attention: rope needs a key for each query's place, got {} queries and {} keys", time, keys);
}

// Whether rope is a pass of its own before attention.
bool turns_before(const AttentionOptions& options, Device device) { return options.rope_base > 0 && !device.is_cpu(); }

AttentionOptions without_rope(AttentionOptions options) {
  options.rope_base = 0;
  return options;
}

// The angles that attention turns its keys by as it reads them; none where it does not.
RopeAngles set_rope(Attention& problem, const AttentionOptions& options, Device device) {
  if (options.rope_base == 0) return {};
  RopeAngles angles = rope_angles(problem.k_length, problem.head_dim, options.first_position, options.rope_base,
                                  {statistics_dtype(problem.dtype), device});
  problem.cosine = angles.cosine.raw();
  problem.sine = angles.sine.raw();
  return angles;
}

// Where k and v begin in a packed array of `problem`, in bytes from q. An empty array has no memory to count from.
struct PackedOffsets {
  int64_t k = 0, v = 0;
  explicit PackedOffsets(const Attention& problem) {
    if (problem.batch == 0 || problem.q_length == 0) return;
    k = problem.heads * problem.head_dim * size_of(problem.dtype);
    v = k + problem.kv_heads * problem.head_dim * size_of(problem.dtype);
  }
};

struct Result {
  Array out, lse;
};

Result forward(Attention& problem, const Array& like) {
  const Result result{
      Array::empty({problem.batch, problem.q_length, problem.heads, problem.head_dim}, like.options()),
      Array::empty({problem.batch, problem.heads, problem.q_length}, {statistics_dtype(like.dtype()), like.device()})};
  problem.out = result.out.raw();
  problem.lse = result.lse.raw();
  attention(like.device(), problem);
  return result;
}

AttentionBackward backward_problem(const Attention& problem, const Array& dout) {
  return {.forward = problem,
          .dout = dout.raw(),
          .dout_stride = problem.out_stride,
          .dout_batch_stride = problem.out_batch_stride};
}

void check_heads(int64_t heads, int64_t kv_heads) {
  check(heads >= 1 && kv_heads >= 1 && heads % kv_heads == 0,
        "attention: kv_heads must divide heads, got heads = {}, kv_heads = {}", heads, kv_heads);
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  const OpRange range("attention");
  check_same_kind("attention", q.value(), "q", k.value(), "k");
  check_same_kind("attention", q.value(), "q", v.value(), "v");
  check(q.shape().rank() == 4 && k.shape().rank() == 4 && k.shape() == v.shape() && q.dim(0) == k.dim(0) &&
            q.dim(3) == k.dim(3),
        "attention: q must be [batch, time, heads, head_dim], k and v [batch, keys, kv_heads, head_dim], got q {}, k "
        "{}, v {}",
        q.shape(), k.shape(), v.shape());
  check_heads(q.dim(2), k.dim(2));
  check_rope(options, q.dim(1), k.dim(1), q.dim(3));
  if (turns_before(options, q.device())) {
    const int64_t first = options.first_position;
    return attention(rope(q, q.dim(2), first + k.dim(1) - q.dim(1), options.rope_base),
                     rope(k, k.dim(2), first, options.rope_base), v, without_rope(options));
  }
  Attention problem = separate_problem(q.shape(), k.shape(), q.dtype());
  set_options(problem, options, q.device());
  const RopeAngles angles = set_rope(problem, options, q.device());
  problem.q = q.value().raw(), problem.k = k.value().raw(), problem.v = v.value().raw();
  const Result result = forward(problem, q.value());
  // The closure keeps the arrays that the problem points into.
  return record("attention", result.out, {q, k, v},
                [problem, result, angles, mask = options.mask, q = q.value(), k = k.value(), v = v.value()](
                    std::span<const Array> dy, Grads& grads) {
                  const Array dq = Array::empty(q.shape(), q.options()), dk = Array::empty(k.shape(), k.options()),
                              dv = Array::empty(v.shape(), v.options());
                  AttentionBackward backward = backward_problem(problem, dy[0]);
                  backward.dq = dq.raw(), backward.dk = dk.raw(), backward.dv = dv.raw();
                  attention_backward(q.device(), backward);
                  if (grads.needs(0)) grads.give(0, dq);
                  if (grads.needs(1)) grads.give(1, dk);
                  if (grads.needs(2)) grads.give(2, dv);
                });
}

Tensor packed_attention(const Tensor& qkv, int64_t heads, int64_t kv_heads, const AttentionOptions& options) {
  const OpRange range("packed_attention");
  check_heads(heads, kv_heads);
  check(qkv.shape().rank() == 4 && qkv.dim(2) == heads + 2 * kv_heads,
        "packed_attention: qkv must be [batch, time, heads + 2 kv_heads = {}, head_dim], got {}", heads + 2 * kv_heads,
        qkv.shape());
  check_rope(options, qkv.dim(1), qkv.dim(1), qkv.dim(3));
  if (turns_before(options, qkv.device())) {
    return packed_attention(rope(qkv, heads + kv_heads, options.first_position, options.rope_base), heads, kv_heads,
                            without_rope(options));
  }
  Attention problem = packed_problem(qkv.shape(), heads, kv_heads, qkv.dtype());
  set_options(problem, options, qkv.device());
  const RopeAngles angles = set_rope(problem, options, qkv.device());
  const PackedOffsets offsets(problem);
  const std::byte* base = qkv.value().raw();
  problem.q = base, problem.k = base + offsets.k, problem.v = base + offsets.v;
  const Result result = forward(problem, qkv.value());
  return record("packed_attention", result.out, {qkv},
                [problem, result, angles, offsets, mask = options.mask, qkv = qkv.value()](std::span<const Array> dy,
                                                                                           Grads& grads) {
                  const Array dqkv = Array::empty(qkv.shape(), qkv.options());
                  AttentionBackward backward = backward_problem(problem, dy[0]);
                  backward.dq = dqkv.raw(), backward.dk = dqkv.raw() + offsets.k, backward.dv = dqkv.raw() + offsets.v;
                  attention_backward(qkv.device(), backward);
                  grads.give(0, dqkv);
                });
}

}  // namespace moxie
