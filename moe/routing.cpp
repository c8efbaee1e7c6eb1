// SPDX-License-Identifier: Apache-2.0
#include "moe/routing.h"

#include "autograd/ops.h"
#include "autograd/ops/common.h"
#include "core/kernels/index/rows.h"
#include "core/sort.h"
#include "moe/kernels/combine.h"

namespace moxie::moe {
namespace {

void combine_rows(const Array& rows, const Array& weights, const Routing& routing, const Array& y, bool accumulate) {
  const int64_t cols = rows.shape()[1];
  dispatch_float("combine", rows.dtype(), [&]<class T>(T) {
    using V = Accumulator<T>;
    const Combine<T> kernel{rows.data<T>(),
                            weights.defined() ? weights.data<V>() : nullptr,
                            routing.slot_of_assignment.data<int32_t>(),
                            y.data<T>(),
                            cols,
                            routing.top_k,
                            accumulate};
    for_rows(rows.device(), kernel, routing.tokens, cols * routing.top_k);
  });
}

// The parts of a routing that a backward rule needs: no tensors, so that no graph is kept alive.
Routing without_tensors(const Routing& routing) {
  Routing copy = routing;
  copy.scores = {};
  copy.weights = {};
  copy.noisy_scores = {};
  copy.deviation = {};
  return copy;
}

}  // namespace

std::vector<int64_t> load_of(const Array& offsets) {
  const std::vector<int32_t> starts = offsets.to_vector<int32_t>();
  std::vector<int64_t> counts;
  for (size_t e = 0; e + 1 < starts.size(); ++e) counts.push_back(starts[e + 1] - starts[e]);
  return counts;
}

std::vector<int64_t> Routing::load() const { return load_of(offsets); }

Routing make_routing(const Tensor& scores, const Tensor& weights, const Array& chosen, int64_t experts) {
  check(chosen.shape().rank() == 2 && weights.shape() == chosen.shape(),
        "make_routing: chosen and weights must both be [tokens, top_k], got {} and {}", chosen.shape(),
        weights.shape());
  check(scores.shape() == Shape({chosen.shape()[0], experts}),
        "make_routing: scores must be [tokens, experts] = [{}, {}], got {}", chosen.shape()[0], experts,
        scores.shape());
  check_indices("make_routing", chosen, experts, scores.device());
  return make_routing(scores, {weights, chosen});
}

Routing make_routing(const Tensor& scores, const Choice& choice) {
  const Array& chosen = choice.experts;
  const int64_t experts = scores.dim(1), top_k = chosen.shape()[1];
  const CountingSort sorted = counting_sort(chosen, experts, top_k);
  return {.tokens = chosen.shape()[0],
          .experts = experts,
          .top_k = top_k,
          .scores = scores,
          .weights = choice.weights,
          .chosen = chosen,
          .offsets = sorted.offsets,
          .token_of_slot = sorted.order,
          .slot_of_assignment = sorted.place.reshape(chosen.shape())};
}

Tensor dispatch(const Tensor& x, const Routing& routing) {
  const OpRange range("dispatch");
  check(x.shape().rank() == 2 && x.dim(0) == routing.tokens, "dispatch: x must be [tokens = {}, width], got {}",
        routing.tokens, x.shape());
  const int64_t slots = routing.token_of_slot.numel(), cols = x.dim(1);
  const Array y = Array::empty({slots, cols}, x.options());
  dispatch_float("dispatch", x.dtype(), [&]<class T>(T) {
    const GatherRows<T> kernel{x.value().data<T>(), routing.token_of_slot.data<int32_t>(), y.data<T>(), cols};
    for_rows(x.device(), kernel, slots, cols);
  });
  return record("dispatch", y, {x}, [parts = without_tensors(routing)](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    combine_rows(dy[0], {}, parts, dx.array, dx.accumulate);
  });
}

Tensor combine(const Tensor& rows, const Routing& routing) {
  const OpRange range("combine");
  check(rows.shape().rank() == 2 && rows.dim(0) == routing.tokens * routing.top_k,
        "combine: rows must be [tokens * top_k = {}, width], got {}", routing.tokens * routing.top_k, rows.shape());
  const Tensor weights = cast(routing.weights, statistics_dtype(rows.dtype()));
  const Array y = Array::empty({routing.tokens, rows.dim(1)}, rows.options());
  combine_rows(rows.value(), weights.value(), routing, y, false);
  return record("combine", y, {rows, weights},
                [x = rows.value(), w = weights.value(), parts = without_tensors(routing)](std::span<const Array> dy,
                                                                                          Grads& grads) {
                  const Array drows = grads.needs(0) ? Array::empty(x.shape(), x.options()) : Array();
                  const Array dweights = grads.needs(1) ? Array::empty(w.shape(), w.options()) : Array();
                  dispatch_float("backward", x.dtype(), [&]<class T>(T) {
                    using V = Accumulator<T>;
                    const CombineBackward<T> kernel{x.data<T>(),
                                                    w.data<V>(),
                                                    parts.slot_of_assignment.data<int32_t>(),
                                                    dy[0].data<T>(),
                                                    grads.needs(0) ? drows.data<T>() : nullptr,
                                                    grads.needs(1) ? dweights.data<V>() : nullptr,
                                                    x.shape()[1],
                                                    parts.top_k};
                    for_rows(x.device(), kernel, parts.tokens, x.shape()[1] * parts.top_k);
                  });
                  if (grads.needs(0)) grads.give(0, drows);
                  if (grads.needs(1)) grads.give(1, dweights);
                });
}

}  // namespace moxie::moe
