// SPDX-License-Identifier: Apache-2.0
#include "nn/parameter.h"

namespace moxie::nn {

Parameter::Parameter(const Array& value, ParameterOptions options) : state_(std::make_shared<State>()) {
  check(value.dtype() == Dtype::f32 || value.dtype() == Dtype::f64, "Parameter: the value must be f32 or f64, got {}",
        name_of(value.dtype()));
  state_->value = value;
  state_->leaf = Tensor(value).set_requires_grad();
  state_->options = options;
}

Parameter Parameter::tie() const {
  Parameter other;
  other.state_ = state_;
  return other;
}

Tensor Parameter::as(Dtype dtype) const {
  check(state_ != nullptr, "Parameter: not initialised; give it a value first");
  if (dtype == state_->value.dtype()) return state_->leaf;
  check(dtype == Dtype::bf16,
        "Parameter: a {} parameter computes in its own dtype or in bf16, asked for {}; convert the model with "
        "to(model, dtype)",
        name_of(state_->value.dtype()), name_of(dtype));
  if (!state_->copy.defined()) state_->copy = state_->value.to(dtype);
  return Tensor(state_->copy, state_->leaf.node(), 0);
}

void Parameter::freeze(bool on) {
  state_->leaf.set_requires_grad(!on);
  if (!on) state_->leaf.set_name(state_->name);
}

void Parameter::set_name(const std::string& name) {
  state_->name = name;
  if (!frozen()) state_->leaf.set_name(name);
}

void Parameter::set_value(const Array& value) {
  check(value.shape() == shape(), "Parameter: the new value has shape {}, the parameter {}", value.shape(), shape());
  state_->value.copy_from(value.to(state_->value.dtype()).to(state_->value.device()));
  refresh();
}

void Parameter::refresh() const {
  state_->value.mark_changed();
  if (state_->copy.defined()) state_->copy.copy_from(state_->value.to(state_->copy.dtype()));
}

void Parameter::replace(const Array& value) {
  const bool was_frozen = frozen();
  state_->value = value;
  state_->leaf = Tensor(value);
  state_->copy = {};
  freeze(was_frozen);
}

void Parameter::to(Device device) {
  if (device != state_->value.device()) replace(state_->value.to(device));
}
void Parameter::to(Dtype dtype) {
  check(dtype == Dtype::f32 || dtype == Dtype::f64, "Parameter: values are f32 or f64, got {}", name_of(dtype));
  if (dtype != state_->value.dtype()) replace(state_->value.to(dtype));
}

}  // namespace moxie::nn
