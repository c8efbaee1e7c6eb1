// SPDX-License-Identifier: Apache-2.0
// Layers: values with operator() and visit. Parameters are f32; activations are in the context's dtype.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "autograd/ops.h"
#include "nn/context.h"
#include "nn/init.h"
#include "nn/module.h"

namespace moxie::nn {

// Rows of the matrices that lie one below the other in the first projection of `hidden` units: {hidden, hidden} for
// gate and up; empty where it is one matrix. For ParameterOptions::stacked.
std::vector<int64_t> stacked_rows(Activation activation, int64_t hidden);

struct LinearOptions {
  bool bias = false;
  double gain = 1;                              // of the initial weights
  std::string_view initial = "kaiming_normal";  // a name that Initializer::draw knows
  std::vector<int64_t> stacked = {};            // ParameterOptions::stacked of the weight
};

// y = x W^T + b; x [.., in] -> [.., out], weight [out, in]
struct Linear {
  Parameter weight;
  std::optional<Parameter> bias;

  Linear(int64_t in, int64_t out, Initializer& init, const LinearOptions& options);
  // Weights are normal with standard deviation `gain` / sqrt(in); the bias, where wanted, starts at 0.
  Linear(int64_t in, int64_t out, Initializer& init, bool with_bias = false, double gain = 1);
  Tensor operator()(const Tensor& x, const Context& context) const;
  static void visit(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
};

// Rows of weight [vocabulary, width] for indices [..] (i32) -> [.., width]
struct Embedding {
  Parameter weight;

  Embedding(int64_t vocabulary, int64_t width, Initializer& init, double standard_deviation = 0.02);
  Tensor operator()(const Array& index, const Context& context) const;
  static void visit(auto& self, auto&& f) { f("weight", self.weight); }
};

// y = x / rms(x) * weight over the last dimension
struct RmsNorm {
  Parameter weight;  // starts at 1
  double epsilon = 1e-5;

  explicit RmsNorm(int64_t width, double eps = 1e-5);
  Tensor operator()(const Tensor& x, const Context& context) const;
  // Of x + branch, and that sum as well, in one pass over memory.
  NormedSum operator()(const Tensor& x, Tensor branch, const Context& context) const;
  static void visit(auto& self, auto&& f) { f("weight", self.weight); }
};

// y = (x - mean) / sqrt(variance + epsilon) * weight + bias over the last dimension
struct LayerNorm {
  Parameter weight;               // starts at 1
  std::optional<Parameter> bias;  // starts at 0
  double epsilon = 1e-5;

  explicit LayerNorm(int64_t width, double eps = 1e-5, bool with_bias = true);
  Tensor operator()(const Tensor& x, const Context& context) const;
  static void visit(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
};

// In training sets each element to 0 with probability p and scales the others by 1 / (1 - p).
struct Dropout {
  double p = 0;
  Purpose purpose = Purpose::dropout;

  explicit Dropout(double probability = 0, Purpose stream = Purpose::dropout);
  Tensor operator()(const Tensor& x, const Context& context) const;
  static void visit(auto&, auto&&) {}
};

// The dense feed-forward network: down(activate(up(x))), SwiGLU, GELU or ReLU.
struct FeedForward {
  Activation activation = Activation::swiglu;
  Linear up;    // [projection_width, width], gate rows first for swiglu
  Linear down;  // [width, hidden]

  FeedForward(int64_t width, int64_t hidden, Activation kind, Initializer& init, double output_gain = 1);
  Tensor operator()(const Tensor& x, const Context& context) const;
  static void visit(auto& self, auto&& f) { f("up", self.up), f("down", self.down); }
};

}  // namespace moxie::nn
