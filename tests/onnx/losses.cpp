// SPDX-License-Identifier: Apache-2.0
#include "tests/onnx/graph.h"

namespace moxie::testing::onnx {
namespace {

Reduction reduction_of(const Call& call) {
  const std::string name = call.text("reduction", "mean");
  return name == "none" ? Reduction::none : name == "sum" ? Reduction::sum : Reduction::mean;
}

// Scores [n, classes, d1, ..] with targets [n, d1, ..]; output 1 is their log-softmax.
std::vector<Array> softmax_cross_entropy(const Call& call) {
  const Tensor scores = to_last(call.number(0), 1);
  CrossEntropyOptions options{.class_weights = call.array(2), .reduction = reduction_of(call)};
  options.ignore_index = call.integer("ignore_index", -100);
  const Tensor loss = cross_entropy(scores, call.array(1), options);
  return {loss.value(), from_last(log_softmax(scores), 1).value()};
}

// The same from logarithms of probabilities: -w[t] x[t], 0 where the target is ignored.
std::vector<Array> negative_log_likelihood(const Call& call) {
  const Tensor scores = to_last(call.number(0), 1);
  const Tensor targets = call.any(1);
  const Tensor ignored = Tensor::full({}, static_cast<double>(call.integer("ignore_index", -100)), targets.options());
  const Array left_out = equal(targets, ignored);
  const Tensor kept = where(left_out, Tensor::zeros({}, targets.options()), targets);
  const Tensor picked = squeeze(gather(scores, -1, unsqueeze(kept, -1).value()), -1);
  const int64_t classes = scores.dim(-1);
  const Tensor table = call.has(2) ? call.number(2) : Tensor::full({classes}, 1);
  const Tensor weights =
      masked_fill(reshape(embedding(reshape(table, {classes, 1}), kept.value()), targets.shape()), left_out, 0);
  const Tensor loss = neg(picked * weights);
  switch (reduction_of(call)) {
    case Reduction::none: return one(loss);
    case Reduction::sum: return one(sum(loss));
    default: return one(sum(loss) / sum(weights));
  }
}

}  // namespace

void add_losses(Table& table) {
  table["SoftmaxCrossEntropyLoss"] = softmax_cross_entropy;
  table["NegativeLogLikelihoodLoss"] = negative_log_likelihood;
}

}  // namespace moxie::testing::onnx
