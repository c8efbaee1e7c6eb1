// SPDX-License-Identifier: Apache-2.0
// Parameter: a tensor that training changes. Move-only, so that sharing weights by copying a module doesn't compile.
#pragma once
#include <memory>
#include <string>

#include "autograd/tensor.h"

namespace moxie::nn {

struct ParameterOptions {
  bool decay = true;  // weight decay applies; off for norms, biases and embeddings
};

class Parameter final {
 public:
  Parameter() = default;
  // Takes `value` (f32, or f64 for gradient checks) as the parameter's numbers.
  explicit Parameter(const Array& value, ParameterOptions options = {});
  Parameter(Parameter&&) = default;
  Parameter& operator=(Parameter&&) = default;
  // A second handle on the same parameter: one value, one gradient, saved once.
  Parameter tie() const;
  bool is_tied_to(const Parameter& other) const { return state_ == other.state_; }

  const Array& value() const { return state_->value; }
  const Shape& shape() const { return state_->value.shape(); }
  int64_t numel() const { return state_->value.numel(); }
  // The accumulated gradient in the value's dtype; undefined where there is none.
  Array grad() const { return state_->leaf.grad(); }
  void clear_grad() const { state_->leaf.clear_grad(); }
  bool decays() const { return state_->options.decay; }

  // The parameter for a computation in `dtype`: the leaf itself, or its copy in bf16 whose gradient still arrives in
  // the value's dtype.
  Tensor as(Dtype dtype) const;

  // A frozen parameter gets no gradient and no update.
  void freeze(bool on = true);
  bool frozen() const { return !state_->leaf.requires_grad(); }
  // Overwrites the numbers (converted to the value's dtype); the shapes must agree.
  void set_value(const Array& value);
  // Call after writing into value(): renews the copy in the compute dtype, and lets a backward pass that still needs
  // the old numbers throw.
  void refresh() const;
  // Names the parameter in messages and in pictures of the graph; nn::name_parameters names a whole model.
  void set_name(const std::string& name);
  // Moves the parameter, which loses its gradient.
  void to(Device device);
  void to(Dtype dtype);

 private:
  struct State {
    Array value;
    Tensor leaf;
    Array copy;  // in bf16, made at the first use
    ParameterOptions options;
    std::string name;
  };
  void replace(const Array& value);
  std::shared_ptr<State> state_;
};

}  // namespace moxie::nn
