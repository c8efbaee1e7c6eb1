// SPDX-License-Identifier: Apache-2.0
#include "core/gemm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/core/gemm_reference.h"
#include "tests/device.h"

using namespace moxie;

namespace {

const std::vector<std::vector<int32_t>> all_loads = {
    {5}, {0, 0, 0}, {0, 90, 0, 1, 33}, {700, 0, 0, 0}, {0, 0, 530}, {1, 2, 3, 4, 5, 6, 7, 8}, {64, 64, 64, 64}};

std::vector<int32_t> offsets_of(const std::vector<int32_t>& load, int32_t first) {
  std::vector<int32_t> offsets = {first};
  for (const int32_t rows : load) offsets.push_back(offsets.back() + rows);
  return offsets;
}

void verify_grouped(GroupedGemm g, const std::vector<int32_t>& load, int64_t n, int64_t k, int64_t padding) {
  std::mt19937 random(13);
  const std::vector<int32_t> offsets = offsets_of(load, 2);
  const int64_t slots = offsets.back() + 3;  // rows before and after all groups are not touched
  g.groups = static_cast<int64_t>(load.size());
  g.offsets = offsets.data();
  g.n = n;
  g.k = k;
  g.lda = k + padding;
  g.ldb = (g.transpose_b ? k : n) + padding;
  g.ldc = n + padding;
  g.stride_b = (g.transpose_b ? n : k) * g.ldb + padding;
  Data a(g.dtype, slots * g.lda), b(g.dtype, g.groups * g.stride_b), c(g.out_dtype, slots * g.ldc);
  a.fill(2 * g.lda, offsets.back() - 2, k, g.lda, random);
  for (int64_t i = 0; i < g.groups; ++i) {
    b.fill(i * g.stride_b, g.transpose_b ? n : k, g.transpose_b ? k : n, g.ldb, random);
  }
  if (g.accumulate) c.fill(2 * g.ldc, offsets.back() - 2, n, g.ldc, random);
  const Data before = c;
  for (const Device device : testing::devices()) {
    CAPTURE(device.name());
    const auto run = [&] {
      c = before;
      run_on(device, g, a, b, c, [](Device where, const GroupedGemm& call) { grouped_gemm(where, call); });
    };
    run();
    int64_t wrong = 0;
    for (int64_t i = 0; i < g.groups; ++i) {
      const int64_t first = offsets[static_cast<size_t>(i)];
      const View old{before, first * g.ldc, g.ldc};
      wrong += count_wrong(load[static_cast<size_t>(i)], n, k, View{a, first * g.lda, g.lda},
                           View{b, i * g.stride_b, g.ldb, g.transpose_b}, View{c, first * g.ldc, g.ldc},
                           g.accumulate ? &old : nullptr, rounding_on(device));
    }
    CHECK(wrong == 0);
    CHECK(count_touched(c, 0, slots, n, g.ldc) == 0);
    int64_t outside = 0;
    for (int64_t j = 0; j < n; ++j) {
      for (const int64_t row : {int64_t{0}, int64_t{1}, slots - 3, slots - 1}) {
        outside += std::isnan(c.get(row * g.ldc + j)) ? 0 : 1;
      }
    }
    CHECK(outside == 0);
    if (device.is_cuda()) {
      const Data first = c;
      run();
      CHECK(c.same_bits(first));
    }
  }
}

void verify_grouped_weight(GroupedGemmWeight g, const std::vector<int32_t>& load, int64_t m, int64_t n,
                           int64_t padding) {
  std::mt19937 random(17);
  const std::vector<int32_t> offsets = offsets_of(load, 1);
  const int64_t slots = offsets.back() + 2;
  g.groups = static_cast<int64_t>(load.size());
  g.offsets = offsets.data();
  g.m = m;
  g.n = n;
  g.lda = m + padding;
  g.ldb = n + padding;
  g.ldc = n + padding;
  g.stride_c = m * g.ldc + padding;
  Data a(g.dtype, slots * g.lda), b(g.dtype, slots * g.ldb), c(g.out_dtype, g.groups * g.stride_c);
  a.fill(g.lda, offsets.back() - 1, m, g.lda, random);
  b.fill(g.ldb, offsets.back() - 1, n, g.ldb, random);
  if (g.accumulate) {
    for (int64_t i = 0; i < g.groups; ++i) c.fill(i * g.stride_c, m, n, g.ldc, random);
  }
  const Data before = c;
  for (const Device device : testing::devices()) {
    CAPTURE(device.name());
    const auto run = [&] {
      c = before;
      run_on(device, g, a, b, c, [](Device where, const GroupedGemmWeight& call) { grouped_gemm_weight(where, call); });
    };
    run();
    int64_t wrong = 0, touched = 0;
    for (int64_t i = 0; i < g.groups; ++i) {
      const int64_t first = offsets[static_cast<size_t>(i)];
      const View old{before, i * g.stride_c, g.ldc};
      wrong += count_wrong(m, n, load[static_cast<size_t>(i)], View{a, first * g.lda, g.lda, true},
                           View{b, first * g.ldb, g.ldb}, View{c, i * g.stride_c, g.ldc}, g.accumulate ? &old : nullptr,
                           rounding_on(device));
      touched += count_touched(c, i * g.stride_c, m, n, g.ldc);
    }
    CHECK(wrong == 0);
    CHECK(touched == 0);
    if (device.is_cuda()) {
      const Data first = c;
      run();
      CHECK(c.same_bits(first));
    }
  }
}

}  // namespace

