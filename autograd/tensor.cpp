// SPDX-License-Identifier: Apache-2.0
#include "autograd/tensor.h"

#include <fmt/format.h>

#include "autograd/record.h"

namespace moxie {
namespace {

constexpr int64_t shown = 8;  // values printed per dimension

void print(std::string& text, const std::vector<double>& values, bool whole, const Shape& shape, int64_t dim,
           int64_t offset) {
  if (dim == shape.rank()) {
    const double value = values[static_cast<size_t>(offset)];
    text += whole ? fmt::format("{:.0f}", value) : fmt::format("{:.5g}", value);
    return;
  }
  const int64_t stride = shape.product(dim + 1, shape.rank());
  text += '[';
  for (int64_t i = 0; i < shape[dim]; ++i) {
    if (i > 0) text += ", ";
    if (i == shown) {
      text += "...";
      break;
    }
    print(text, values, whole, shape, dim + 1, offset + i * stride);
  }
  text += ']';
}

std::string print(const Array& array) {
  if (!array.defined()) return "undefined";
  std::string text;
  print(text, array.to_vector<double>(), !is_float(array.dtype()), array.shape(), 0, 0);
  return fmt::format("{} (shape {}, {}, {})", text, array.shape(), name_of(array.dtype()), array.device().name());
}

}  // namespace

Tensor::Tensor(Array value, std::shared_ptr<Node> node, int64_t output)
    : value_(std::move(value)), node_(std::move(node)), output_(output) {}

Tensor& Tensor::set_requires_grad(bool on) {
  check(node_ == nullptr || node_->is_leaf(), "set_requires_grad: the tensor is the result of {}; detach() it first",
        node_ ? node_->op : "");
  if (on) check(defined(), "set_requires_grad: the tensor is undefined");
  if (on) check(is_float(dtype()), "set_requires_grad: needs a float dtype, got {}", name_of(dtype()));
  if (on && node_ == nullptr) node_ = Node::leaf(value_);
  if (!on) node_ = nullptr;
  return *this;
}

Tensor& Tensor::set_name(std::string name) {
  check(node_ != nullptr && node_->is_leaf(), "set_name: only leaves have names; call set_requires_grad() first");
  node_->name = std::move(name);
  return *this;
}

const std::string& Tensor::name() const {
  static const std::string none;
  return node_ == nullptr ? none : node_->name;
}

Array Tensor::grad() const {
  if (node_ == nullptr || !node_->is_leaf() || !node_->has_grad) return {};
  return node_->dy[0];
}

void Tensor::clear_grad() const {
  if (node_ != nullptr && node_->is_leaf()) node_->has_grad = false;
}

void Tensor::backward() const {
  check(numel() == 1, "backward: needs a tensor with one element or a cotangent, got shape {}", shape());
  backward(Array::full(shape(), 1.0, options()));
}

void Tensor::backward(const Array& cotangent) const {
  check(node_ != nullptr, "backward: no tensor that this one was computed from requires a gradient");
  check(cotangent.shape() == shape(), "backward: cotangent {} differs from the tensor's shape {}", cotangent.shape(),
        shape());
  check(cotangent.options() == options(), "backward: cotangent is {} on {}, the tensor {} on {}",
        name_of(cotangent.dtype()), cotangent.device().name(), name_of(dtype()), device().name());
  detail::run_backward(node_, output_, cotangent);
}

std::string Tensor::to_string() const { return print(value_); }

}  // namespace moxie

auto fmt::formatter<moxie::Array>::format(const moxie::Array& array, fmt::format_context& context) const
    -> decltype(context.out()) {
  return fmt::formatter<std::string>::format(moxie::print(array), context);
}

auto fmt::formatter<moxie::Tensor>::format(const moxie::Tensor& tensor, fmt::format_context& context) const
    -> decltype(context.out()) {
  return fmt::formatter<std::string>::format(tensor.to_string(), context);
}
