// SPDX-License-Identifier: Apache-2.0
#include "moe/language_model.h"

#include <cmath>
#include <memory>
#include <utility>

#include "autograd/recompute.h"

namespace moxie::moe {
namespace {

LanguageModelOptions completed(LanguageModelOptions options) {
  check(options.vocabulary >= 1 && options.layers >= 1 && options.width >= 1,
        "LanguageModel: vocabulary, layers and width must be positive, got {}, {}, {}", options.vocabulary,
        options.layers, options.width);
  check(options.dense_layers >= 0 && options.dense_layers <= options.layers,
        "LanguageModel: dense_layers must be between 0 and layers, got {} of {}", options.dense_layers, options.layers);
  check(options.balance_weight >= 0 && options.z_weight >= 0 && options.load_weight >= 0,
        "LanguageModel: loss weights must not be negative, got balance_weight = {}, z_weight = {}, load_weight = {}",
        options.balance_weight, options.z_weight, options.load_weight);
  check(options.load_weight == 0 || has_deviation(options.moe.router.noise.kind),
        "LanguageModel: load_weight needs gaussian or learned noise in the router, the kind is {}",
        name_of(options.moe.router.noise.kind));
  check(options.norm_epsilon >= 0, "LanguageModel: norm_epsilon must not be negative, got {}", options.norm_epsilon);
  if (options.dense_hidden == 0) options.dense_hidden = options.moe.router.top_k * options.moe.hidden;
  return options;
}

// Residual branches start smaller the more of them there are, so that the sum keeps its size.
double residual_gain(const LanguageModelOptions& options) {
  return 1 / std::sqrt(2 * static_cast<double>(options.layers));
}

// What losses see of a routing, where it is there.
std::vector<Tensor*> seen_by_losses(Routing& routing) {
  std::vector<Tensor*> seen;
  for (Tensor* tensor : {&routing.scores, &routing.noisy_scores, &routing.deviation})
    if (tensor->defined()) seen.push_back(tensor);
  return seen;
}

// The block without keeping what its backward pass needs: it runs again then. The routing is taken from the first run,
// but what losses see are outputs, so that their gradients reach the block.
Block::Output recomputed(const Block& block, const Tensor& x, const nn::Context& context) {
  const auto first = std::make_shared<std::optional<Routing>>();
  const auto segment = [&block, context, first](std::span<const Tensor> inputs) {
    Block::Output output = block({inputs[0], {}}, context);
    std::vector<Tensor> results{output.residual.sum()};
    if (output.routing) {
      for (const Tensor* tensor : seen_by_losses(*output.routing)) results.push_back(*tensor);
      if (!*first) *first = output.routing;
    }
    return results;
  };
  const std::vector<Tensor> results = recompute(segment, {x});
  if (!*first) return {{results[0], {}}, {}};
  Routing routing = **first;
  size_t next = 1;
  for (Tensor* tensor : seen_by_losses(routing)) *tensor = results[next++];
  return {{results[0], {}}, std::move(routing)};
}

// The sum of the residual connection, and its norm.
NormedSum normed(const nn::RmsNorm& norm, Residual residual, const nn::Context& context) {
  if (residual.branch.defined()) return norm(residual.x, std::move(residual.branch), context);
  return {residual.x, norm(residual.x, context)};
}

}  // namespace

Block::Block(const LanguageModelOptions& options, bool is_moe, nn::Initializer& init)
    : attention_norm(options.width, options.norm_epsilon),
      attention({.width = options.width,
                 .heads = options.heads,
                 .kv_heads = options.kv_heads,
                 .head_dim = options.head_dim,
                 .qk_norm = options.qk_norm,
                 .norm_epsilon = options.norm_epsilon,
                 .bias = options.attention_bias,
                 .clip_qkv = options.clip_qkv,
                 .rope_base = options.rope_base,
                 .output_gain = residual_gain(options)},
                init),
      feed_forward_norm(options.width, options.norm_epsilon),
      attention_dropout(options.dropout, nn::Purpose::attention_dropout),
      feed_forward_dropout(options.dropout) {
  if (is_moe)
    moe.emplace(options.width, options.moe, init, residual_gain(options));
  else
    dense.emplace(options.width, options.dense_hidden, options.moe.activation, init, residual_gain(options));
}

Block::Output Block::operator()(Residual residual, const nn::Context& context, nn::KeyValueCache* cache) const {
  const auto [x, attended] = normed(attention_norm, std::move(residual), context);
  Tensor mixed = attention_dropout(attention(attended, context, cache), context);
  const auto [sum, input] = feed_forward_norm(x, std::move(mixed), context);
  if (dense) return {{sum, feed_forward_dropout((*dense)(input, context), context)}, {}};
  MoeOutput output = moe->route(reshape(input, {-1, input.dim(2)}), context);
  const Tensor y = feed_forward_dropout(reshape(std::exchange(output.y, {}), input.shape()), context);
  return {{sum, y}, std::move(output.routing)};
}

LanguageModel::LanguageModel(const LanguageModelOptions& wanted, uint64_t seed, Device device)
    : LanguageModel(completed(wanted), nn::Initializer(seed, device)) {}

LanguageModel::LanguageModel(const LanguageModelOptions& complete, nn::Initializer init)
    : options(complete),
      embedding(complete.vocabulary, complete.width, init),
      norm(complete.width, complete.norm_epsilon) {
  for (int64_t i = 0; i < options.layers; ++i) blocks.emplace_back(options, i >= options.dense_layers, init);
  // Small logits: the first loss is near log(vocabulary).
  head = options.tie_embeddings
             ? embedding.weight.tie()
             : nn::Parameter(init.normal({options.vocabulary, options.width}, 0.02), {.table = true});
  nn::to(*this, init.device());  // norms start on the CPU
}

LanguageModel::Hidden LanguageModel::forward(const Array& tokens, const nn::Context& context,
                                             std::vector<nn::KeyValueCache>* caches) const {
  check(tokens.shape().rank() == 2, "LanguageModel: tokens must be [batch, time], got {}", tokens.shape());
  check(caches == nullptr || caches->size() == blocks.size(), "LanguageModel: needs one cache per block, got {} for {}",
        caches ? caches->size() : 0, blocks.size());
  Hidden hidden;
  Residual residual{embedding(tokens, context), {}};
  for (size_t i = 0; i < blocks.size(); ++i) {
    const nn::Context at = context.at_layer(static_cast<int64_t>(i));
    // Before the block: its backward then runs after the experts', and adds to their gradient in place.
    if (blocks[i].moe)
      if (Tensor erc = blocks[i].moe->erc(at, !options.recompute); erc.defined()) hidden.erc.push_back(std::move(erc));
    Block::Output output = options.recompute && caches == nullptr
                               ? recomputed(blocks[i], residual.sum(), at)
                               : blocks[i](std::move(residual), at, caches ? &(*caches)[i] : nullptr);
    residual = std::move(output.residual);
    if (output.routing) hidden.routings.push_back(std::move(*output.routing));
  }
  hidden.x = normed(norm, std::move(residual), context).y;
  return hidden;
}

Tensor LanguageModel::operator()(const Array& tokens, const nn::Context& context,
                                 std::vector<nn::KeyValueCache>* caches) const {
  return linear(forward(tokens, context, caches).x, head.as(context.dtype));
}

Losses LanguageModel::losses(const Array& tokens, const Array& targets, const nn::Context& context) const {
  Hidden hidden = forward(tokens, context, nullptr);
  // A small vocabulary's logits are smaller than what the fused op keeps in their place.
  constexpr int64_t large_vocabulary = 4096;
  const Tensor weight = head.as(context.dtype);
  Losses losses{.cross_entropy = options.vocabulary >= large_vocabulary
                                     ? linear_cross_entropy(hidden.x, weight, targets)
                                     : moxie::cross_entropy(linear(hidden.x, weight), targets),
                .balance = {},
                .z = {},
                .load = {},
                .erc = mean_of(hidden.erc),
                .routings = std::move(hidden.routings)};
  if (!losses.routings.empty()) {
    losses.balance = balance_loss(losses.routings, options.balance);
    losses.z = z_loss(losses.routings);
    if (options.load_weight > 0 && context.training) losses.load = load_loss(losses.routings);
  }
  return losses;
}

Tensor Losses::total(const LanguageModelOptions& options, int64_t micro_batches) const {
  check(micro_batches >= 1, "Losses: micro_batches must be at least 1, got {}", micro_batches);
  Tensor sum = cross_entropy;
  if (balance.defined() && options.balance_weight > 0) sum = sum + options.balance_weight * balance;
  if (z.defined() && options.z_weight > 0) sum = sum + options.z_weight * z;
  if (load.defined()) sum = sum + options.load_weight * load;
  if (micro_batches > 1) sum = sum / static_cast<double>(micro_batches);
  return erc.defined() ? sum + erc : sum;
}

double training_flops(const LanguageModelOptions& wanted, int64_t tokens, int64_t time) {
  const LanguageModelOptions options = completed(wanted);
  const auto width = static_cast<double>(options.width);
  const auto heads = static_cast<double>(options.heads),
             kv_heads = options.kv_heads == 0 ? heads : static_cast<double>(options.kv_heads),
             head_dim = options.head_dim == 0 ? width / heads : static_cast<double>(options.head_dim);
  const double projections = 2 * width * (heads + kv_heads) * head_dim;
  const double attention = heads * head_dim * static_cast<double>(time);  // scores and values, half of 2 * time * width
  const auto active = static_cast<double>(options.moe.router.top_k * options.moe.hidden);
  const double per_hidden = static_cast<double>(projection_width(options.moe.activation, 1)) + 1;
  const auto dense_layers = static_cast<double>(options.dense_layers), layers = static_cast<double>(options.layers);
  const double router = width * static_cast<double>(options.moe.router.experts);
  const double weights = layers * (projections + attention) +
                         dense_layers * per_hidden * width * static_cast<double>(options.dense_hidden) +
                         (layers - dense_layers) * (per_hidden * width * active + router) +
                         width * static_cast<double>(options.vocabulary);
  return 6 * static_cast<double>(tokens) * weights;
}

}  // namespace moxie::moe
