// SPDX-License-Identifier: Apache-2.0
// SwiGLU in the finish of the expert FFNs' matmuls, forward and backward, on emulated blocks.
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "cuda/expert_ffn_finish.cuh"
#include "cuda/grouped_gemm_kernel.cuh"
#include "cuda/warpgroup.cuh"
#include "tests/cuda/grouped_gemm_support.h"
#include "tests/device.h"

using namespace moxie;
using namespace moxie::cuda;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The elements of got, rows of `cols` numbers, that are not within bf16's rounding of the expected value (and the one
// below it, for sums that are rounded twice).
int64_t count_far(const Data& got, const std::vector<double>& expected, const std::vector<double>& size) {
  int64_t far = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(got.get(static_cast<int64_t>(i)) - expected[i]);
    if (!(error <= 0x1p-7 * std::abs(expected[i]) + 1e-5 * size[i])) ++far;
  }
  return far;
}

struct FfnCase {
  std::vector<int32_t> load;
  int n = 0, k = 0, blocks = 2;
};

template <class Multiply, int stages> void verify_up(const FfnCase& c) {
  std::mt19937 random(5);
  const std::vector<int32_t> offsets = offsets_of(c.load, 0);
  const int groups = static_cast<int>(c.load.size());
  const int64_t slots = offsets.back(), tokens = slots / 2 + 1, n = c.n, k = c.k;
  const std::vector<int32_t> index = random_rows(slots, tokens, random);
  Data x(Dtype::bf16, tokens * k), w(Dtype::bf16, groups * 2 * n * k), z(Dtype::bf16, slots * 2 * n),
      a(Dtype::bf16, slots * n);
  x.fill(0, tokens, k, k, random);
  w.fill(0, groups * 2 * n, k, k, random);
  using Kernel = GroupedKernel<Multiply, Form::rows, StoreSwiGlu, stages>;
  const Kernel kernel{
      {offsets.data(), groups, 0, c.n, c.k, start<bf16>(x), k, index.data(), start<bf16>(w), k, 2 * n * k, nullptr},
      {start<bf16>(z), start<bf16>(a)}};
  const Data x_rows = gathered(x, index, k), empty_z = z, empty_a = a;
  emulate_all(
      {.blocks = c.blocks, .threads = Kernel::threads, .shared_bytes = Kernel::shared_bytes}, [&] { kernel(); },
      [&] {
        int64_t wrong = 0;
        for (int i = 0; i < groups; ++i) {
          const int64_t first = offsets[static_cast<size_t>(i)];
          wrong += count_wrong(c.load[static_cast<size_t>(i)], 2 * n, k, View{x_rows, first * k, k},
                               View{w, i * 2 * n * k, k, true}, View{z, first * 2 * n, 2 * n}, nullptr);
        }
        CHECK(wrong == 0);
        std::vector<double> expected, size;
        for (int64_t row = 0; row < slots; ++row) {
          for (int64_t j = 0; j < n; ++j) {
            const double gate = z.get(row * 2 * n + j), up = z.get(row * 2 * n + n + j);
            expected.push_back(gate * sigmoid(gate) * up);
            size.push_back(std::abs(expected.back()));
          }
        }
        CHECK(count_far(a, expected, size) == 0);
        z = empty_z;
        a = empty_a;
      });
}

