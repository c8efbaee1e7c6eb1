// SPDX-License-Identifier: Apache-2.0
// concat, stack and split
#include <numeric>

#include "autograd/ops/common.h"
#include "autograd/ops/shape.h"
#include "autograd/ops/shape/strided.h"

namespace moxie {
namespace {

// Several arrays as one, cut along a dimension: of `outer` lines each array has a piece of its own length.
struct Pieces {
  int64_t outer = 1;
  int64_t line = 0;                  // elements of a whole line
  std::vector<int64_t> length = {};  // elements of a piece
  std::vector<Shape> shapes = {};    // of the arrays
  void add(int64_t elements, const Shape& shape) {
    length.push_back(elements);
    shapes.push_back(shape);
    line += elements;
  }
};

Array piece_of(const Array& whole, const Pieces& pieces, size_t i, int64_t first) {
  const Array part = Array::empty(pieces.shapes[i], whole.options());
  copy_lines(whole, {first, pieces.line}, part, {0, pieces.length[i]}, pieces.outer, pieces.length[i], false);
  return part;
}

Tensor join(const char* op, std::span<const Tensor> inputs, const Shape& shape, const Pieces& pieces) {
  const OpRange range(op);
  const Array y = Array::empty(shape, inputs[0].options());
  int64_t first = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    copy_lines(inputs[i].value(), {0, pieces.length[i]}, y, {first, pieces.line}, pieces.outer, pieces.length[i],
               false);
    first += pieces.length[i];
  }
  return record(op, y, inputs, [pieces](std::span<const Array> dy, Grads& grads) {
    int64_t start = 0;
    for (size_t i = 0; i < pieces.length.size(); ++i) {
      if (grads.needs(i)) grads.give(i, piece_of(dy[0], pieces, i, start));
      start += pieces.length[i];
    }
  });
}

}  // namespace

Tensor concat(std::span<const Tensor> inputs, int64_t dim) {
  check(!inputs.empty(), "concat: needs at least one tensor");
  const Shape& shape = inputs[0].shape();
  dim = normalize_dim("concat", dim, shape);
  Pieces pieces{.outer = shape.product(0, dim)};
  const int64_t inner = shape.product(dim + 1, shape.rank());
  int64_t total = 0;
  for (const Tensor& input : inputs) {
    check_same_kind("concat", inputs[0].value(), "the first tensor", input.value(), "another");
    check(input.shape().rank() == shape.rank() && input.shape().with(dim, 0) == shape.with(dim, 0),
          "concat: shapes must agree but for dimension {}, got {} and {}", dim, shape, input.shape());
    pieces.add(input.dim(dim) * inner, input.shape());
    total += input.dim(dim);
  }
  return join("concat", inputs, shape.with(dim, total), pieces);
}

Tensor concat(std::initializer_list<Tensor> inputs, int64_t dim) {
  return concat(std::span<const Tensor>(inputs.begin(), inputs.size()), dim);
}

Tensor stack(std::span<const Tensor> inputs, int64_t dim) {
  check(!inputs.empty(), "stack: needs at least one tensor");
  const Shape& shape = inputs[0].shape();
  const int64_t rank = shape.rank();
  check(dim >= -rank - 1 && dim <= rank, "stack: dimension {} is out of range for tensors of shape {}", dim, shape);
  if (dim < 0) dim += rank + 1;
  Pieces pieces{.outer = shape.product(0, dim)};
  for (const Tensor& input : inputs) {
    check_same_kind("stack", inputs[0].value(), "the first tensor", input.value(), "another");
    check(input.shape() == shape, "stack: shapes must agree, got {} and {}", shape, input.shape());
    pieces.add(shape.product(dim, rank), shape);
  }
  return join("stack", inputs, shape.inserted(dim, static_cast<int64_t>(inputs.size())), pieces);
}

Tensor stack(std::initializer_list<Tensor> inputs, int64_t dim) {
  return stack(std::span<const Tensor>(inputs.begin(), inputs.size()), dim);
}

std::vector<Tensor> split(const Tensor& x, std::span<const int64_t> sizes, int64_t dim) {
  const OpRange range("split");
  const Shape& shape = x.shape();
  dim = normalize_dim("split", dim, shape);
  Pieces pieces{.outer = shape.product(0, dim)};
  const int64_t inner = shape.product(dim + 1, shape.rank());
  int64_t total = 0;
  for (const int64_t size : sizes) {
    check(size >= 0, "split: sizes must not be negative, got {}", size);
    pieces.add(size * inner, shape.with(dim, size));
    total += size;
  }
  check(!sizes.empty() && total == shape[dim], "split: {} sizes with sum {} don't make up dimension {} of {}",
        sizes.size(), total, dim, shape);
  std::vector<Array> parts;
  int64_t first = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    parts.push_back(piece_of(x.value(), pieces, i, first));
    first += pieces.length[i];
  }
  const Tensor inputs[] = {x};
  return record("split", parts, inputs, [pieces](std::span<const Array> dy, Grads& grads) {
    const Grads::Target dx = grads.into(0);
    int64_t start = 0;
    for (size_t i = 0; i < dy.size(); ++i) {
      copy_lines(dy[i], {0, pieces.length[i]}, dx.array, {start, pieces.line}, pieces.outer, pieces.length[i],
                 dx.accumulate);
      start += pieces.length[i];
    }
  });
}

std::vector<Tensor> split(const Tensor& x, std::initializer_list<int64_t> sizes, int64_t dim) {
  return split(x, std::span<const int64_t>(sizes.begin(), sizes.size()), dim);
}

std::vector<Tensor> split(const Tensor& x, int64_t parts, int64_t dim) {
  const int64_t size = x.shape()[normalize_dim("split", dim, x.shape())];
  check(parts >= 1 && size % parts == 0, "split: {} parts don't divide dimension {} of {} evenly", parts, dim,
        x.shape());
  const std::vector<int64_t> sizes(static_cast<size_t>(parts), size / parts);
  return split(x, sizes, dim);
}

}  // namespace moxie
