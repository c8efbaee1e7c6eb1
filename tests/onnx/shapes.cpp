// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "tests/onnx/graph.h"

namespace moxie::testing::onnx {
namespace {

Shape shape_of(const std::vector<int64_t>& sizes) { return Shape(std::span<const int64_t>(sizes)); }

Array integers_of(const std::vector<int64_t>& values) {
  const std::vector<int32_t> narrow(values.begin(), values.end());
  return Array::from(narrow, {static_cast<int64_t>(narrow.size())});
}

std::vector<Array> values_of(const std::vector<Tensor>& tensors) {
  std::vector<Array> result;
  for (const Tensor& tensor : tensors) result.push_back(tensor.value());
  return result;
}

// An input's list where there is one (newer versions of an operator), otherwise the attribute's.
std::vector<int64_t> list_or_attribute(const Call& call, size_t i, const char* attribute) {
  return call.has(i) ? call.list(i) : call.integers(attribute);
}

std::vector<Array> reshape_to(const Call& call) {
  const Tensor x = call.any(0);
  std::vector<int64_t> sizes = call.list(1);
  if (call.integer("allowzero", 0) == 0)
    for (size_t i = 0; i < sizes.size(); ++i)
      if (sizes[i] == 0) sizes[i] = x.dim(static_cast<int64_t>(i));
  int64_t known = 1;
  for (const int64_t size : sizes) known *= size < 0 ? 1 : size;
  for (int64_t& size : sizes)
    if (size < 0) size = x.numel() / known;
  return one(reshape(x, shape_of(sizes)));
}

std::vector<Array> squeeze_dims(const Call& call) {
  Tensor x = call.any(0);
  std::vector<int64_t> dims = list_or_attribute(call, 1, "axes");
  if (dims.empty())
    for (int64_t dim = 0; dim < x.shape().rank(); ++dim)
      if (x.dim(dim) == 1) dims.push_back(dim);
  for (int64_t& dim : dims) dim = dim < 0 ? dim + x.shape().rank() : dim;
  std::sort(dims.rbegin(), dims.rend());
  for (const int64_t dim : dims) x = squeeze(x, dim);
  return one(x);
}

std::vector<Array> unsqueeze_dims(const Call& call) {
  Tensor x = call.any(0);
  std::vector<int64_t> dims = list_or_attribute(call, 1, "axes");
  const int64_t rank = x.shape().rank() + static_cast<int64_t>(dims.size());
  for (int64_t& dim : dims) dim = dim < 0 ? dim + rank : dim;
  std::sort(dims.begin(), dims.end());
  for (const int64_t dim : dims) x = unsqueeze(x, dim == x.shape().rank() ? -1 : dim);
  return one(x);
}

std::vector<Array> flatten(const Call& call) {
  const Tensor x = call.any(0);
  int64_t axis = call.integer("axis", 1);
  if (axis < 0) axis += x.shape().rank();
  return one(reshape(x, {x.shape().product(0, axis), x.shape().product(axis, x.shape().rank())}));
}

std::vector<Array> slice_dims(const Call& call) {
  Tensor x = call.any(0);
  const std::vector<int64_t> starts = call.list(1), ends = call.list(2);
  std::vector<int64_t> dims = call.list(3), steps = call.list(4);
  if (dims.empty()) {
    dims.resize(starts.size());
    std::iota(dims.begin(), dims.end(), int64_t{0});
  }
  steps.resize(starts.size(), 1);
  for (size_t i = 0; i < starts.size(); ++i) {
    if (steps[i] != 1 && steps[i] != -1) throw Unsupported("Slice with a step other than 1 and -1");
    const int64_t dim = normalize_dim("Slice", dims[i], x.shape()), size = x.dim(dim);
    const auto place = [&](int64_t at) { return at < 0 ? at + size : at; };
    int64_t first = place(starts[i]), end = place(ends[i]);
    if (steps[i] == 1) {
      first = std::clamp<int64_t>(first, 0, size);
      end = std::clamp<int64_t>(end, 0, size);
    } else {  // the same elements counted from the back
      x = flip(x, {dim});
      first = size - 1 - std::clamp<int64_t>(first, 0, size - 1);
      end = size - 1 - std::clamp<int64_t>(end, -1, size - 1);
    }
    x = slice(x, dim, first, std::max<int64_t>(end - first, 0));
  }
  return one(x);
}

std::vector<Array> split_parts(const Call& call) {
  const Tensor x = call.any(0);
  const int64_t dim = normalize_dim("Split", call.integer("axis", 0), x.shape());
  const int64_t parts = call.integer("num_outputs", static_cast<int64_t>(call.outputs()));
  std::vector<int64_t> sizes = list_or_attribute(call, 1, "split");
  if (sizes.empty() && x.dim(dim) % parts == 0) return values_of(split(x, parts, dim));
  if (sizes.empty()) {
    const int64_t size = (x.dim(dim) + parts - 1) / parts;
    sizes.assign(static_cast<size_t>(parts), size);
    sizes.back() = x.dim(dim) - size * (parts - 1);
  }
  return values_of(split(x, sizes, dim));
}

std::vector<Array> pad_with_constant(const Call& call) {
  const Tensor x = call.any(0);
  const std::string mode = call.text("mode", "constant");
  if (mode != "constant") throw Unsupported("Pad with mode " + mode);
  const std::vector<int64_t> widths = call.list(1), dims = call.list(3);
  std::vector<PadWidth> around(static_cast<size_t>(x.shape().rank()));
  const size_t count = widths.size() / 2;
  for (size_t i = 0; i < count; ++i) {
    const int64_t dim = dims.empty() ? static_cast<int64_t>(i) : normalize_dim("Pad", dims[i], x.shape());
    around[static_cast<size_t>(dim)] = {widths[i], widths[i + count]};
  }
  return one(pad(x, around, call.has(2) ? call.scalar(2) : 0));
}

std::vector<Array> sizes_of(const Call& call) {
  const Shape& shape = call.array(0).shape();
  const int64_t rank = shape.rank();
  const auto place = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank); };
  const int64_t first = place(call.integer("start", 0)), end = place(call.integer("end", rank));
  const std::vector<int64_t> sizes(shape.begin() + first, shape.begin() + std::max(first, end));
  return {integers_of(sizes)};
}

