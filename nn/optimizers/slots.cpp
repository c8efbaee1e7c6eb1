// SPDX-License-Identifier: Apache-2.0
#include "nn/optimizers/slots.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/cuda.h"
#include "core/graph.h"

namespace moxie::nn {
namespace {

bool has_grad(const Parameter& parameter) {
  return !parameter.frozen() && parameter.numel() > 0 && parameter.grad().defined();
}

void check_groups(const char* optimizer, const std::vector<NamedParameter>& parameters,
                  const std::vector<ParameterGroup>& groups) {
  std::set<std::string> names;
  for (const NamedParameter& named : parameters) names.insert(named.name);
  const ParameterGroup* rest = nullptr;
  for (const ParameterGroup& group : groups) {
    check(group.rest || group.where || !group.parameters.empty(),
          "{}: group '{}' takes nothing; give it the names of parameters, a function `where`, or rest = true",
          optimizer, group.name);
    check(!group.rest || (!group.where && group.parameters.empty()),
          "{}: group '{}' takes the rest, so it can't have names or a function `where`", optimizer, group.name);
    check(!group.rest || rest == nullptr, "{}: groups '{}' and '{}' both take the rest", optimizer,
          rest ? rest->name : group.name, group.name);
    if (group.rest) rest = &group;
    check(std::isfinite(group.lr_scale) && group.lr_scale >= 0 && group.weight_decay.value_or(0) >= 0,
          "{}: lr_scale and weight_decay of group '{}' must not be negative, got {} and {}", optimizer, group.name,
          group.lr_scale, group.weight_decay.value_or(0));
    for (const std::string& name : group.parameters)
      check(names.contains(name), "{}: group '{}' names '{}', but there is no such parameter", optimizer, group.name,
            name);
  }
}

bool takes(const ParameterGroup& group, const NamedParameter& named) {
  for (const std::string& name : group.parameters)
    if (name == named.name) return true;
  return group.where && group.where(named);
}

const ParameterGroup& group_of(const char* optimizer, const std::vector<ParameterGroup>& groups,
                               const NamedParameter& named) {
  const ParameterGroup *found = nullptr, *rest = nullptr;
  for (const ParameterGroup& group : groups) {
    if (group.rest) rest = &group;
    if (!takes(group, named)) continue;
    check(found == nullptr, "{}: parameter '{}' is in two groups, '{}' and '{}'", optimizer, named.name,
          found ? found->name : group.name, group.name);
    found = &group;
  }
  if (found == nullptr) found = rest;
  check(found != nullptr, "{}: parameter '{}' is in no group; a group with rest = true takes all that are left",
        optimizer, named.name);
  return *found;
}

}  // namespace

Options common_options(const char* op, const std::vector<NamedParameter>& parameters) {
  if (parameters.empty()) return {};
  std::set<std::string> names;
  for (const NamedParameter& named : parameters) {
    check(named.parameter.defined(), "{}: parameter '{}' is not initialised; give it a value first", op, named.name);
    check(names.insert(named.name).second, "{}: two parameters have the name '{}'", op, named.name);
  }
  const Options first = parameters[0].parameter.value().options();
  for (const NamedParameter& named : parameters)
    check(named.parameter.value().options() == first,
          "{}: parameters must share dtype and device, '{}' is {} on {}, '{}' {} on {}", op, parameters[0].name,
          name_of(first.dtype), first.device.name(), named.name, name_of(named.parameter.value().dtype()),
          named.parameter.value().device().name());
  for (size_t i = 0; i < parameters.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      check(!parameters[i].parameter.is_tied_to(parameters[j].parameter), "{}: '{}' and '{}' are the same parameter",
            op, parameters[j].name, parameters[i].name);
  return first;
}

void restore_state(const char* op, const std::vector<NamedArray>& wanted, const std::vector<NamedArray>& arrays) {
  std::map<std::string, Array> by_name;
  for (const NamedArray& named : arrays) by_name[named.name] = named.array;
  std::set<std::string> known;
  for (const NamedArray& mine : wanted) {
    const auto found = by_name.find(mine.name);
    check(found != by_name.end(), "{}: the state has no tensor '{}'", op, mine.name);
    check(found->second.shape() == mine.array.shape() && found->second.dtype() == mine.array.dtype(),
          "{}: tensor '{}' is {} {} in the state and {} {} here", op, mine.name, name_of(found->second.dtype()),
          found->second.shape(), name_of(mine.array.dtype()), mine.array.shape());
    known.insert(mine.name);
  }
  for (const auto& [name, array] : by_name)
    check(known.contains(name), "{}: the state has a tensor '{}', which belongs to nothing here", op, name);
  for (const NamedArray& mine : wanted) mine.array.copy_from(by_name[mine.name].to(mine.array.device()));
}

const void* UploadedList::on(Device device, std::span<const std::byte> list) {
  if (device.is_cpu()) return list.data();
#ifdef MOXIE_CUDA
  if (is_recording(device))
    return cuda::constant_of_recording(device.index, list.data(), static_cast<int64_t>(list.size()));
#endif
  if (!memory_.defined() || memory_.device() != device || !std::ranges::equal(list, list_)) {
    list_.assign(list.begin(), list.end());
    const std::span bytes(reinterpret_cast<const uint8_t*>(list.data()), list.size());
    memory_ = Array::from(bytes, {static_cast<int64_t>(list.size())}, device);
  }
  return memory_.raw();
}

const void* UploadedNumbers::on(Device device, std::span<const std::byte> numbers) {
  host_.assign(numbers.begin(), numbers.end());
  if (device.is_cpu()) return host_.data();
  const auto bytes = static_cast<int64_t>(host_.size());
  if (!memory_.defined() || memory_.device() != device || memory_.bytes() != bytes)
    memory_ = Array::empty({bytes}, {Dtype::u8, device});
#ifdef MOXIE_CUDA
  if (is_recording(device))
    cuda::copy_to_device_now(device.index, memory_.raw(), host_.data(), bytes);
  else
    cuda::copy_to_device(device.index, memory_.raw(), host_.data(), bytes);
#endif
  return memory_.raw();
}

bool OptimizerSlot::takes_part() const { return has_grad(named.parameter); }

OptimizerSlots::OptimizerSlots(const char* optimizer, std::vector<NamedParameter> parameters,
                               const std::vector<ParameterGroup>& groups, double weight_decay, const StateNames& names)
    : optimizer_(optimizer) {
  common_options(optimizer, parameters);
  check_groups(optimizer, parameters, groups);
  for (NamedParameter& named : parameters) {
    OptimizerSlot slot{std::move(named), 1, weight_decay};
    if (!groups.empty()) {
      const ParameterGroup& group = group_of(optimizer, groups, slot.named);
      slot.lr_scale = group.lr_scale;
      slot.weight_decay = group.weight_decay.value_or(weight_decay);
    }
    if (!slot.named.parameter.decays()) slot.weight_decay = 0;
    const Array& value = slot.named.parameter.value();
    for (const char* name : names(slot.named))
      slot.state.push_back({name, Array::zeros(value.shape(), value.options())});
    slots_.push_back(std::move(slot));
  }
}

std::vector<NamedArray> OptimizerSlots::state() const {
  std::vector<NamedArray> arrays;
  for (const OptimizerSlot& slot : slots_)
    for (const NamedArray& kept : slot.state) arrays.push_back({slot.named.name + "." + kept.name, kept.array});
  return arrays;
}

void OptimizerSlots::set_state(const std::vector<NamedArray>& arrays, int64_t steps) {
  check(steps >= 0, "{}: steps must not be negative, got {}", optimizer_, steps);
  restore_state(optimizer_, state(), arrays);
  steps_ = steps;
}

void OptimizerSlots::advance(const Rates& rates) {
  ++steps_;
  if (slots_.empty()) return;
  dispatch_parameter(slots_[0].named.parameter.value().dtype(), [&]<class T>(T) { rates_on_device<T>(rates); });
  for (const OptimizerSlot& slot : slots_)
    if (!slot.named.parameter.frozen()) slot.named.parameter.mark_changed();
}

void OptimizerSlots::finish() const {
  for (const OptimizerSlot& slot : slots_) {
    if (slot.takes_part()) slot.named.parameter.mark_changed();
    slot.named.parameter.clear_grad();
  }
}

double GradientNorm::value() const {
  if (!norm_.defined()) return 0;
  const double length = norm_.item();
  if (!std::isfinite(length))
    throw std::runtime_error(
        fmt::format("{}: the gradient's norm is {} at step {}; lower the learning rate or look for NaN in the data",
                    optimizer_, length, steps_));
  return length;
}

double grad_norm(const std::vector<NamedParameter>& parameters) {
  const Options kind = common_options("grad_norm", parameters);
  double squares = 0;
  dispatch_parameter(kind.dtype, [&]<class T>(T) {
    UploadedList uploaded;
    Segments<T> segments(kind.device, uploaded);
    std::vector<Array> grads;  // keeps them alive
    for (const NamedParameter& named : parameters) {
      if (!has_grad(named.parameter)) continue;
      grads.push_back(named.parameter.grad());
      segments.add(named.parameter.value(), grads.back(), {}, {}, 1, 0);
    }
    squares = segments.squared_grads().item();
  });
  return std::sqrt(squares);
}

}  // namespace moxie::nn
