// SPDX-License-Identifier: Apache-2.0
// The tensor-core kernels of the grouped matmul, their very source, on emulated blocks.
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "cuda/expert_ffn_finish.cuh"
#include "cuda/grouped_gemm_kernel.cuh"
#include "cuda/warpgroup.cuh"
#include "tests/core/gemm_reference.h"
#include "tests/cuda/block_emulator.h"

using namespace moxie;
using namespace moxie::cuda;

namespace {

struct Case {
  std::vector<int32_t> load;
  int m = 0, n = 0, k = 0;
  int padding = 0;      // of rows, in elements; a multiple of 8
  bool gather = false;  // A's rows, and B's too for weight
  int blocks = 2;
};

std::vector<int32_t> offsets_of(const std::vector<int32_t>& load) {
  std::vector<int32_t> offsets = {2};
  for (const int32_t rows : load) offsets.push_back(offsets.back() + rows);
  return offsets;
}

// Rows of a matrix whose row i is row index[i] of the given one.
Data gathered(const Data& from, const std::vector<int32_t>& index, int64_t ld) {
  Data to(from.dtype, static_cast<int64_t>(index.size()) * ld);
  for (size_t i = 0; i < index.size(); ++i) {
    for (int64_t j = 0; j < ld; ++j) to.set(static_cast<int64_t>(i) * ld + j, from.get(index[i] * ld + j));
  }
  return to;
}

template <class T> T* start(Data& data) { return static_cast<T*>(data.data()); }

template <class Multiply, Form form, class Out, bool accumulate, int stages> void verify(const Case& c) {
  CAPTURE(c.n);
  CAPTURE(c.k);
  constexpr bool weight = form == Form::weight;
  std::mt19937 random(11);
  const std::vector<int32_t> offsets = offsets_of(c.load);
  const int groups = static_cast<int>(c.load.size());
  const int64_t slots = offsets.back() + 3, tokens = c.gather ? slots / 2 + 1 : slots;
  std::vector<int32_t> index;
  for (int64_t i = 0; i < slots; ++i) {
    index.push_back(
        static_cast<int32_t>(c.gather ? static_cast<int64_t>(random() % static_cast<unsigned>(tokens)) : i));
  }
  const int64_t cols_a = weight ? c.m : c.k, rows_b = form == Form::rows ? c.n : c.k,
                cols_b = form == Form::rows ? c.k : c.n;
  const int64_t lda = cols_a + c.padding, ldb = cols_b + c.padding, ldc = c.n + c.padding;
  const int64_t stride_b = weight ? 0 : rows_b * ldb, stride_c = weight ? c.m * ldc : 0;
  Data a(Dtype::bf16, tokens * lda), b(Dtype::bf16, weight ? tokens * ldb : groups * stride_b);
  Data out(dtype_of<Out>, weight ? groups * stride_c : slots * ldc);
  a.fill(0, tokens, cols_a, lda, random);
  b.fill(0, weight ? tokens : groups * rows_b, cols_b, ldb, random);
  if (accumulate) out.fill(0, weight ? groups * c.m : slots, c.n, ldc, random);
  const Data before = out, a_rows = gathered(a, index, lda), b_rows = weight ? gathered(b, index, ldb) : b;
  const int32_t* gather = c.gather ? index.data() : nullptr;
  using Finish = StoreSums<Out, accumulate>;
  using Kernel = GroupedKernel<Multiply, form, Finish, stages>;
  const Kernel kernel{{offsets.data(), groups, c.m, c.n, c.k, start<bf16>(a), lda, gather, start<bf16>(b), ldb,
                       stride_b, weight ? gather : nullptr},
                      Finish{start<Out>(out), ldc, stride_c}};
  const Emulation emulation{.blocks = c.blocks, .threads = Kernel::threads, .shared_bytes = Kernel::shared_bytes};
  const auto check_result = [&] {
    int64_t wrong = 0, touched = 0;
    for (int i = 0; i < groups; ++i) {
      const int64_t first = offsets[static_cast<size_t>(i)], load = c.load[static_cast<size_t>(i)];
      const int64_t at = weight ? i * stride_c : first * ldc, rows = weight ? c.m : load;
      const View old{before, at, ldc};
      wrong += count_wrong(rows, c.n, weight ? load : c.k, View{a_rows, first * lda, lda, weight},
                           View{b_rows, weight ? first * ldb : i * stride_b, ldb, form == Form::rows},
                           View{out, at, ldc}, accumulate ? &old : nullptr);
      touched += count_touched(out, at, rows, c.n, ldc);
    }
    CHECK(wrong == 0);
    CHECK(touched == 0);
    if (!weight && !accumulate) {
      for (const int64_t row : {int64_t{0}, int64_t{1}, slots - 3, slots - 1}) CHECK(std::isnan(out.get(row * ldc)));
    }
    out = before;
  };
  emulate_all(
      emulation, [&] { kernel(); }, check_result);
}

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
  std::vector<int32_t> offsets = {0};
  for (const int32_t rows : c.load) offsets.push_back(offsets.back() + rows);
  const int groups = static_cast<int>(c.load.size());
  const int64_t slots = offsets.back(), tokens = slots / 2 + 1, n = c.n, k = c.k;
  std::vector<int32_t> index;
  for (int64_t i = 0; i < slots; ++i) index.push_back(static_cast<int32_t>(random() % static_cast<unsigned>(tokens)));
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
  std::vector<int32_t> offsets = {0};
  for (const int32_t rows : c.load) offsets.push_back(offsets.back() + rows);
  const int groups = static_cast<int>(c.load.size());
  const int64_t slots = offsets.back(), tokens = slots / 2 + 1, n = c.n, k = c.k;
  std::vector<int32_t> index;
  for (int64_t i = 0; i < slots; ++i) index.push_back(static_cast<int32_t>(random() % static_cast<unsigned>(tokens)));
  const int64_t parts = StoreSwiGluBackward::parts_of<Multiply>(n);
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

using Warps = WarpMultiply<128, 128>;

}  // namespace

