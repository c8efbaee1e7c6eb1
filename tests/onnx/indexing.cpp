// SPDX-License-Identifier: Apache-2.0
#include "tests/onnx/graph.h"

namespace moxie::testing::onnx {
namespace {

// Negative indices count from the end.
Array from_the_start(const Array& index, int64_t size) {
  std::vector<int32_t> values = index.to_vector<int32_t>();
  for (int32_t& value : values)
    if (value < 0) value += static_cast<int32_t>(size);
  return Array::from(values, index.shape());
}

// Whole slices of x along a dimension: rows of a table [size, everything else].
std::vector<Array> take_slices(const Call& call) {
  const Tensor x = call.number(0);
  const int64_t dim = normalize_dim("Gather", call.integer("axis", 0), x.shape()), size = x.dim(dim);
  const Array index = from_the_start(call.array(1), size);
  const int64_t before = x.shape().product(0, dim), after = x.shape().product(dim + 1, x.shape().rank());
  const Tensor table = reshape(permute(reshape(x, {before, size, after}), {1, 0, 2}), {size, before * after});
  const Tensor rows = reshape(embedding(table, index), {index.numel(), before, after});
  Shape shape = x.shape().without(dim);
  for (int64_t i = 0; i < index.shape().rank(); ++i) shape = shape.inserted(dim + i, index.shape()[i]);
  return one(reshape(permute(rows, {1, 0, 2}), shape));
}

std::vector<Array> take_elements(const Call& call) {
  const Tensor x = call.number(0);
  const int64_t dim = normalize_dim("GatherElements", call.integer("axis", 0), x.shape());
  const Array index = from_the_start(call.array(1), x.dim(dim));
  if (index.shape().with(dim, 0) != x.shape().with(dim, 0))
    throw Unsupported("GatherElements with fewer indices than x has beside the dimension");
  return one(gather(x, dim, index));
}

std::vector<Array> top_k_of(const Call& call) {
  const Tensor x = call.number(0);
  const int64_t dim = call.integer("axis", -1), k = call.list(1).at(0);
  call.integer("sorted", 1);  // always
  const bool largest = call.integer("largest", 1) != 0;
  const TopK best = top_k(to_last(largest ? x : neg(x), dim), k);
  const Tensor values = from_last(best.values, dim);
  return {(largest ? values : neg(values)).value(), from_last(Tensor(best.indices), dim).value()};
}

std::vector<Array> one_hot_of(const Call& call) {
  const int64_t classes = call.list(1).at(0), dim = call.integer("axis", -1);
  const Array index = from_the_start(call.array(0).to(Dtype::i32), classes);
  const std::vector<double> off_on = call.number(2).to_vector<double>();
  const Tensor hot(one_hot(index, classes, call.array(2).dtype()).value());
  return one(affine(from_last(hot, dim), off_on[1] - off_on[0], off_on[0]));
}

// 1 at the first largest element along a dimension, elsewhere 0
std::vector<Array> hard_max(const Call& call) {
  const Tensor x = call.number(0);
  const int64_t dim = call.integer("axis", -1);
  return one(from_last(one_hot(argmax(x, dim), x.dim(dim), x.dtype()), dim));
}

}  // namespace

void add_indexing(Table& table) {
  table["Gather"] = take_slices;
  table["GatherElements"] = take_elements;
  table["TopK"] = top_k_of;
  table["OneHot"] = one_hot_of;
  table["Hardmax"] = hard_max;
}

}  // namespace moxie::testing::onnx
