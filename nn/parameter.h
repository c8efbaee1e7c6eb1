// SPDX-License-Identifier: Apache-2.0
// Parameter: a tensor that training changes. Move-only, so that sharing weights by copying a module doesn't compile.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace moxie::nn {

// What optimizers and initialisers should know about a parameter.
struct ParameterOptions {
  bool decay = true;   // weight decay applies; off for norms, biases and embeddings
  bool table = false;  // rows stand for themselves, as in embeddings and output heads: no linear map for Muon
  // Rows of the matrices that lie one below the other in each matrix, such as gate and up; empty: it is one matrix.
  std::vector<int64_t> stacked = {};
};

class Parameter final {
 public:
  Parameter() = default;  // not initialised: all but defined(), is_tied_to() and assignment throw
  // Takes `value` (f32, or f64 for gradient checks) as the parameter's numbers. Throws std::invalid_argument for
  // another dtype, and where `stacked` doesn't add up to the last but one dimension.
  explicit Parameter(const Array& value, ParameterOptions options = {});
  Parameter(Parameter&&) = default;
  Parameter& operator=(Parameter&&) = default;
  bool defined() const { return state_ != nullptr; }
  // A second handle on the same parameter: one value, one gradient, saved once.
  Parameter tie() const;
  bool is_tied_to(const Parameter& other) const { return defined() && state_ == other.state_; }

  const Array& value() const { return state().value; }
  const Shape& shape() const { return state().value.shape(); }
  int64_t numel() const { return state().value.numel(); }
  // The accumulated gradient in the value's dtype; undefined where there is none.
  Array grad() const { return state().leaf.grad(); }
  void clear_grad() const { state().leaf.clear_grad(); }
  const ParameterOptions& options() const { return state().options; }
  bool decays() const { return state().options.decay; }

  // The parameter for a computation in `dtype`: the leaf itself, or its copy in bf16 whose gradient still arrives in
  // the value's dtype.
  Tensor as(Dtype dtype) const;

  // A frozen parameter gets no gradient and no update.
  void freeze(bool on = true);
  bool frozen() const { return !state().leaf.requires_grad(); }
  // Overwrites the numbers (converted to the value's dtype); the shapes must agree.
  void set_value(const Array& value);
  // The copy in bf16 that forward passes compute with; undefined where none was asked for yet.
  const Array& copy() const { return state().copy; }
  // Call after writing into value() and copy(), as optimizers do: a backward pass that still needs the old numbers then
  // throws.
  void mark_changed() const;
  // Call after writing into value() alone: renews the copy in the compute dtype, and lets a backward pass that still
  // needs the old numbers throw.
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
  State& state() const {
    check(state_ != nullptr, "Parameter: not initialised; give it a value first");
    return *state_;
  }
  void replace(const Array& value);
  std::shared_ptr<State> state_;
};

}  // namespace moxie::nn
