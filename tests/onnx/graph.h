// SPDX-License-Identifier: Apache-2.0
// ONNX node tests: graphs with inputs and the outputs that another implementation gives. tools/onnx_cases.py makes the
// file they are read from.
#pragma once
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "autograd/ops.h"

namespace moxie::testing::onnx {

// Thrown by an operator for an attribute, an input or a dtype that moxie doesn't have; what() is the reason.
class Unsupported final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// One node as its operator sees it. Whatever is asked for counts as understood; what nobody asked for is found.
class Call final {
 public:
  // Tensor attributes are looked up in `tensors`, which must outlive the call.
  Call(const nlohmann::json& node, std::vector<Array> inputs, int64_t version,
       const std::map<std::string, Array>& tensors);

  const std::string& name() const { return name_; }
  int64_t version() const { return version_; }
  size_t inputs() const { return inputs_.size(); }
  size_t outputs() const { return outputs_; }
  // Undefined where the input is left out.
  const Array& array(size_t i) const;
  bool has(size_t i) const { return array(i).defined(); }
  // An input of any dtype, and one that must be float.
  Tensor any(size_t i) const { return Tensor(array(i)); }
  Tensor number(size_t i) const;
  // The elements of an integer input; of a one-element input.
  std::vector<int64_t> list(size_t i) const;
  double scalar(size_t i) const;

  bool given(const char* attribute) const;
  int64_t integer(const char* attribute, int64_t otherwise) const;
  double real(const char* attribute, double otherwise) const;
  std::string text(const char* attribute, const char* otherwise) const;
  std::vector<int64_t> integers(const char* attribute) const;
  Array tensor(const char* attribute) const;  // undefined where not given

  // Names an attribute or input that was never asked for; empty where there is none.
  std::string ignored() const;

 private:
  const nlohmann::json* attribute(const char* name) const;

  std::string name_;
  nlohmann::json attributes_;
  std::vector<Array> inputs_;
  size_t outputs_ = 0;
  int64_t version_ = 0;
  const std::map<std::string, Array>* tensors_;
  mutable std::set<std::string> asked_attributes_;
  mutable std::set<size_t> asked_inputs_;
};

using Operator = std::function<std::vector<Array>(const Call&)>;
using Table = std::map<std::string, Operator>;

void add_elementwise(Table& table);
void add_reductions(Table& table);
void add_shapes(Table& table);
void add_indexing(Table& table);
void add_layers(Table& table);
void add_losses(Table& table);
const Table& table();

struct Case {
  std::string name;
  nlohmann::json graph;
  std::map<std::string, Array> tensors;  // by the name in the graph, behind "input/", "output/" or "node_<i>/"
};

struct Cases {
  std::vector<Case> cases;
  std::map<std::string, std::string> left;  // cases that the file doesn't hold, with the reason
};
Cases read_cases(const std::string& path);

// The outputs of the graph, in its order. Throws Unsupported.
std::vector<Array> evaluate(const Case& what);

// x with dimension `dim` moved to the end, and back.
Tensor to_last(const Tensor& x, int64_t dim);
Tensor from_last(const Tensor& x, int64_t dim);
inline std::vector<Array> one(const Tensor& x) { return {x.value()}; }

}  // namespace moxie::testing::onnx
