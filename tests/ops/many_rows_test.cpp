// SPDX-License-Identifier: Apache-2.0
// Sizes from which a GPU takes kernels of its own: rows enough for a warp each, columns and lines in packs.
#include <cmath>
#include <cstring>

#include "autograd/ops.h"
#include "tests/device.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

Tensor random_tensor(const Shape& shape, Dtype dtype, Device device) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = 3 * normal_at({.seed = 4}, i);
  return Tensor(Array::from(values, shape).to(dtype).to(device));
}

// `got` against `wanted`: but for a rounding of the result, each element is right relative to that of `size`.
void check_near(const Tensor& got, const Tensor& wanted, const Tensor& size, double tolerance) {
  const std::vector<double> a = got.to_vector<double>(), b = wanted.to_vector<double>(), s = size.to_vector<double>();
  REQUIRE(a.size() == b.size());
  const double rounding = wanted.dtype() == Dtype::bf16 ? 0x1.01p-7 : 0;  // both are rounded
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, (std::abs(a[i] - b[i]) - rounding * std::abs(b[i])) / s[i]);
  CHECK(worst <= tolerance);
}

}  // namespace

TEST_CASE("many rows and packs on a GPU are the CPU's") {
  MOXIE_NEEDS_CUDA();
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    for (const Shape& shape : {Shape{1500, 264}, Shape{1024, 8}, Shape{2050, 1028}, Shape{1030, 63}}) {
      INFO(fmt::format("{} {}", name_of(dtype), shape));
      const Tensor cpu = random_tensor(shape, dtype, Device::cpu()), gpu(cpu.value().to(Device::cuda()));
      std::vector<int32_t> targets;
      for (int64_t i = 0; i < shape[0]; ++i) targets.push_back(i % 5 == 2 ? -100 : static_cast<int32_t>(i % shape[1]));
      const Array target = Array::from(targets, {shape[0]});
      const Tensor loss = cross_entropy(cpu, target);
      check_near(cross_entropy(gpu, target.to(Device::cuda())), loss, loss, 1e-5);
      // what a sum may lose is relative to its terms, which cancel here, not to itself
      const Tensor sizes = abs(cpu);
      check_near(sum(gpu, 1), sum(cpu, 1), sum(sizes, 1), 1e-6);
      check_near(sum(gpu, 0), sum(cpu, 0), sum(sizes, 0), 1e-6);
      check_near(sum(gpu), sum(cpu), sum(sizes), 1e-6);
      const Array turned = transpose(gpu, 0, 1).value().to(Device::cpu()), wanted = transpose(cpu, 0, 1).value();
      REQUIRE(turned.shape() == wanted.shape());
      CHECK(std::memcmp(turned.raw(), wanted.raw(), static_cast<size_t>(wanted.bytes())) == 0);
    }
}
