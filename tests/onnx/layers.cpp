// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include "nn/layers.h"
#include "tests/onnx/graph.h"

namespace moxie::testing::onnx {
namespace {

Tensor broadcast_matmul(Tensor x, Tensor y) {
  const bool row = x.shape().rank() == 1, column = y.shape().rank() == 1;
  if (row) x = unsqueeze(x, 0);
  if (column) y = unsqueeze(y, -1);
  if (y.shape().rank() > 2) {  // leading dimensions broadcast
    const Shape leading_x(x.shape().sizes().first(static_cast<size_t>(x.shape().rank() - 2)));
    const Shape leading_y(y.shape().sizes().first(static_cast<size_t>(y.shape().rank() - 2)));
    Shape leading = add(Tensor::zeros(leading_x), Tensor::zeros(leading_y)).shape();
    const int64_t rank = leading.rank();
    x = broadcast_to(x, leading.inserted(rank, x.dim(-2)).inserted(rank + 1, x.dim(-1)));
    y = broadcast_to(y, leading.inserted(rank, y.dim(-2)).inserted(rank + 1, y.dim(-1)));
  }
  Tensor z = matmul(x, y);
  if (column) z = squeeze(z, -1);
  return row ? squeeze(z, column ? -1 : -2) : z;
}

std::vector<Array> general_matmul(const Call& call) {
  const MatmulOptions options{call.integer("transA", 0) != 0, call.integer("transB", 0) != 0};
  const Tensor z = call.real("alpha", 1) * matmul(call.number(0), call.number(1), options);
  const double beta = call.real("beta", 1);
  return one(call.has(2) ? z + beta * call.number(2) : z);
}

Operator along_dimension(Tensor (*op)(const Tensor&)) {
  return [op](const Call& call) {
    if (call.version() < 13) throw Unsupported("softmax over all dimensions from one on, before version 13");
    const int64_t dim = call.integer("axis", -1);
    return one(from_last(op(to_last(call.number(0), dim)), dim));
  };
}

// x [outer, everything from the dimension on], with the shape of statistics [outer.., 1..]
struct Flattened {
  Tensor x;
  Shape statistics;
};

Flattened flatten_from(const Tensor& x, int64_t dim) {
  dim = normalize_dim("norm", dim, x.shape());
  Shape statistics = x.shape();
  for (int64_t i = dim; i < x.shape().rank(); ++i) statistics = statistics.with(i, 1);
  return {reshape(x, {x.shape().product(0, dim), x.shape().product(dim, x.shape().rank())}), statistics};
}

std::vector<Array> layer_normalization(const Call& call) {
  const Tensor x = call.number(0);
  const auto [flat, statistics] = flatten_from(x, call.integer("axis", -1));
  const Tensor weight = reshape(call.number(1), {-1});
  const Tensor bias = call.has(2) ? reshape(call.number(2), {-1}) : Tensor();
  const double epsilon = call.real("epsilon", 1e-5);
  const Tensor average = mean(flat, -1), spread = var(flat, -1, {.correction = 0});
  return {reshape(layer_norm(flat, weight, bias, epsilon), x.shape()).value(), reshape(average, statistics).value(),
          reshape(rsqrt(spread + epsilon), statistics).value()};
}

std::vector<Array> rms_normalization(const Call& call) {
  const Tensor x = call.number(0);
  const Tensor flat = flatten_from(x, call.integer("axis", -1)).x;
  return one(reshape(rms_norm(flat, reshape(call.number(1), {-1}), call.real("epsilon", 1e-5)), x.shape()));
}

// x [n, channels, ..] normalised within groups of channels, then scaled and shifted by channel
Tensor normalize_groups(const Call& call, int64_t groups) {
  const Tensor x = call.number(0);
  const int64_t channels = x.dim(1), n = x.dim(0);
  const Tensor flat = reshape(x, {n, groups, x.numel() / (n * groups)});
  const Tensor y = reshape(layer_norm(flat, {}, {}, call.real("epsilon", 1e-5)), {n, channels, -1});
  return reshape(y * reshape(call.number(1), {channels, 1}) + reshape(call.number(2), {channels, 1}), x.shape());
}

std::vector<Array> batch_normalization(const Call& call) {
  if (call.integer("training_mode", 0) != 0) throw Unsupported("BatchNormalization in training");
  call.real("momentum", 0.9);  // of training
  const Tensor x = call.number(0);
  const int64_t channels = x.dim(1);
  const auto by_channel = [&](size_t i) { return reshape(call.number(i), {channels, 1}); };
  const Tensor rstd = rsqrt(by_channel(4) + call.real("epsilon", 1e-5));
  const Tensor flat = reshape(x, {x.dim(0), channels, -1});
  return one(reshape((flat - by_channel(3)) * rstd * by_channel(1) + by_channel(2), x.shape()));
}

std::vector<Array> lp_normalization(const Call& call) {
  const int64_t dim = call.integer("axis", -1);
  const Tensor x = to_last(call.number(0), dim);
  const Tensor norm = call.integer("p", 2) == 1 ? sum(abs(x), -1) : l2_norm(x);
  const Tensor y = x / unsqueeze(norm, -1);
  return one(from_last(masked_fill(y, not_equal(y, y), 0), dim));  // a row of zeros stays one
}

std::vector<Array> mean_variance_normalization(const Call& call) {
  Tensor x = call.number(0);
  std::vector<int64_t> dims = call.integers("axes");
  if (dims.empty()) dims = {0, 2, 3};
  Tensor average = x, squares = square(x);
  for (const int64_t dim : dims) average = mean(average, dim, true), squares = mean(squares, dim, true);
  return one((x - average) / (sqrt(squares - square(average)) + 1e-9));
}

std::vector<Array> drop(const Call& call) {
  call.integer("seed", 0);
  const bool training = call.has(2) && call.scalar(2) != 0;
  const double p = call.has(1) ? call.scalar(1) : call.real("ratio", 0.5);
  if (training && p > 0) throw Unsupported("Dropout with the draws of another generator");
  const Tensor y = nn::Dropout(p)(call.number(0), {.training = training});
  return {y.value(), Array::full(y.shape(), 1, {.dtype = Dtype::u8})};
}

// [batch, time, heads * size] as it is, or [batch, heads, time, size] -> [batch, time, heads, size]
Tensor by_heads(const Tensor& x, int64_t heads) {
  return x.shape().rank() == 4 ? transpose(x, 1, 2) : reshape(x, {x.dim(0), x.dim(1), heads, x.dim(2) / heads});
}

// What hides keys, as moxie's mask: true where seen, or numbers that are added to scores and are 0 or minus infinity.
Array visible(const Array& mask) {
  if (mask.dtype() == Dtype::u8) return mask;
  const Tensor added(mask);
  const Array seen = equal(added, 0);
  const Array hidden = equal(added, -std::numeric_limits<double>::infinity());
  if (sum(Tensor(logical_or(seen, hidden).to(Dtype::f32))).item() != static_cast<double>(mask.numel()))
    throw Unsupported("Attention with numbers added to the scores");
  return seen;
}

// Query t sees key s <= t + past: [time, keys]
Array causal_mask(int64_t time, int64_t keys, int64_t past) {
  std::vector<uint8_t> seen;
  for (int64_t t = 0; t < time; ++t)
    for (int64_t s = 0; s < keys; ++s) seen.push_back(s <= t + past ? 1 : 0);
  return Array::from(seen, {time, keys});
}

std::vector<Array> attention_of(const Call& call) {
  const Tensor query = call.number(0);
  const int64_t heads = call.integer("q_num_heads", 0), kv_heads = call.integer("kv_num_heads", 0);
  const Tensor q = by_heads(query, heads);
  Tensor k = by_heads(call.number(1), kv_heads), v = by_heads(call.number(2), kv_heads);
  if (call.outputs() > 3) throw Unsupported("output 3 of Attention");
  call.integer("qk_matmul_output_mode", 0);  // of output 3
  int64_t past = 0;
  if (call.has(4)) {  // keys and values of earlier tokens come first
    past = call.array(4).dim(2);
    k = concat({transpose(call.number(4), 1, 2), k}, 1);
    v = concat({transpose(call.number(5), 1, 2), v}, 1);
  }
  if (k.dim(-1) != v.dim(-1)) throw Unsupported("Attention with values of another size than keys");
  AttentionOptions options{.causal = false, .scale = call.real("scale", 0), .softcap = call.real("softcap", 0)};
  if (call.has(3)) options.mask = visible(call.array(3));
  if (options.mask.defined() && options.mask.shape().rank() == 3)
    options.mask = options.mask.reshape(options.mask.shape().inserted(0, 1));
  if (call.integer("is_causal", 0) != 0) {
    options.causal = past + q.dim(1) == k.dim(1);
    if (!options.causal) {
      const Array earlier = causal_mask(q.dim(1), k.dim(1), past);
      options.mask = options.mask.defined() ? logical_and(options.mask, earlier) : earlier;
    }
  }
  const Tensor y = attention(q, k, v, options);
  const Tensor out = query.shape().rank() == 4 ? transpose(y, 1, 2) : reshape(y, query.shape());
  return {out.value(), transpose(k, 1, 2).value(), transpose(v, 1, 2).value()};
}

std::vector<Array> einsum_of(const Call& call) {
  const std::string equation = call.text("equation", "");
  if (equation.starts_with("...ii")) throw Unsupported("Einsum of a diagonal");
  std::vector<Tensor> operands;
  for (size_t i = 0; i < call.inputs(); ++i) operands.push_back(call.number(i));
  return one(einsum(equation, operands));
}

}  // namespace

void add_layers(Table& table) {
  table["MatMul"] = [](const Call& call) { return one(broadcast_matmul(call.number(0), call.number(1))); };
  table["Gemm"] = general_matmul;
  table["Softmax"] = along_dimension(softmax);
  table["LogSoftmax"] = along_dimension(log_softmax);
  table["LayerNormalization"] = layer_normalization;
  table["RMSNormalization"] = rms_normalization;
  table["InstanceNormalization"] = [](const Call& call) { return one(normalize_groups(call, call.array(0).dim(1))); };
  table["GroupNormalization"] = [](const Call& call) {
    return one(normalize_groups(call, call.integer("num_groups", 1)));
  };
  table["BatchNormalization"] = batch_normalization;
  table["LpNormalization"] = lp_normalization;
  table["MeanVarianceNormalization"] = mean_variance_normalization;
  table["Dropout"] = drop;
  table["Attention"] = attention_of;
  table["Einsum"] = einsum_of;
}

}  // namespace moxie::testing::onnx
