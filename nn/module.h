// SPDX-License-Identifier: Apache-2.0
// Modules are values: a struct with operator() and a static visit(self, f) that names its members,
//   static void visit(auto& self, auto&& f) { f("norm", self.norm), f("experts", self.experts); }
// Members may be parameters, modules, and std::vector or std::optional of them. Everything else is a short function
// over visit; a parameter's name joins the members' names by dots: "blocks.2.router.weight".
#pragma once
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "core/check.h"
#include "nn/parameter.h"
#include "nn/safetensors.h"

namespace moxie::nn {

namespace detail {

inline std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

template <class T> struct IsVector : std::false_type {};
template <class T> struct IsVector<std::vector<T>> : std::true_type {};
template <class T> struct IsOptional : std::false_type {};
template <class T> struct IsOptional<std::optional<T>> : std::true_type {};

template <class Member, class F> void visit_parameters(const std::string& name, Member& member, F& f) {
  using Plain = std::remove_const_t<Member>;
  if constexpr (std::is_same_v<Plain, Parameter>) {
    f(name, member);
  } else if constexpr (IsVector<Plain>::value) {
    for (size_t i = 0; i < member.size(); ++i) visit_parameters(join(name, std::to_string(i)), member[i], f);
  } else if constexpr (IsOptional<Plain>::value) {
    if (member) visit_parameters(name, *member, f);
  } else {
    Plain::visit(member, [&](const char* child, auto& value) { visit_parameters(join(name, child), value, f); });
  }
}

}  // namespace detail

// Calls f(name, parameter) for every parameter of a module, in the order of visit; tied ones come up each time.
template <class Module, class F> void for_each_parameter(Module& module, F&& f) {
  detail::visit_parameters("", module, f);
}

struct NamedParameter {
  std::string name;
  Parameter parameter;  // a handle on the module's own
};

// All parameters; one that is tied comes up once, under its first name. Throws std::invalid_argument naming the first
// that is not initialised: what may be missing is a std::optional<Parameter>.
template <class Module> std::vector<NamedParameter> parameters(const Module& module) {
  std::vector<NamedParameter> all;
  for_each_parameter(module, [&](const std::string& name, const Parameter& parameter) {
    check(parameter.defined(), "parameters: '{}' is not initialised; give it a value first", name);
    for (const NamedParameter& known : all)
      if (known.parameter.is_tied_to(parameter)) return;
    all.push_back({name, parameter.tie()});
  });
  return all;
}

// How many numbers the parameters hold; tied ones count once.
template <class Module> int64_t count(const Module& module) {
  int64_t total = 0;
  for (const NamedParameter& named : parameters(module)) total += named.parameter.numel();
  return total;
}

// Gives every parameter its name for messages, describe() and pictures of the graph.
template <class Module> void name_parameters(const Module& module) {
  for (NamedParameter& named : parameters(module)) named.parameter.set_name(named.name);
}

// Moves or converts (f32, f64) every parameter; gradients are lost.
template <class Module> void to(Module& module, Device device) {
  for_each_parameter(module, [&](const std::string&, Parameter& parameter) { parameter.to(device); });
}
template <class Module> void to(Module& module, Dtype dtype) {
  for_each_parameter(module, [&](const std::string&, Parameter& parameter) { parameter.to(dtype); });
}

// Clears every gradient.
template <class Module> void clear_grads(const Module& module) {
  for (const NamedParameter& named : parameters(module)) named.parameter.clear_grad();
}

// The parameters' values by name, and their way back: every name must be there with the right shape and dtype, and
// no other; nothing changes where one is wrong.
std::vector<NamedArray> values(const std::vector<NamedParameter>& parameters);
void set_values(std::vector<NamedParameter>& parameters, const std::vector<NamedArray>& arrays);

// Writes the parameters to a safetensors file, or reads them from one.
template <class Module> void save(const Module& module, const std::string& path) {
  write_safetensors(path, values(parameters(module)));
}
template <class Module> void load(Module& module, const std::string& path) {
  std::vector<NamedParameter> all = parameters(module);
  set_values(all, read_safetensors(path).arrays);
}

}  // namespace moxie::nn
