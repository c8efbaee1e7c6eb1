// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "tests/onnx/graph.h"

namespace moxie::testing::onnx {
namespace {

using Unary = Tensor (*)(const Tensor&);
using Reduction = Tensor (*)(const Tensor&, int64_t, bool);

Tensor unchanged(const Tensor& x) { return x; }

// The dimensions to reduce over, from the last one on; none where there is nothing to do.
std::vector<int64_t> dims_of(const Call& call, int64_t rank, bool& nothing) {
  std::vector<int64_t> dims = call.has(1) ? call.list(1) : call.integers("axes");
  nothing = call.integer("noop_with_empty_axes", 0) != 0 && dims.empty();
  if (dims.empty()) {
    dims.resize(static_cast<size_t>(rank));
    std::iota(dims.begin(), dims.end(), int64_t{0});
  }
  for (int64_t& dim : dims) dim = dim < 0 ? dim + rank : dim;
  std::sort(dims.rbegin(), dims.rend());
  return dims;
}

// after(reduce(before(x))), one dimension after the other
Operator reduction(Unary before, Reduction reduce, Unary after, bool needs_elements = false) {
  return [=](const Call& call) {
    Tensor x = call.number(0);
    bool nothing = false;
    const std::vector<int64_t> dims = dims_of(call, x.shape().rank(), nothing);
    const bool keep = call.integer("keepdims", 1) != 0;
    if (nothing) return one(after(before(x)));
    x = before(x);
    for (const int64_t dim : dims) {
      if (needs_elements && x.dim(dim) == 0) throw Unsupported(call.name() + " of no elements");
      x = reduce(x, dim, keep);
    }
    return one(after(x));
  };
}

Operator place_of(Array (*op)(const Tensor&, int64_t, bool)) {
  return [op](const Call& call) -> std::vector<Array> {
    if (call.integer("select_last_index", 0) != 0) throw Unsupported("the last index among equals");
    return {op(call.number(0), call.integer("axis", 0), call.integer("keepdims", 1) != 0)};
  };
}

}  // namespace

void add_reductions(Table& table) {
  table["ReduceSum"] = reduction(unchanged, sum, unchanged);
  table["ReduceMean"] = reduction(unchanged, mean, unchanged);
  table["ReduceMax"] = reduction(unchanged, max, unchanged, true);
  table["ReduceMin"] = reduction(unchanged, min, unchanged, true);
  table["ReduceProd"] = reduction(unchanged, prod, unchanged);
  table["ReduceL1"] = reduction(abs, sum, unchanged);
  table["ReduceL2"] = reduction(square, sum, sqrt);
  table["ReduceSumSquare"] = reduction(square, sum, unchanged);
  table["ReduceLogSum"] = reduction(unchanged, sum, log);
  table["ReduceLogSumExp"] = reduction(unchanged, logsumexp, unchanged);
  table["ArgMax"] = place_of(argmax);
  table["ArgMin"] = place_of(argmin);
  table["CumSum"] = [](const Call& call) {
    const CumulativeOptions options{call.integer("exclusive", 0) != 0, call.integer("reverse", 0) != 0};
    return one(cumsum(call.number(0), call.list(1).at(0), options));
  };
  table["GlobalAveragePool"] = [](const Call& call) {
    Tensor x = call.number(0);
    for (int64_t dim = 2; dim < x.shape().rank(); ++dim) x = mean(x, dim, true);
    return one(x);
  };
  table["GlobalMaxPool"] = [](const Call& call) {
    Tensor x = call.number(0);
    for (int64_t dim = 2; dim < x.shape().rank(); ++dim) x = max(x, dim, true);
    return one(x);
  };
}

}  // namespace moxie::testing::onnx
