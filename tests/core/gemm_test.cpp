// SPDX-License-Identifier: Apache-2.0
#include "core/gemm.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/array.h"
#include "core/gemm_block.h"
#include "tests/core/gemm_reference.h"
#include "tests/device.h"

using namespace moxie;

namespace {

std::string describe(const Gemm& g) {
  return std::string(name_of(g.dtype)) + " -> " + name_of(g.out_dtype) + (g.transpose_a ? " T" : " N") +
         (g.transpose_b ? "T" : "N") + (g.accumulate ? " +=" : " =") + " m " + std::to_string(g.m) + " n " +
         std::to_string(g.n) + " k " + std::to_string(g.k) + " batch " + std::to_string(g.batch);
}

using Multiply = void (*)(Device, const Gemm&);

// Runs one description (pointers, leading dimensions and strides are filled in) and compares every member of the batch,
// on every device, or, where `own` is given instead of gemm(), on the CPU.
void verify(Gemm g, int64_t padding, bool share_a = false, bool share_b = false, Multiply own = nullptr) {
  CAPTURE(describe(g));
  std::mt19937 random(7);
  const int64_t rows_a = g.transpose_a ? g.k : g.m, cols_a = g.transpose_a ? g.m : g.k;
  const int64_t rows_b = g.transpose_b ? g.n : g.k, cols_b = g.transpose_b ? g.k : g.n;
  g.lda = cols_a + padding;
  g.ldb = cols_b + padding;
  g.ldc = g.n + padding;
  g.stride_a = share_a ? 0 : rows_a * g.lda + padding;
  g.stride_b = share_b ? 0 : rows_b * g.ldb + padding;
  g.stride_c = g.m * g.ldc + padding;
  Data a(g.dtype, g.batch * rows_a * g.lda + g.batch * padding + 1);
  Data b(g.dtype, g.batch * rows_b * g.ldb + g.batch * padding + 1);
  Data c(g.out_dtype, g.batch * g.stride_c + 1);
  for (int64_t i = 0; i < g.batch; ++i) {
    if (i == 0 || !share_a) a.fill(i * g.stride_a, rows_a, cols_a, g.lda, random);
    if (i == 0 || !share_b) b.fill(i * g.stride_b, rows_b, cols_b, g.ldb, random);
    if (g.accumulate) c.fill(i * g.stride_c, g.m, g.n, g.ldc, random);
  }
  const Data before = c;
  for (const Device device : testing::devices()) {
    CAPTURE(device.name());
    if (own != nullptr && !device.is_cpu()) continue;
    c = before;
    run_on(device, g, a, b, c, own != nullptr ? own : gemm);
    int64_t wrong = 0, touched = 0;
    for (int64_t i = 0; i < g.batch; ++i) {
      const View old{before, i * g.stride_c, g.ldc};
      wrong += count_wrong(g.m, g.n, g.k, View{a, i * g.stride_a, g.lda, g.transpose_a},
                           View{b, i * g.stride_b, g.ldb, g.transpose_b}, View{c, i * g.stride_c, g.ldc},
                           g.accumulate ? &old : nullptr, rounding_on(device));
      touched += count_touched(c, i * g.stride_c, g.m, g.n, g.ldc);
    }
    CHECK(wrong == 0);
    CHECK(touched == 0);
    if (device.is_cuda()) {
      const Data first = c;
      c = before;
      run_on(device, g, a, b, c, [](Device where, const Gemm& call) { gemm(where, call); });
      CHECK(c.same_bits(first));
    }
  }
}

template <class F> void for_all_forms(F f) {
  for (const Types types : all_types) {
    if (testing::small_only() && types.dtype != Dtype::f32) continue;
    for (int form = 0; form < 8; ++form) {
      f(Gemm{.dtype = types.dtype,
             .out_dtype = types.out,
             .transpose_a = (form & 1) != 0,
             .transpose_b = (form & 2) != 0,
             .accumulate = (form & 4) != 0});
    }
  }
}

Gemm sized(Gemm g, int64_t m, int64_t n, int64_t k, int64_t batch = 1) {
  g.m = m;
  g.n = n;
  g.k = k;
  g.batch = batch;
  return g;
}
}  // namespace

TEST_CASE("gemm: small shapes, every form and dtype, with and without padding") {
  const int64_t sizes[] = {1, 2, 7, 31, 32, 33};
  for_all_forms([&](const Gemm& form) {
    for (const int64_t m : sizes) {
      for (const int64_t n : sizes) {
        for (const int64_t k : sizes) verify(sized(form, m, n, k), (m + n + k) % 2 == 0 ? 0 : 5);
      }
    }
  });
}

