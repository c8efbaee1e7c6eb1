// SPDX-License-Identifier: Apache-2.0
// Tensor: an Array with history. Ops on tensors that need a gradient are recorded; backward() replays them in reverse.
// First-order gradients only.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/array.h"

namespace moxie {

class Node;

class Tensor final {
 public:
  Tensor() = default;  // undefined: stands for "none" where an op takes an optional tensor
  // A constant: no gradient flows to it until set_requires_grad(true).
  explicit Tensor(Array value) : value_(std::move(value)) {}
  // Used by record(): output `output` of `node`.
  Tensor(Array value, std::shared_ptr<Node> node, int64_t output);

  // A copy of `values` in shape `shape`; throws std::invalid_argument where the sizes differ.
  template <class T> static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = {}) {
    return Tensor(Array::from(values, shape, device));
  }
  static Tensor from(std::initializer_list<float> values, const Shape& shape, Device device = {}) {
    return from(std::vector<float>(values), shape, device);
  }
  static Tensor scalar(double value, Options options = {}) { return Tensor(Array::full({}, value, options)); }
  static Tensor zeros(const Shape& shape, Options options = {}) { return Tensor(Array::zeros(shape, options)); }
  static Tensor full(const Shape& shape, double value, Options options = {}) {
    return Tensor(Array::full(shape, value, options));
  }

  bool defined() const { return value_.defined(); }
  const Array& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  int64_t dim(int64_t i) const { return value_.dim(i); }
  int64_t numel() const { return value_.numel(); }
  Dtype dtype() const { return value_.dtype(); }
  Device device() const { return value_.device(); }
  Options options() const { return value_.options(); }
  double item() const { return value_.item(); }
  template <class T> std::vector<T> to_vector() const { return value_.to_vector<T>(); }
  const std::shared_ptr<Node>& node() const { return node_; }
  int64_t output() const { return output_; }

  // True where backward() would carry a gradient to or through this tensor.
  bool requires_grad() const { return node_ != nullptr; }
  // Makes a leaf whose gradient backward() accumulates (float dtypes only), or a constant again. Throws for the result
  // of an op: detach() it first.
  Tensor& set_requires_grad(bool on = true);
  // Names a leaf for messages, describe() and pictures; throws std::invalid_argument for anything else.
  Tensor& set_name(std::string name);
  // A leaf's name; empty where it has none.
  const std::string& name() const;
  // The gradient accumulated in a leaf; undefined where there is none yet.
  Array grad() const;
  // Forgets the gradient; its memory is kept for the next backward pass.
  void clear_grad() const;
  // The same numbers without history.
  Tensor detach() const { return Tensor(value_); }

  // Adds d(this)/d(leaf) to the gradient of every leaf, for a tensor with one element.
  void backward() const;
  // Adds the product of `cotangent` (same shape, dtype and device as this) with the Jacobian. Uses the recorded graph
  // up: a second call throws std::invalid_argument. So does an array that a backward rule needs and that was changed in
  // place since the forward pass (Array::mark_changed).
  void backward(const Array& cotangent) const;

  std::string to_string() const;

 private:
  Array value_;
  std::shared_ptr<Node> node_;
  int64_t output_ = 0;
};

// While an instance lives, ops on this thread are not recorded.
class NoGrad final {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};

// True where ops on this thread are recorded.
bool grad_enabled();

}  // namespace moxie

// {} prints the values, at most 8 per dimension, with shape and dtype.
template <> struct fmt::formatter<moxie::Array> : fmt::formatter<std::string> {
  auto format(const moxie::Array& array, fmt::format_context& context) const -> decltype(context.out());
};
template <> struct fmt::formatter<moxie::Tensor> : fmt::formatter<std::string> {
  auto format(const moxie::Tensor& tensor, fmt::format_context& context) const -> decltype(context.out());
};