TEST_CASE("grouped_gemm: empty groups, one group with everything, uneven groups") {
  for (const Types types : all_types) {
    for (const auto& load : all_loads) {
      for (int form = 0; form < 4; ++form) {
        GroupedGemm g{.dtype = types.dtype,
                      .out_dtype = types.out,
                      .transpose_b = (form & 1) != 0,
                      .accumulate = (form & 2) != 0};
        CAPTURE(std::string(name_of(types.dtype)));
        CAPTURE(std::string(name_of(types.out)));
        CAPTURE(form);
        verify_grouped(g, load, 31, 17, 3);
        verify_grouped(g, load, 32, 64, 0);
        verify_grouped(g, load, 1, 5, 1);
      }
    }
    verify_grouped({.dtype = types.dtype, .out_dtype = types.out, .transpose_b = true}, {40, 0, 3}, 1100, 20, 0);
    verify_grouped({.dtype = types.dtype, .out_dtype = types.out}, {40, 0, 3}, 7, 0, 2);
    // what a GPU's tensor cores need: everything in multiples of 8
    for (int form = 0; form < 4; ++form) {
      verify_grouped(
          {.dtype = types.dtype, .out_dtype = types.out, .transpose_b = (form & 1) != 0, .accumulate = (form & 2) != 0},
          {0, 150, 0, 1, 33}, 264, 136, 8);
    }
  }
}

TEST_CASE("grouped_gemm_weight: empty groups, one group with everything, uneven groups") {
  for (const Types types : all_types) {
    for (const auto& load : all_loads) {
      for (const bool accumulate : {false, true}) {
        GroupedGemmWeight g{.dtype = types.dtype, .out_dtype = types.out, .accumulate = accumulate};
        CAPTURE(std::string(name_of(types.dtype)));
        CAPTURE(std::string(name_of(types.out)));
        CAPTURE(accumulate);
        verify_grouped_weight(g, load, 31, 17, 3);
        verify_grouped_weight(g, load, 64, 32, 0);
        verify_grouped_weight(g, load, 1, 3, 1);
      }
    }
    verify_grouped_weight({.dtype = types.dtype, .out_dtype = types.out}, {0, 6000, 40}, 24, 30, 0);
    verify_grouped_weight({.dtype = types.dtype, .out_dtype = types.out}, {33, 2}, 270, 530, 0);
    for (const bool accumulate : {false, true}) {
      verify_grouped_weight({.dtype = types.dtype, .out_dtype = types.out, .accumulate = accumulate},
                            {0, 150, 0, 1, 33}, 136, 264, 8);
    }
  }
}

TEST_CASE("grouped_gemm: results are bit-equal for any number of threads") {
  const std::vector<int32_t> offsets = offsets_of({900, 0, 30, 1500, 7, 400}, 0);
  const int64_t slots = offsets.back(), n = 192, k = 130, groups = 6;
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    CAPTURE(std::string(name_of(dtype)));
    std::mt19937 random(19);
    Data a(dtype, slots * k), b(dtype, groups * n * k), dy(dtype, slots * n);
    a.fill(0, 1, slots * k, 0, random);
    b.fill(0, 1, groups * n * k, 0, random);
    dy.fill(0, 1, slots * n, 0, random);
    for (const bool transpose_b : {false, true}) {
      GroupedGemm g{.dtype = dtype, .out_dtype = dtype, .transpose_b = transpose_b, .groups = groups, .n = n, .k = k};
      g.offsets = offsets.data();
      g.a = a.data();
      g.lda = k;
      g.b = b.data();
      g.ldb = transpose_b ? k : n;
      g.stride_b = n * k;
      g.ldc = n;
      CHECK(same_for_one_and_two_threads([&] {
        Data c(dtype, slots * n);
        GroupedGemm call = g;
        call.c = c.data();
        grouped_gemm(Device::cpu(), call);
        return c;
      }));
    }
    GroupedGemmWeight g{.dtype = dtype, .out_dtype = dtype, .groups = groups, .m = n, .n = k};
    g.offsets = offsets.data();
    g.a = dy.data();
    g.lda = n;
    g.b = a.data();
    g.ldb = k;
    g.ldc = k;
    g.stride_c = n * k;
    CHECK(same_for_one_and_two_threads([&] {
      Data c(dtype, groups * n * k);
      GroupedGemmWeight call = g;
      call.c = c.data();
      grouped_gemm_weight(Device::cpu(), call);
      return c;
    }));
  }
}

TEST_CASE("grouped_gemm: contradictions are errors") {
  float x[64] = {};
  const int32_t down[] = {0, 4, 2};
  GroupedGemm g{.groups = 2, .n = 2, .k = 2};
  g.offsets = down;
  g.a = g.b = x;
  g.c = x + 32;
  g.lda = g.ldb = g.ldc = 2;
  g.stride_b = 4;
  CHECK_THROWS_WITH_AS(grouped_gemm(Device::cpu(), g), "grouped_gemm: offsets must ascend, got 4 then 2 for group 1",
                       std::logic_error);
  GroupedGemmWeight w{.groups = 2, .m = 2, .n = 2};
  w.offsets = down;
  w.a = w.b = x;
  w.c = x + 32;
  w.lda = w.ldb = w.ldc = 2;
  CHECK_THROWS_WITH_AS(grouped_gemm_weight(Device::cpu(), w), "grouped_gemm_weight: groups must not share C",
                       std::logic_error);
  w.stride_c = 4;
  CHECK_THROWS_AS(grouped_gemm_weight(Device::cpu(), w), std::logic_error);
}