TEST_CASE("gemm: shapes around the blocks") {
  for_all_forms([&](const Gemm& form) {
    verify(sized(form, 127, 130, 129), 3);
    verify(sized(form, 128, 128, 128), 0);
    verify(sized(form, 513, 40, 257), 1);
    verify(sized(form, 40, 513, 130), 0);
    verify(sized(form, 33, 30, 1537), 2);
    verify(sized(form, 300, 8, 64), 0);
    verify(sized(form, 1, 1030, 65), 4);
    verify(sized(form, 530, 1, 70), 0);
    verify(sized(form, 1, 1, 2500), 0);
  });
}

TEST_CASE("gemm: blocks of rows that share B, brought into another form once") {
  for (int form = 0; form < 8; ++form) {
    const Gemm g{.transpose_a = (form & 1) != 0, .transpose_b = (form & 2) != 0, .accumulate = (form & 4) != 0};
    verify(sized(g, 300, 530, 70), 0);
    verify(sized(g, 290, 1090, 129), 3);
    verify(sized(g, 513, 600, 300), 5);
  }
}

TEST_CASE("moxie's own kernel in f32, which oneDNN takes the place of where products are large") {
  if (testing::only_races) return;  // it runs on one thread
  const Multiply own = [](Device, const Gemm& g) { gemm_detail::multiply_own_f32(g); };
  for (int form = 0; form < 8; ++form) {
    const Gemm g{.transpose_a = (form & 1) != 0, .transpose_b = (form & 2) != 0, .accumulate = (form & 4) != 0};
    for (const int64_t m : {1, 8, 10, 11, 12, 13, 14, 15, 37})
      for (const int64_t n : {1, 16, 47, 48, 49, 100})
        for (const int64_t k : {1, 5, 256, 259}) verify(sized(g, m, n, k), (m + n + k) % 2 * 3, false, false, own);
    verify(sized(g, 96, 530, 259), 0, false, false, own);
    verify(sized(g, 130, 1100, 300), 1, false, false, own);
  }
}

TEST_CASE("gemm: long k in every form") {
  for_all_forms([&](const Gemm& form) {
    verify(sized(form, 64, 48, 4100), 0);
    verify(sized(form, 17, 9, 8192), 3);
    verify(sized(form, 70, 65, 3 * 1024 + 5), 1);  // cut into 3 parts, and 2 products over
  });
  // Parts whose C has several blocks.
  verify(sized({.transpose_a = true}, 270, 290, 2 * 1024 + 3), 2);
}

TEST_CASE("gemm: batches, also with an operand shared by all members") {
  for_all_forms([&](const Gemm& form) {
    verify(sized(form, 9, 17, 12, 5), 3);
    verify(sized(form, 64, 64, 32, 7), 0);
    verify(sized(form, 33, 20, 31, 4), 2, true, false);
    verify(sized(form, 33, 20, 31, 4), 2, false, true);
    verify(sized(form, 70, 33, 130, 3), 0, true, true);
  });
}

