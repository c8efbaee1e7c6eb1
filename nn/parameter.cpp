// SPDX-License-Identifier: Apache-2.0
#include "nn/parameter.h"

#include <fmt/ranges.h>

#include <numeric>

namespace moxie::nn {
namespace {

void check_stacked(const Shape& shape, const std::vector<int64_t>& stacked) {
  if (stacked.empty()) return;
  bool fits = shape.rank() >= 2;
  for (const int64_t rows : stacked) fits = fits && rows >= 1;
  check(fits && std::accumulate(stacked.begin(), stacked.end(), int64_t{0}) == shape[-2],
        "Parameter: the stacked matrices must have at least one row each and add up to the rows of the parameter, got "
        "[{}] for shape {}",
        fmt::join(stacked, ", "), shape);
}

}  // namespace

Parameter::Parameter(const Array& value, ParameterOptions options) : state_(std::make_shared<State>()) {
  check(value.dtype() == Dtype::f32 || value.dtype() == Dtype::f64, "Parameter: the value must be f32 or f64, got {}",
        name_of(value.dtype()));
  check_stacked(value.shape(), options.stacked);
  state_->value = value;
  state_->leaf = Tensor(value).set_requires_grad();
  state_->options = std::move(options);
}

Parameter Parameter::tie() const {
  state();
  Parameter other;
  other.state_ = state_;
  return other;
}

Tensor Parameter::as(Dtype dtype) const {
  State& own = state();
  if (dtype == own.value.dtype()) return own.leaf;
  check(dtype == Dtype::bf16,
        "Parameter: a {} parameter computes in its own dtype or in bf16, asked for {}; convert the model with "
        "to(model, dtype)",
        name_of(own.value.dtype()), name_of(dtype));
  if (!own.copy.defined()) own.copy = own.value.to(dtype);
  return Tensor(own.copy, own.leaf.node(), 0);
}

void Parameter::freeze(bool on) {
  state().leaf.set_requires_grad(!on);
  if (!on) state().leaf.set_name(state().name);
}

void Parameter::set_name(const std::string& name) {
  state().name = name;
  if (!frozen()) state().leaf.set_name(name);
}

void Parameter::set_value(const Array& value) {
  check(value.shape() == shape(), "Parameter: the new value has shape {}, the parameter {}", value.shape(), shape());
  state_->value.copy_from(value.to(state_->value.dtype()).to(state_->value.device()));
  refresh();
}

void Parameter::mark_changed() const {
  state().value.mark_changed();
  state().copy.mark_changed();
}

void Parameter::refresh() const {
  const State& own = state();
  own.value.mark_changed();
  if (own.copy.defined()) own.copy.copy_from(own.value.to(own.copy.dtype()));
}

void Parameter::replace(const Array& value) {
  const bool was_frozen = frozen();
  state_->value = value;
  state_->leaf = Tensor(value);
  state_->copy = {};
  freeze(was_frozen);
}

void Parameter::to(Device device) {
  if (device != value().device()) replace(value().to(device));
}
void Parameter::to(Dtype dtype) {
  check(dtype == Dtype::f32 || dtype == Dtype::f64, "Parameter: values are f32 or f64, got {}", name_of(dtype));
  if (dtype != value().dtype()) replace(value().to(dtype));
}

}  // namespace moxie::nn