// [n, c, h, w] with blocks of pixels moved between c and h, w
std::vector<Array> depth_to_space(const Call& call) {
  const Tensor x = call.any(0);
  const int64_t b = call.integer("blocksize", 0), n = x.dim(0), c = x.dim(1) / (b * b), h = x.dim(2), w = x.dim(3);
  const Tensor y = call.text("mode", "DCR") == "DCR" ? permute(reshape(x, {n, b, b, c, h, w}), {0, 3, 4, 1, 5, 2})
                                                     : permute(reshape(x, {n, c, b, b, h, w}), {0, 1, 4, 2, 5, 3});
  return one(reshape(y, {n, c, h * b, w * b}));
}

std::vector<Array> space_to_depth(const Call& call) {
  const Tensor x = call.any(0);
  const int64_t b = call.integer("blocksize", 0), n = x.dim(0), c = x.dim(1), h = x.dim(2) / b, w = x.dim(3) / b;
  return one(reshape(permute(reshape(x, {n, c, h, b, w, b}), {0, 3, 5, 1, 2, 4}), {n, c * b * b, h, w}));
}

// The elements on one side of diagonal k, elsewhere 0.
std::vector<Array> triangle(const Call& call) {
  const Tensor x = call.any(0);
  const int64_t k = call.has(1) ? call.list(1).at(0) : 0, rows = x.dim(-2), cols = x.dim(-1);
  std::vector<int32_t> diagonal(static_cast<size_t>(rows)), column(static_cast<size_t>(cols));
  std::iota(diagonal.begin(), diagonal.end(), static_cast<int32_t>(k));
  std::iota(column.begin(), column.end(), 0);
  const Tensor row_start(Array::from(diagonal, {rows, 1})), at(Array::from(column, {1, cols}));
  const Array kept = call.integer("upper", 1) != 0 ? greater_equal(at, row_start) : less_equal(at, row_start);
  return one(where(kept, x, Tensor::zeros({}, x.options())));
}

std::vector<Array> constant(const Call& call) {
  for (const char* kind : {"value_int", "value_ints"})
    if (call.given(kind)) {
      const bool list = kind == std::string("value_ints");
      const Array values = integers_of(list ? call.integers(kind) : std::vector<int64_t>{call.integer(kind, 0)});
      return {list ? values : values.reshape(Shape{})};
    }
  if (call.given("value_float")) return one(Tensor::scalar(call.real("value_float", 0)));
  return {call.tensor("value")};
}

}  // namespace

void add_shapes(Table& table) {
  table["Reshape"] = reshape_to;
  table["Squeeze"] = squeeze_dims;
  table["Unsqueeze"] = unsqueeze_dims;
  table["Flatten"] = flatten;
  table["Slice"] = slice_dims;
  table["Split"] = split_parts;
  table["Pad"] = pad_with_constant;
  table["Shape"] = sizes_of;
  table["Size"] = [](const Call& call) -> std::vector<Array> {
    return {integers_of({call.array(0).numel()}).reshape(Shape{})};
  };
  table["DepthToSpace"] = depth_to_space;
  table["SpaceToDepth"] = space_to_depth;
  table["Trilu"] = triangle;
  table["Constant"] = constant;
  table["ConstantOfShape"] = [](const Call& call) -> std::vector<Array> {
    const Array value = call.given("value") ? call.tensor("value") : Array::zeros({});
    return {Array::full(shape_of(call.list(0)), value.item(), value.options())};
  };
  table["Transpose"] = [](const Call& call) {
    const Tensor x = call.any(0);
    std::vector<int64_t> order = call.integers("perm");
    if (order.empty())
      for (int64_t dim = x.shape().rank() - 1; dim >= 0; --dim) order.push_back(dim);
    return one(permute(x, order));
  };
  table["Concat"] = [](const Call& call) {
    std::vector<Tensor> parts;
    for (size_t i = 0; i < call.inputs(); ++i) parts.push_back(call.any(i));
    return one(concat(parts, call.integer("axis", 0)));
  };
  table["Expand"] = [](const Call& call) {
    const Tensor x = call.any(0);  // sizes of 1 in the list keep x's
    std::vector<int64_t> sizes = call.list(1);
    const int64_t missing = x.shape().rank() - static_cast<int64_t>(sizes.size());
    if (missing > 0) sizes.insert(sizes.begin(), static_cast<size_t>(missing), 1);
    const int64_t rank = static_cast<int64_t>(sizes.size());
    for (int64_t dim = 0; dim < rank; ++dim) {
      const int64_t own = dim - (rank - x.shape().rank());
      if (own >= 0 && sizes[static_cast<size_t>(dim)] == 1) sizes[static_cast<size_t>(dim)] = x.dim(own);
    }
    return one(broadcast_to(x, shape_of(sizes)));
  };
  table["Tile"] = [](const Call& call) { return one(tile(call.any(0), call.list(1))); };
}

}  // namespace moxie::testing::onnx
