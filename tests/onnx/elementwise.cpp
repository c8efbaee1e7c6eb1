// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "tests/onnx/graph.h"

namespace moxie::testing::onnx {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

using Unary = Tensor (*)(const Tensor&);
using Binary = Tensor (*)(const Tensor&, const Tensor&);
using Comparison = Array (*)(const Tensor&, const Tensor&);
using Logical = Array (*)(const Array&, const Array&);

Dtype dtype_of_onnx(int64_t number) {
  switch (number) {
    case 1: return Dtype::f32;
    case 11: return Dtype::f64;
    case 16: return Dtype::bf16;
    case 6:
    case 7: return Dtype::i32;
    case 2: return Dtype::u8;
    default: throw Unsupported(fmt::format("a cast to ONNX's dtype {}", number));
  }
}

std::vector<Array> cast_to(const Call& call) {
  call.integer("saturate", 1);  // of 8-bit floats
  const int64_t to = call.integer("to", 0);
  constexpr int64_t boolean = 9;
  if (to == boolean) return {not_equal(call.any(0), 0)};
  return {call.array(0).to(dtype_of_onnx(to))};
}

// Of any number of inputs, from left to right.
Tensor fold(const Call& call, Binary op) {
  Tensor result = call.number(0);
  for (size_t i = 1; i < call.inputs(); ++i) result = op(result, call.number(i));
  return result;
}

std::vector<Array> clip(const Call& call) {
  const Tensor x = call.number(0);
  const double low = call.has(1) ? call.scalar(1) : -infinity, high = call.has(2) ? call.scalar(2) : infinity;
  if (low > high) throw Unsupported("Clip with a lower bound above the upper one");
  return one(clamp(x, low, high));
}

std::vector<Array> is_infinite(const Call& call) {
  const Tensor x = call.number(0);
  const Array above = equal(x, call.integer("detect_positive", 1) != 0 ? infinity : std::nan(""));
  const Array below = equal(x, call.integer("detect_negative", 1) != 0 ? -infinity : std::nan(""));
  return {logical_or(above, below)};
}

std::vector<Array> shrink(const Call& call) {
  const Tensor x = call.number(0);
  const double threshold = call.real("lambd", 0.5), bias = call.real("bias", 0);
  const Tensor zero = Tensor::zeros(x.shape(), x.options());
  return one(where(less(x, -threshold), x + bias, where(greater(x, threshold), x - bias, zero)));
}

void add_activations(Table& table) {
  table["Elu"] = [](const Call& c) { return one(elu(c.number(0), c.real("alpha", 1))); };
  table["Celu"] = [](const Call& c) { return one(celu(c.number(0), c.real("alpha", 1))); };
  table["Selu"] = [](const Call& c) {
    const bool usual = !c.given("alpha") && !c.given("gamma");
    return one(usual ? selu(c.number(0)) : c.real("gamma", 0) * elu(c.number(0), c.real("alpha", 0)));
  };
  table["LeakyRelu"] = [](const Call& c) { return one(leaky_relu(c.number(0), c.real("alpha", 0.01))); };
  table["HardSigmoid"] = [](const Call& c) {
    return one(hard_sigmoid(c.number(0), c.real("alpha", 0.2), c.real("beta", 0.5)));
  };
  table["Gelu"] = [](const Call& c) {
    return one(gelu(c.number(0), c.text("approximate", "none") == "tanh" ? GeluForm::tanh : GeluForm::exact));
  };
  table["Swish"] = [](const Call& c) { return one(swish(c.number(0), c.real("alpha", 1))); };
  table["ThresholdedRelu"] = [](const Call& c) {
    return one(masked_fill(c.number(0), less_equal(c.number(0), c.real("alpha", 1)), 0));
  };
  table["PRelu"] = [](const Call& c) {
    const Tensor x = c.number(0);
    return one(where(less(x, 0), x * c.number(1), x));
  };
  table["Shrink"] = shrink;
}

}  // namespace

void add_elementwise(Table& table) {
  const std::pair<const char*, Unary> unary[] = {{"Abs", abs},           {"Acos", acos},
                                                 {"Acosh", acosh},       {"Asin", asin},
                                                 {"Asinh", asinh},       {"Atan", atan},
                                                 {"Atanh", atanh},       {"Ceil", ceil},
                                                 {"Cos", cos},           {"Cosh", cosh},
                                                 {"Erf", erf},           {"Exp", exp},
                                                 {"Floor", floor},       {"HardSwish", hard_swish},
                                                 {"Log", log},           {"Mish", mish},
                                                 {"Neg", neg},           {"Reciprocal", reciprocal},
                                                 {"Relu", relu},         {"Round", round},
                                                 {"Sigmoid", sigmoid},   {"Sign", sign},
                                                 {"Sin", sin},           {"Sinh", sinh},
                                                 {"Softplus", softplus}, {"Softsign", softsign},
                                                 {"Sqrt", sqrt},         {"Tan", tan},
                                                 {"Tanh", tanh}};
  for (const auto& [name, op] : unary) table[name] = [op](const Call& call) { return one(op(call.number(0))); };

  const std::pair<const char*, Binary> binary[] = {{"Add", add}, {"Sub", sub}, {"Mul", mul}, {"Div", div}};
  for (const auto& [name, op] : binary)
    table[name] = [op](const Call& call) { return one(op(call.number(0), call.number(1))); };
  table["Pow"] = [](const Call& call) {
    const Tensor x = call.number(0);
    return one(pow(x, Tensor(call.array(1).to(x.dtype()))));
  };

  table["Sum"] = [](const Call& call) { return one(fold(call, add)); };
  table["Max"] = [](const Call& call) { return one(fold(call, maximum)); };
  table["Min"] = [](const Call& call) { return one(fold(call, minimum)); };
  table["Mean"] = [](const Call& call) { return one(fold(call, add) / static_cast<double>(call.inputs())); };

  const std::pair<const char*, Comparison> comparisons[] = {{"Equal", equal},
                                                            {"Less", less},
                                                            {"LessOrEqual", less_equal},
                                                            {"Greater", greater},
                                                            {"GreaterOrEqual", greater_equal}};
  for (const auto& [name, op] : comparisons)
    table[name] = [op](const Call& call) -> std::vector<Array> { return {op(call.any(0), call.any(1))}; };
  const std::pair<const char*, Logical> logical[] = {{"And", logical_and}, {"Or", logical_or}, {"Xor", logical_xor}};
  for (const auto& [name, op] : logical)
    table[name] = [op](const Call& call) -> std::vector<Array> { return {op(call.array(0), call.array(1))}; };
  table["Not"] = [](const Call& call) -> std::vector<Array> { return {logical_not(call.array(0))}; };
  table["IsNaN"] = [](const Call& call) -> std::vector<Array> { return {not_equal(call.any(0), call.any(0))}; };
  table["IsInf"] = is_infinite;
  table["Where"] = [](const Call& call) { return one(where(call.array(0), call.any(1), call.any(2))); };

  table["Clip"] = clip;
  table["Cast"] = cast_to;
  table["CastLike"] = [](const Call& call) -> std::vector<Array> {
    call.integer("saturate", 1);
    return {call.array(0).to(call.array(1).dtype())};
  };
  table["Identity"] = [](const Call& call) -> std::vector<Array> { return {call.array(0)}; };
  add_activations(table);
}

}  // namespace moxie::testing::onnx
