// SPDX-License-Identifier: Apache-2.0
#include "nn/init.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/kernels/random/fill.h"
#include "core/launch.h"
#include "nn/context.h"
#include "nn/orthogonal.h"

namespace moxie::nn {
namespace {

RandomKey key_of(uint64_t seed, uint32_t stream) {
  return {.seed = seed, .stream = stream << 4 | static_cast<uint32_t>(Purpose::initialize), .step = 0};
}

template <class Kernel, class... Values> Array filled(Device device, const Shape& shape, Values... values) {
  const Array array = Array::empty(shape, {Dtype::f32, device});
  const Kernel kernel{array.data<float>(), array.numel(), values...};
  for_rows(array.device(), kernel, elementwise_rows(array.numel()), elementwise_row);
  return array;
}

struct Fans {
  double in, out;
};
Fans fans_of(std::string_view name, const Shape& shape, const InitOptions& options) {
  check(options.fan_in >= 0 && options.fan_out >= 0, "Initializer: fans must not be negative, got {} and {}",
        options.fan_in, options.fan_out);
  check(shape.rank() >= 2 || (options.fan_in > 0 && options.fan_out > 0),
        "Initializer: {} needs a weight [.., out, in] with at least two dimensions, got {}; or set fan_in and fan_out",
        name, shape);
  const int64_t in = options.fan_in > 0 ? options.fan_in : shape[-1],
                out = options.fan_out > 0 ? options.fan_out : shape[-2];
  return {static_cast<double>(std::max<int64_t>(in, 1)), static_cast<double>(std::max<int64_t>(out, 1))};
}

// The name without its other spelling.
std::string_view canonical(std::string_view name) {
  if (name == "glorot_normal") return "xavier_normal";
  if (name == "glorot_uniform") return "xavier_uniform";
  if (name == "he_normal") return "kaiming_normal";
  if (name == "he_uniform") return "kaiming_uniform";
  return name;
}

}  // namespace

const std::vector<std::string_view>& initializer_names() {
  static const std::vector<std::string_view> names{
      "normal",         "truncated_normal", "uniform",        "xavier_normal", "xavier_uniform",
      "kaiming_normal", "kaiming_uniform",  "orthogonal",     "zeros",         "ones",
      "constant",       "glorot_normal",    "glorot_uniform", "he_normal",     "he_uniform"};
  return names;
}

Array Initializer::normal(const Shape& shape, double standard_deviation) {
  check(standard_deviation >= 0, "Initializer: the standard deviation must not be negative, got {}",
        standard_deviation);
  return filled<FillNormal>(device_, shape, static_cast<float>(standard_deviation), key_of(seed_, stream_++));
}

Array Initializer::uniform(const Shape& shape, double bound) {
  check(bound >= 0, "Initializer: the bound must not be negative, got {}", bound);
  return filled<FillUniform>(device_, shape, static_cast<float>(bound), key_of(seed_, stream_++));
}

Array Initializer::truncated_normal(const Shape& shape, double standard_deviation, double cut) {
  check(standard_deviation >= 0, "Initializer: the standard deviation must not be negative, got {}",
        standard_deviation);
  check(cut >= 0.1, "Initializer: the cut must be at least 0.1 standard deviations, got {}", cut);
  return filled<FillTruncatedNormal>(device_, shape, static_cast<float>(standard_deviation), static_cast<float>(cut),
                                     key_of(seed_, stream_++));
}

Array Initializer::orthogonal(const Shape& shape, double gain) {
  check(shape.rank() >= 2, "Initializer: orthogonal needs matrices [.., rows, cols], got {}", shape);
  const Array array = orthonormalized(normal(shape, 1).to(Device::cpu()).to(Dtype::f64));
  for (double& value : std::span(array.data<double>(), static_cast<size_t>(array.numel()))) value *= gain;
  return array.to(Dtype::f32).to(device_);
}

Array Initializer::draw(std::string_view name, const Shape& shape, const InitOptions& options) {
  const std::vector<std::string_view>& known = initializer_names();
  check(std::find(known.begin(), known.end(), name) != known.end(), "Initializer: there is no '{}', only {}", name,
        fmt::join(known, ", "));
  const std::string_view kind = canonical(name);
  if (kind == "normal") return normal(shape, options.deviation);
  if (kind == "truncated_normal") return truncated_normal(shape, options.deviation, options.cut);
  if (kind == "uniform") return uniform(shape, options.bound);
  if (kind == "zeros") return constant(shape, 0);
  if (kind == "ones") return constant(shape, 1);
  if (kind == "constant") return constant(shape, options.value);
  if (kind == "orthogonal") return orthogonal(shape, options.gain.value_or(1));
  const Fans fans = fans_of(name, shape, options);
  if (kind.starts_with("xavier")) {
    const double gain = options.gain.value_or(1), fan = fans.in + fans.out;
    return kind == "xavier_normal" ? normal(shape, gain * std::sqrt(2 / fan))
                                   : uniform(shape, gain * std::sqrt(6 / fan));
  }
  const double gain = options.gain.value_or(std::sqrt(2.0)), fan = options.fan == Fan::in ? fans.in : fans.out;
  return kind == "kaiming_normal" ? normal(shape, gain / std::sqrt(fan)) : uniform(shape, gain * std::sqrt(3 / fan));
}

}  // namespace moxie::nn
