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

void check_near(const Tensor& got, const Tensor& wanted, double tolerance) {
  const std::vector<double> a = got.to_vector<double>(), b = wanted.to_vector<double>();
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]) / (1 + std::abs(b[i])));
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
      check_near(cross_entropy(gpu, target.to(Device::cuda())), cross_entropy(cpu, target), 1e-5);
      const double rounding = dtype == Dtype::bf16 ? 0.01 : 1e-4;  // of sums, most of which cancels
      check_near(sum(gpu, 1), sum(cpu, 1), rounding);
      check_near(sum(gpu, 0), sum(cpu, 0), rounding);
      check_near(sum(gpu), sum(cpu), rounding);
      const Array turned = transpose(gpu, 0, 1).value().to(Device::cpu()), wanted = transpose(cpu, 0, 1).value();
      REQUIRE(turned.shape() == wanted.shape());
      CHECK(std::memcmp(turned.raw(), wanted.raw(), static_cast<size_t>(wanted.bytes())) == 0);
    }
}