template <class Multiply, int stages> void verify_up_backward(const FfnCase& c) {
  std::mt19937 random(6);
  const std::vector<int32_t> offsets = offsets_of(c.load, 0);
  const int groups = static_cast<int>(c.load.size());
  const int64_t slots = offsets.back(), tokens = slots / 2 + 1, n = c.n, k = c.k;
  const std::vector<int32_t> index = random_rows(slots, tokens, random);
  const int64_t parts = (n + 8 * Multiply::cols8 - 1) / (8 * Multiply::cols8);
  Data dy(Dtype::bf16, tokens * k), w(Dtype::bf16, groups * k * n), z(Dtype::bf16, slots * 2 * n),
      weight(Dtype::f32, slots);
  Data dz(Dtype::bf16, slots * 2 * n), scaled(Dtype::bf16, slots * n), dot(Dtype::f32, parts * slots);
  const Data empty_dz = dz, empty_scaled = scaled, empty_dot = dot;
  dy.fill(0, tokens, k, k, random);
  w.fill(0, groups * k, n, n, random);
  z.fill(0, slots, 2 * n, 2 * n, random);
  weight.fill(0, 1, slots, 0, random);
  std::vector<double> dz_expected(static_cast<size_t>(slots * 2 * n)), dz_size = dz_expected, scaled_expected,
                                                                       dot_expected, dot_size;
  for (int64_t row = 0, group = 0; row < slots; ++row) {
    while (row >= offsets[static_cast<size_t>(group) + 1]) ++group;
    double row_dot = 0, row_size = 0;
    for (int64_t j = 0; j < n; ++j) {
      double da = 0, size = 0;
      for (int64_t p = 0; p < k; ++p) {
        const double product = dy.get(index[static_cast<size_t>(row)] * k + p) * w.get((group * k + p) * n + j);
        da += product;
        size += std::abs(product);
      }
      const double gate = z.get(row * 2 * n + j), up = z.get(row * 2 * n + n + j), s = sigmoid(gate),
                   scale = weight.get(row);
      const auto at = static_cast<size_t>(row * 2 * n + j);
      const double dgate = scale * up * s * (1 + gate * (1 - s)), dup = scale * gate * s, a = gate * s * up;
      dz_expected[at] = da * dgate;
      dz_size[at] = size * std::abs(dgate);
      dz_expected[at + static_cast<size_t>(n)] = da * dup;
      dz_size[at + static_cast<size_t>(n)] = size * std::abs(dup);
      scaled_expected.push_back(scale * a);
      row_dot += da * a;
      row_size += size * std::abs(a);
    }
    dot_expected.push_back(row_dot);
    dot_size.push_back(row_size);
  }
  using Kernel = GroupedKernel<Multiply, Form::rows_backward, StoreSwiGluBackward, stages>;
  const Kernel kernel{
      {offsets.data(), groups, 0, c.n, c.k, start<bf16>(dy), k, index.data(), start<bf16>(w), n, k * n, nullptr},
      {start<bf16>(z), start<float>(weight), start<bf16>(dz), start<bf16>(scaled), start<float>(dot), slots}};
  emulate_all(
      {.blocks = c.blocks, .threads = Kernel::threads, .shared_bytes = Kernel::shared_bytes}, [&] { kernel(); },
      [&] {
        CHECK(count_far(dz, dz_expected, dz_size) == 0);
        CHECK(count_far(scaled, scaled_expected, scaled_expected) == 0);
        int64_t far = 0;
        for (int64_t row = 0; row < slots; ++row) {
          double sum = 0;
          for (int64_t p = 0; p < parts; ++p) sum += dot.get(p * slots + row);
          if (!(std::abs(sum - dot_expected[static_cast<size_t>(row)]) <= 1e-5 * dot_size[static_cast<size_t>(row)]))
            ++far;
        }
        CHECK(far == 0);
        dz = empty_dz;
        scaled = empty_scaled;
        dot = empty_dot;
      });
}

}  // namespace

TEST_CASE("expert FFN kernel: up projection with SwiGLU") {
  verify_up<WarpMultiply<128, 128>, 3>({.load = {0, 40, 1, 130}, .n = 72, .k = 72});
  verify_up<WarpgroupMultiply<128, 128, 1>, 3>({.load = {0, 40, 1, 130}, .n = 72, .k = 72});
  if (testing::only_races) return;
  verify_up<WarpgroupMultiply<128, 256>, 4>({.load = {0, 40, 1, 130}, .n = 136, .k = 72});
}

TEST_CASE("expert FFN kernel: gradients of the up projection and of the weights in the output") {
  verify_up_backward<WarpMultiply<128, 128>, 3>({.load = {0, 40, 1, 130}, .n = 136, .k = 72});
  verify_up_backward<WarpgroupMultiply<128, 128, 1>, 3>({.load = {0, 40, 1, 130}, .n = 136, .k = 72});
  if (testing::only_races) return;
  verify_up_backward<WarpgroupMultiply<128, 256>, 4>({.load = {0, 40, 1, 130}, .n = 136, .k = 72});
}
