// SPDX-License-Identifier: Apache-2.0
// Initial values of parameters.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/array.h"

namespace moxie::nn {

// The size that Kaiming's initial values keep: that of the result (in) or that of the gradient (out).
enum class Fan { in, out };

// What initial values by name depend on; each name looks at its own.
struct InitOptions {
  double deviation = 1;             // normal, truncated_normal: standard deviation (before the cut)
  double cut = 2;                   // truncated_normal: no value is more than so many deviations from 0
  double bound = 1;                 // uniform: values in (-bound, bound)
  double value = 0;                 // constant
  std::optional<double> gain = {};  // xavier, kaiming, orthogonal; none: sqrt(2) for kaiming (ReLU), else 1
  Fan fan = Fan::in;                // kaiming
  int64_t fan_in = 0, fan_out = 0;  // 0: from the shape
};

// The names that Initializer::draw knows.
const std::vector<std::string_view>& initializer_names();

// Draws initial values: each call takes a stream of its own, so that parameters are independent and a model built in
// the same order from the same seed is the same. All values are f32. They are drawn on `device`, where they equal the
// CPU's but for the rounding of its logarithms and cosines; a model that must begin exactly as on the CPU is drawn
// there and moved by to(model, device).
class Initializer final {
 public:
  explicit Initializer(uint64_t seed, Device device = Device::cpu()) : seed_(seed), device_(device) {}
  Device device() const { return device_; }

  // The same number everywhere.
  Array constant(const Shape& shape, double value) const { return Array::full(shape, value, {Dtype::f32, device_}); }

  // Normal with mean 0.
  Array normal(const Shape& shape, double standard_deviation);
  // Uniform in (-bound, bound).
  Array uniform(const Shape& shape, double bound);
  // Normal with mean 0, drawn again where it is more than `cut` (at least 0.1) standard deviations from 0. What is left
  // has a smaller deviation: 0.880 of the given for cut 2.
  Array truncated_normal(const Shape& shape, double standard_deviation, double cut = 2);
  // Matrices [.., rows, cols] with orthonormal rows (columns, where there are more rows) times `gain`, uniform over all
  // such (Saxe et al. 2014, arXiv 1312.6120). Costs rows^2 cols multiplications in f64, on the CPU.
  Array orthogonal(const Shape& shape, double gain = 1);

  // By name, for a weight [out, in] or a batch of them [.., out, in], whose fan_in is `in` and fan_out `out`:
  //   normal, truncated_normal, uniform, orthogonal, zeros, ones, constant
  //   xavier_normal      deviation gain sqrt(2 / (fan_in + fan_out))  (Glorot & Bengio 2010)
  //   xavier_uniform     bound gain sqrt(6 / (fan_in + fan_out))
  //   kaiming_normal     deviation gain / sqrt(fan)                   (He et al. 2015, arXiv 1502.01852)
  //   kaiming_uniform    bound gain sqrt(3 / fan)
  // glorot_ and he_ are other names for xavier_ and kaiming_. Throws std::invalid_argument for a name that isn't known,
  // a fan of a shape that isn't a matrix's, and values out of range.
  Array draw(std::string_view name, const Shape& shape, const InitOptions& options = {});

 private:
  uint64_t seed_;
  Device device_;
  uint32_t stream_ = 0;
};

}  // namespace moxie::nn
