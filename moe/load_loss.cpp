// SPDX-License-Identifier: Apache-2.0
#include "autograd/ops.h"
#include "autograd/ops/common.h"
#include "core/reduce.h"
#include "moe/dispatch.h"
#include "moe/kernels/load.h"
#include "moe/losses.h"

namespace moxie::moe {
namespace {

struct Saved {
  Array z, noisy, deviation, best;
  int64_t top_k;
};

void backward(const Saved& s, const Array& dload, Grads& grads) {
  const int64_t tokens = s.z.shape()[0], experts = s.z.shape()[1];
  const Array dz = Array::empty(s.z.shape(), s.z.options()), ddeviation = Array::empty(s.z.shape(), s.z.options()),
              dbest = Array::empty(s.best.shape(), s.best.options());
  dispatch_statistics(s.z.dtype(), [&]<class T>(T) {
    const LoadProbabilityBackward<T> kernel{
        s.z.data<T>(),   s.noisy.data<T>(), s.deviation.data<T>(),        s.best.data<T>(),
        dload.data<T>(), dz.data<T>(),      ddeviation.data<T>(),         dbest.data<T>(),
        experts,         s.top_k,           T(1) / static_cast<T>(tokens)};
    for_rows(s.z.device(), kernel, tokens, experts);
  });
  const Array results[] = {dz, ddeviation, dbest};
  for (size_t i = 0; i < 3; ++i)
    if (grads.needs(i)) grads.give(i, results[i]);
}

// (standard deviation / mean)^2 of all elements
Tensor squared_variation(const Tensor& x) {
  const Tensor average = mean(x), rest = x - average;
  return mean(rest * rest) / (average * average + 1e-10);
}

}  // namespace

Tensor smooth_load(const Tensor& scores, const Tensor& noisy, const Tensor& deviation, int64_t top_k) {
  const OpRange range("smooth_load");
  check(scores.shape().rank() == 2 && noisy.shape() == scores.shape() && deviation.shape() == scores.shape(),
        "smooth_load: scores, noisy and deviation must be [tokens, experts], got {}, {} and {}", scores.shape(),
        noisy.shape(), deviation.shape());
  check((scores.dtype() == Dtype::f32 || scores.dtype() == Dtype::f64) && noisy.options() == scores.options() &&
            deviation.options() == scores.options(),
        "smooth_load: scores, noisy and deviation must all be f32 or all f64 on one device, got {}, {} and {}",
        name_of(scores.dtype()), name_of(noisy.dtype()), name_of(deviation.dtype()));
  const int64_t tokens = scores.dim(0), experts = scores.dim(1);
  check(top_k >= 1 && top_k < experts,
        "smooth_load: top_k must be at least 1 and below experts, got top_k = {}, experts = {}", top_k, experts);
  check(tokens > 0, "smooth_load: there are no tokens");
  const Tensor best = moxie::top_k(noisy, top_k + 1).values;
  const Saved saved{scores.value(), noisy.value(), deviation.value(), best.value(), top_k};
  const Array probability = Array::empty(scores.shape(), scores.options());
  dispatch_statistics(scores.dtype(), [&]<class T>(T) {
    const LoadProbability<T> kernel{saved.z.data<T>(),
                                    saved.noisy.data<T>(),
                                    saved.deviation.data<T>(),
                                    saved.best.data<T>(),
                                    probability.data<T>(),
                                    experts,
                                    top_k};
    for_rows(scores.device(), kernel, tokens, experts);
  });
  const Array total = reduce_sum(probability, 1, tokens, experts).reshape({experts});
  const Array load = (Tensor(total) / static_cast<double>(tokens)).value();
  return record("smooth_load", load, {scores, deviation, best},
                [saved](std::span<const Array> dload, Grads& grads) { backward(saved, dload[0], grads); });
}

Tensor load_loss(std::span<const Routing> layers) {
  if (layers.empty() || layers[0].tokens == 0) return no_loss(layers);
  std::vector<Tensor> terms;
  for (const Routing& routing : layers) {
    check(routing.deviation.defined(),
          "load_loss: needs the deviation of normal noise on the scores; use gaussian or learned noise, in training");
    terms.push_back(
        routing.top_k == routing.experts  // everybody gets everything
            ? no_loss(layers)
            : squared_variation(smooth_load(routing.scores, routing.noisy_scores, routing.deviation, routing.top_k)));
  }
  return mean_of(terms);
}

}  // namespace moxie::moe