TEST_CASE("gemm: a bias is added to every row and rounded once") {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    for (int form = 0; form < 4; ++form) {
      for (const auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                                   {3, 5, 0},
                                   {31, 33, 32},
                                   {33, 8, 64},
                                   {300, 70, 257},
                                   {64, 513, 16},
                                   {64, 48, 4100},
                                   {128, 256, 64}}) {
        for (const int64_t padding : {0, 3}) {
          Gemm g{.dtype = dtype, .out_dtype = dtype, .transpose_a = (form & 1) != 0, .transpose_b = (form & 2) != 0};
          g = sized(g, m, n, k);
          CAPTURE(describe(g));
          std::mt19937 random(13);
          g.lda = (g.transpose_a ? m : k) + padding;
          g.ldb = (g.transpose_b ? k : n) + padding;
          g.ldc = n + padding;
          Data a(dtype, (g.transpose_a ? k : m) * g.lda + 1), b(dtype, (g.transpose_b ? n : k) * g.ldb + 1);
          Data c(dtype, m * g.ldc + 1), bias(dtype, n), rows(dtype, m * g.ldc + 1);
          a.fill(0, g.transpose_a ? k : m, g.transpose_a ? m : k, g.lda, random);
          b.fill(0, g.transpose_b ? n : k, g.transpose_b ? k : n, g.ldb, random);
          bias.fill(0, 1, n, n, random);
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t j = 0; j < n; ++j) rows.set(i * g.ldc + j, bias.get(j));
          }
          std::vector<double> values;
          for (int64_t j = 0; j < n; ++j) values.push_back(bias.get(j));
          const View expected{rows, 0, g.ldc};
          for (const Device device : testing::devices()) {
            CAPTURE(device.name());
            c = Data(dtype, m * g.ldc + 1);
            run_on(device, g, a, b, c, [&](Device where, Gemm call) {
              const Array there = Array::from(values, {n}).to(dtype).to(where);
              call.bias = there.raw();
              gemm(where, call);
            });
            CHECK(count_wrong(m, n, k, View{a, 0, g.lda, g.transpose_a}, View{b, 0, g.ldb, g.transpose_b},
                              View{c, 0, g.ldc}, &expected, rounding_on(device)) == 0);
            CHECK(count_touched(c, 0, m, n, g.ldc) == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("gemm: heads interleaved in one matrix") {
  // scores[h] = q[:, h] k[:, h]^T with q, k [tokens, heads * width], and C [tokens, heads * tokens]
  const int64_t tokens = 37, heads = 3, width = 16;
  std::mt19937 random(3);
  Data q(Dtype::f32, tokens * heads * width), k(Dtype::f32, tokens * heads * width),
      c(Dtype::f32, tokens * heads * tokens);
  q.fill(0, tokens, heads * width, heads * width, random);
  k.fill(0, tokens, heads * width, heads * width, random);
  Gemm g{.transpose_b = true, .m = tokens, .n = tokens, .k = width, .batch = heads};
  g.a = q.data();
  g.b = k.data();
  g.c = c.data();
  g.lda = g.ldb = heads * width;
  g.stride_a = g.stride_b = width;
  g.ldc = heads * tokens;
  g.stride_c = tokens;
  gemm(Device::cpu(), g);
  for (int64_t h = 0; h < heads; ++h) {
    CHECK(count_wrong(tokens, tokens, width, View{q, h * width, g.lda}, View{k, h * width, g.ldb, true},
                      View{c, h * tokens, g.ldc}, nullptr) == 0);
  }
}

TEST_CASE("gemm: empty sizes") {
  for (const Types types : all_types) {
    for (const bool accumulate : {false, true}) {
      Gemm g{
          .dtype = types.dtype, .out_dtype = types.out, .accumulate = accumulate, .m = 5, .n = 3, .k = 0, .batch = 2};
      Data c(types.out, 40);
      c.set(0, 4.0);
      const Data before = c;
      g.a = g.b = nullptr;
      g.lda = 0;
      g.ldb = 3;
      g.c = c.data();
      g.ldc = 4;
      g.stride_c = 20;
      Gemm no_rows = g, no_cols = g, no_batch = g;
      no_rows.m = no_cols.n = no_batch.batch = 0;
      gemm(Device::cpu(), no_rows);
      gemm(Device::cpu(), no_cols);
      gemm(Device::cpu(), no_batch);
      CHECK(c.same_bits(before));
      gemm(Device::cpu(), g);
      if (accumulate) {
        CHECK(c.same_bits(before));
      } else {
        int64_t zeros = 0, poison = 0;
        for (int64_t i = 0; i < 40; ++i) {
          zeros += c.get(i) == 0.0 ? 1 : 0;
          poison += std::isnan(c.get(i)) ? 1 : 0;
        }
        CHECK(zeros == 2 * 5 * 3);
        CHECK(poison == 40 - 30);
      }
    }
  }
}

TEST_CASE("gemm: NaN and Inf of the operands reach C, and only the elements they belong to") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  for_all_forms([&](Gemm g) {
    CAPTURE(describe(g));
    g = sized(g, 67, 71, 75);
    std::mt19937 random(5);
    Data a(g.dtype, g.m * g.k), b(g.dtype, g.k * g.n), c(g.out_dtype, g.m * g.n);
    a.fill(0, 1, g.m * g.k, 0, random);
    b.fill(0, 1, g.k * g.n, 0, random);
    c.fill(0, 1, g.m * g.n, 0, random);
    g.lda = g.transpose_a ? g.m : g.k;
    g.ldb = g.transpose_b ? g.k : g.n;
    g.ldc = g.n;
    const auto at_a = [&](int64_t i, int64_t p) { return g.transpose_a ? p * g.lda + i : i * g.lda + p; };
    const auto at_b = [&](int64_t p, int64_t j) { return g.transpose_b ? j * g.ldb + p : p * g.ldb + j; };
    a.set(at_a(3, 7), nan);   // row 3 is NaN
    a.set(at_a(5, 40), inf);  // row 5 is Inf, with the sign of b
    b.set(at_b(40, 2), 0.0);  // Inf * 0 at (5, 2)
    b.set(at_b(44, 20), -inf);
    g.a = a.data();
    g.b = b.data();
    g.c = c.data();
    gemm(Device::cpu(), g);
    int64_t wrong = 0;
    for (int64_t i = 0; i < g.m; ++i) {
      for (int64_t j = 0; j < g.n; ++j) {
        double expected = 0;
        for (int64_t p = 0; p < g.k; ++p) expected += a.get(at_a(i, p)) * b.get(at_b(p, j));
        const double value = c.get(i * g.ldc + j);
        const bool same = std::isnan(expected)   ? std::isnan(value)
                          : std::isinf(expected) ? value == expected
                                                 : std::isfinite(value);
        wrong += same ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
  });
}

TEST_CASE("gemm: results are bit-equal for any number of threads, also inside a parallel loop") {
  struct Shape {
    int64_t m, n, k, batch;
  };
  const Shape shapes[] = {{700, 530, 300, 1}, {8, 2000, 900, 1}, {256, 192, 5000, 1}, {3000, 8, 64, 1},
                          {64, 64, 32, 40},   {1, 4000, 600, 1}, {100, 100, 100, 1},  {30, 20, 9000, 2}};
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    for (const Shape& shape : shapes) {
      std::mt19937 random(11);
      Data a(dtype, shape.batch * shape.m * shape.k), b(dtype, shape.k * shape.n);
      a.fill(0, 1, shape.batch * shape.m * shape.k, 0, random);
      b.fill(0, 1, shape.k * shape.n, 0, random);
      for (int form = 0; form < 4; ++form) {
        Gemm g{.dtype = dtype, .out_dtype = dtype, .transpose_a = (form & 1) != 0, .transpose_b = (form & 2) != 0};
        g = sized(g, shape.m, shape.n, shape.k, shape.batch);
        CAPTURE(describe(g));
        g.a = a.data();
        g.b = b.data();
        g.lda = g.transpose_a ? g.m : g.k;
        g.ldb = g.transpose_b ? g.k : g.n;
        g.stride_a = g.m * g.k;
        g.ldc = g.n;
        g.stride_c = g.m * g.n;
        const auto plain = [&] {
          Data c(dtype, g.batch * g.m * g.n);
          Gemm call = g;
          call.c = c.data();
          gemm(Device::cpu(), call);
          return c;
        };
        CHECK(same_for_one_and_two_threads(plain));
        const Data expected = plain();
        std::vector<Data> inside(3, Data(dtype, g.batch * g.m * g.n));
        parallel_for(3, true, [&](int64_t i) {
          Gemm call = g;
          call.c = inside[static_cast<size_t>(i)].data();
          gemm(Device::cpu(), call);
        });
        for (const Data& c : inside) CHECK(c.same_bits(expected));
        Data elsewhere(dtype, 0);
        std::thread([&] { elsewhere = plain(); }).join();
        CHECK(elsewhere.same_bits(expected));
      }
    }
  }
}

TEST_CASE("gemm: contradictions are errors") {
  float x[16] = {};
  Gemm g{.m = 2, .n = 2, .k = 2};
  g.a = g.b = x;
  g.c = x + 8;
  g.lda = g.ldb = g.ldc = 2;
  gemm(Device::cpu(), g);
  Gemm bad = g;
  bad.lda = 1;
  CHECK_THROWS_WITH_AS(gemm(Device::cpu(), bad), "gemm: the leading dimension of A is below its row, 1 < 2",
                       std::logic_error);
  bad = g;
  bad.ldc = 1;
  CHECK_THROWS_AS(gemm(Device::cpu(), bad), std::logic_error);
  bad = g;
  bad.out_dtype = Dtype::bf16;
  CHECK_THROWS_WITH_AS(gemm(Device::cpu(), bad), "gemm: f32 operands cannot give bf16", std::logic_error);
  bad = g;
  bad.dtype = bad.out_dtype = Dtype::i32;
  CHECK_THROWS_AS(gemm(Device::cpu(), bad), std::logic_error);
  bad = g;
  bad.batch = 2;
  CHECK_THROWS_WITH_AS(gemm(Device::cpu(), bad), "gemm: members of the batch must not share C", std::logic_error);
  bad = g;
  bad.bias = x;
  bad.accumulate = true;
  CHECK_THROWS_WITH_AS(gemm(Device::cpu(), bad), "gemm: a bias goes with one product that isn't added to C",
                       std::logic_error);
#ifndef MOXIE_CUDA
  CHECK_THROWS_AS(gemm(Device::cuda(), g), std::invalid_argument);
#endif
}
