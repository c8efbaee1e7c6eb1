// SPDX-License-Identifier: Apache-2.0
#include "tests/onnx/graph.h"

#include <algorithm>

#include "nn/safetensors.h"

namespace moxie::testing::onnx {

Call::Call(const nlohmann::json& node, std::vector<Array> inputs, int64_t version,
           const std::map<std::string, Array>& tensors)
    : name_(node.at("operator")),
      attributes_(node.at("attributes")),
      inputs_(std::move(inputs)),
      outputs_(node.at("outputs").size()),
      version_(version),
      tensors_(&tensors) {}

const Array& Call::array(size_t i) const {
  static const Array none;
  asked_inputs_.insert(i);
  return i < inputs_.size() ? inputs_[i] : none;
}

Tensor Call::number(size_t i) const {
  const Array& x = array(i);
  if (x.defined() && !is_float(x.dtype())) throw Unsupported(fmt::format("{} of {}", name_, name_of(x.dtype())));
  return Tensor(x);
}

std::vector<int64_t> Call::list(size_t i) const {
  const Array& x = array(i);
  if (!x.defined()) return {};
  const std::vector<int32_t> values = x.to_vector<int32_t>();
  return {values.begin(), values.end()};
}

double Call::scalar(size_t i) const { return array(i).item(); }

const nlohmann::json* Call::attribute(const char* name) const {
  asked_attributes_.insert(name);
  const auto found = attributes_.find(name);
  return found == attributes_.end() ? nullptr : &*found;
}

bool Call::given(const char* name) const { return attribute(name) != nullptr; }

int64_t Call::integer(const char* name, int64_t otherwise) const {
  const nlohmann::json* value = attribute(name);
  return value == nullptr ? otherwise : value->get<int64_t>();
}

double Call::real(const char* name, double otherwise) const {
  const nlohmann::json* value = attribute(name);
  return value == nullptr ? otherwise : value->get<double>();
}

std::string Call::text(const char* name, const char* otherwise) const {
  const nlohmann::json* value = attribute(name);
  return value == nullptr ? otherwise : value->get<std::string>();
}

std::vector<int64_t> Call::integers(const char* name) const {
  const nlohmann::json* value = attribute(name);
  return value == nullptr ? std::vector<int64_t>{} : value->get<std::vector<int64_t>>();
}

Array Call::tensor(const char* name) const {
  const nlohmann::json* value = attribute(name);
  return value == nullptr ? Array() : tensors_->at(value->at("array").get<std::string>());
}

std::string Call::ignored() const {
  for (const auto& [name, value] : attributes_.items())
    if (!asked_attributes_.contains(name)) return "attribute " + name;
  for (size_t i = 0; i < inputs_.size(); ++i)
    if (inputs_[i].defined() && !asked_inputs_.contains(i)) return fmt::format("input {}", i);
  return "";
}

const Table& table() {
  static const Table all = [] {
    Table made;
    add_elementwise(made);
    add_reductions(made);
    add_shapes(made);
    add_indexing(made);
    add_layers(made);
    add_losses(made);
    return made;
  }();
  return all;
}

Cases read_cases(const std::string& path) {
  const nn::Safetensors file = nn::read_safetensors(path);
  Cases result;
  result.left = nlohmann::json::parse(file.metadata.at("left")).get<std::map<std::string, std::string>>();
  std::map<std::string, size_t> place;
  for (const nlohmann::json& graph : nlohmann::json::parse(file.metadata.at("cases"))) {
    place[graph.at("name")] = result.cases.size();
    result.cases.push_back({graph.at("name"), graph, {}});
  }
  for (const nn::NamedArray& named : file.arrays) {
    const size_t slash = named.name.find('/');
    result.cases[place.at(named.name.substr(0, slash))].tensors.emplace(named.name.substr(slash + 1), named.array);
  }
  return result;
}

std::vector<Array> evaluate(const Case& what) {
  std::map<std::string, Array> values;
  for (const std::string name : what.graph.at("inputs")) values[name] = what.tensors.at("input/" + name);
  for (const nlohmann::json& node : what.graph.at("nodes")) {
    std::vector<Array> inputs;
    for (const std::string name : node.at("inputs")) inputs.push_back(name.empty() ? Array() : values.at(name));
    const Call call(node, std::move(inputs), what.graph.at("version"), what.tensors);
    const auto found = table().find(call.name());
    if (found == table().end()) throw Unsupported("operator " + call.name());
    const std::vector<Array> outputs = found->second(call);
    if (const std::string ignored = call.ignored(); !ignored.empty())
      throw Unsupported(fmt::format("{} of {}", ignored, call.name()));
    const nlohmann::json& names = node.at("outputs");
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i].get<std::string>().empty()) continue;
      if (i >= outputs.size() || !outputs[i].defined())
        throw Unsupported(fmt::format("output {} of {}", i, call.name()));
      values[names[i]] = outputs[i];
    }
  }
  std::vector<Array> result;
  for (const std::string name : what.graph.at("outputs")) result.push_back(values.at(name));
  return result;
}

Tensor to_last(const Tensor& x, int64_t dim) {
  dim = normalize_dim("onnx", dim, x.shape());
  std::vector<int64_t> order;
  for (int64_t i = 0; i < x.shape().rank(); ++i)
    if (i != dim) order.push_back(i);
  order.push_back(dim);
  return permute(x, order);
}

Tensor from_last(const Tensor& x, int64_t dim) {
  const int64_t last = x.shape().rank() - 1;
  dim = normalize_dim("onnx", dim, x.shape());
  std::vector<int64_t> order;
  for (int64_t i = 0; i < last; ++i) order.push_back(i);
  order.insert(order.begin() + dim, last);
  return permute(x, order);
}

}  // namespace moxie::testing::onnx
