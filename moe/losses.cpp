// SPDX-License-Identifier: Apache-2.0
#include "moe/losses.h"

#include "autograd/ops.h"
#include "autograd/ops/common.h"
#include "core/kernels/reduce/scale_total.h"
#include "core/reduce.h"
#include "moe/dispatch.h"
#include "moe/kernels/balance.h"
#include "moe/kernels/routing.h"

namespace moxie::moe {
namespace {

// scale times the mean load of some layers, [experts], as an array of the scores' kind. Stays on the device.
Array scaled_load(std::span<const Routing> layers, double scale) {
  const Options kind = layers[0].scores.options();
  const int64_t experts = layers[0].experts;
  const Array mean = Array::empty({experts}, {Dtype::f64, kind.device}), scaled = Array::empty({experts}, kind);
  for (size_t i = 0; i < layers.size(); ++i)
    for_rows(kind.device,
             AddLoad{layers[i].offsets.data<int32_t>(), mean.data<double>(), experts,
                     static_cast<double>(layers.size()), i > 0},
             1, experts);
  dispatch_statistics(kind.dtype, [&]<class T>(T) {
    for_rows(kind.device, ScaleLoad<T>{mean.data<double>(), scaled.data<T>(), experts, scale}, 1, experts);
  });
  return scaled;
}

bool nothing_to_see(std::span<const Routing> layers) { return layers.empty() || layers[0].tokens == 0; }

}  // namespace

Tensor mean_of(std::span<const Tensor> values) {
  if (values.empty()) return {};
  Tensor total = values[0];
  for (size_t i = 1; i < values.size(); ++i) total = total + values[i];
  return total / static_cast<double>(values.size());
}

Tensor no_loss(std::span<const Routing> layers) {
  return Tensor::scalar(0, layers.empty() ? Options() : layers[0].scores.options());
}

const char* name_of(BalanceNormalization normalization) {
  return normalization == BalanceNormalization::hf ? "hf" : "switch";
}

BalanceNormalization balance_from_name(std::string_view name) {
  if (name == "switch") return BalanceNormalization::switch_;
  if (name == "hf") return BalanceNormalization::hf;
  throw_invalid_argument(fmt::format("balance: must be switch or hf, got '{}'", name));
}

Tensor weighted_share(const Tensor& scores, const Array& load) {
  const OpRange range("weighted_share");
  check(scores.shape().rank() == 2 && load.shape() == Shape({scores.dim(1)}) && load.options() == scores.options(),
        "weighted_share: scores must be [tokens, experts] and load [experts] of the same dtype, got {} {} and {} {}",
        scores.shape(), name_of(scores.dtype()), load.shape(), name_of(load.dtype()));
  check(scores.dtype() == Dtype::f32 || scores.dtype() == Dtype::f64,
        "weighted_share: scores must be f32 or f64, got {}", name_of(scores.dtype()));
  const int64_t tokens = scores.dim(0), experts = scores.dim(1);
  const Array value = Array::empty({tokens}, scores.options());
  const double share = tokens == 0 ? 0 : 1 / static_cast<double>(tokens);
  const Array loss = Array::empty({}, scores.options());
  dispatch_statistics(scores.dtype(), [&]<class T>(T) {
    const WeightedShare<T> kernel{scores.value().data<T>(), load.data<T>(), value.data<T>(), experts};
    for_rows(scores.device(), kernel, tokens, experts);
    const Array total = reduce_sum(value, 1, tokens, 1);
    for_rows(scores.device(), ScaleTotal<T>{total.data<T>(), loss.data<T>(), share, 1}, 1, 1);
  });
  return record("weighted_share", loss, {scores},
                [z = scores.value(), load, value, share](std::span<const Array> dy, Grads& grads) {
                  const Grads::Target dz = grads.into(0);
                  dispatch_statistics(z.dtype(), [&]<class T>(T) {
                    const WeightedShareBackward<T> kernel{z.data<T>(),     load.data<T>(), value.data<T>(),
                                                          dy[0].data<T>(), dz.data<T>(),   z.shape()[1],
                                                          T(share),        dz.accumulate};
                    for_rows(z.device(), kernel, z.shape()[0], z.shape()[1]);
                  });
                });
}

Tensor balance_loss(std::span<const Routing> layers, BalanceNormalization normalization) {
  if (nothing_to_see(layers)) return no_loss(layers);
  const auto tokens = static_cast<double>(layers[0].tokens), experts = static_cast<double>(layers[0].experts);
  for (const Routing& routing : layers)
    check(routing.scores.shape() == layers[0].scores.shape() && routing.top_k == layers[0].top_k,
          "balance_loss: layers must agree in tokens, experts and top_k, got {} top {} and {} top {}",
          layers[0].scores.shape(), layers[0].top_k, routing.scores.shape(), routing.top_k);
  std::vector<Tensor> terms;
  if (normalization == BalanceNormalization::switch_) {
    for (const Routing& routing : layers)
      terms.push_back(weighted_share(
          routing.scores, scaled_load({&routing, 1}, experts / (tokens * static_cast<double>(routing.top_k)))));
  } else {
    const Array joined = scaled_load(layers, experts / tokens);
    for (const Routing& routing : layers) terms.push_back(weighted_share(routing.scores, joined));
  }
  return mean_of(terms);
}

Tensor z_loss(std::span<const Routing> layers) {
  if (nothing_to_see(layers)) return no_loss(layers);
  std::vector<Tensor> terms;
  for (const Routing& routing : layers) {
    const Tensor total = logsumexp(routing.scores, -1);
    terms.push_back(mean(total * total));
  }
  return mean_of(terms);
}

}  // namespace moxie::moe