TEST_CASE("grouped kernel: rows times weights") {
  verify<Warps, Form::rows, bf16, false, 3>({.load = {1}, .n = 8, .k = 8, .blocks = 1});
  verify<Warps, Form::rows, bf16, false, 3>({.load = {0, 130, 0, 1, 20}, .n = 136, .k = 72, .padding = 8});
  verify<Warps, Form::rows, float, true, 3>({.load = {40, 7}, .n = 24, .k = 200, .gather = true, .blocks = 1});
}
TEST_CASE("grouped kernel: rows backward") {
  verify<Warps, Form::rows_backward, bf16, true, 3>({.load = {0, 130, 0, 1, 20}, .n = 136, .k = 72, .padding = 8});
}
TEST_CASE("grouped kernel: weight") {
  verify<Warps, Form::weight, float, true, 3>(
      {.load = {0, 130, 0, 1, 20}, .m = 136, .n = 72, .padding = 8, .gather = true});
  verify<Warps, Form::weight, bf16, false, 3>({.load = {0, 200}, .m = 8, .n = 136});
}
TEST_CASE("grouped kernel: up projection with SwiGLU") {
  verify_up<Warps, 3>({.load = {0, 40, 1, 130}, .n = 72, .k = 72});
  verify_up<WarpgroupMultiply<128, 128>, 3>({.load = {0, 40, 1, 130}, .n = 72, .k = 72});
  verify_up<WarpgroupMultiply<128, 256>, 4>({.load = {0, 40, 1, 130}, .n = 72, .k = 72});
}

TEST_CASE("grouped kernel: gradient of the up projection") {
  verify_up_backward<Warps, 3>({.load = {0, 40, 1, 130}, .n = 136, .k = 72});
  verify_up_backward<WarpgroupMultiply<128, 128>, 3>({.load = {0, 40, 1, 130}, .n = 136, .k = 72});
  verify_up_backward<WarpgroupMultiply<128, 256>, 4>({.load = {0, 40, 1, 130}, .n = 136, .k = 72});
}

TEST_CASE("grouped kernel: warpgroups") {
  using Groups = WarpgroupMultiply<128, 128>;
  using Wide = WarpgroupMultiply<128, 256>;
  verify<Groups, Form::rows, bf16, false, 3>({.load = {0, 130, 0, 1, 20}, .n = 136, .k = 200, .padding = 8});
  verify<Groups, Form::rows_backward, bf16, true, 3>({.load = {0, 130, 0, 1, 20}, .n = 136, .k = 72, .padding = 8});
  verify<Groups, Form::weight, float, true, 3>(
      {.load = {0, 230, 0, 1, 20}, .m = 136, .n = 72, .padding = 8, .gather = true});
  verify<Wide, Form::rows, bf16, false, 4>({.load = {0, 130, 0, 1, 20}, .n = 136, .k = 72, .padding = 8});
  verify<Wide, Form::rows_backward, bf16, false, 4>({.load = {0, 130, 0, 1, 20}, .n = 264, .k = 72, .padding = 8});
  verify<Wide, Form::weight, float, false, 4>(
      {.load = {0, 130, 0, 1, 20}, .m = 136, .n = 264, .padding = 8, .gather = true});
}
