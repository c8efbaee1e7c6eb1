// SPDX-License-Identifier: Apache-2.0
// A grouped product by a kernel on emulated blocks, compared with the reference.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "cuda/grouped_gemm_schedule.cuh"
#include "tests/core/gemm_reference.h"
#include "tests/cuda/block_emulator.h"

namespace moxie::cuda {

struct GroupedCase {
  std::vector<int32_t> load;
  int m = 0, n = 0, k = 0;
  int padding = 0;      // of rows, in elements
  bool gather = false;  // A's rows, and B's too for weight
  bool accumulate = false;
  int blocks = 2;
};

inline std::vector<int32_t> offsets_of(const std::vector<int32_t>& load, int32_t first) {
  std::vector<int32_t> offsets = {first};
  for (const int32_t rows : load) offsets.push_back(offsets.back() + rows);
  return offsets;
}

inline std::vector<int32_t> random_rows(int64_t count, int64_t limit, std::mt19937& random) {
  std::vector<int32_t> rows;
  for (int64_t i = 0; i < count; ++i) rows.push_back(static_cast<int32_t>(random() % static_cast<unsigned>(limit)));
  return rows;
}

// Rows of a matrix whose row i is row index[i] of the given one.
inline Data gathered(const Data& from, const std::vector<int32_t>& index, int64_t ld) {
  Data to(from.dtype, static_cast<int64_t>(index.size()) * ld);
  for (size_t i = 0; i < index.size(); ++i) {
    for (int64_t j = 0; j < ld; ++j) to.set(static_cast<int64_t>(i) * ld + j, from.get(index[i] * ld + j));
  }
  return to;
}

template <class T> T* start(Data& data) { return static_cast<T*>(data.data()); }

// make_kernel(operands, c, ldc, stride_c) gives the kernel.
template <Form form, class T, class Out, class Make> void verify_grouped(const GroupedCase& c, Make make_kernel) {
  CAPTURE(c.m);
  CAPTURE(c.n);
  CAPTURE(c.k);
  constexpr bool weight = form == Form::weight;
  std::mt19937 random(11);
  const std::vector<int32_t> offsets = offsets_of(c.load, 2);  // rows before and after all groups are not touched
  const int groups = static_cast<int>(c.load.size());
  const int64_t slots = offsets.back() + 3, tokens = c.gather ? slots / 2 + 1 : slots;
  std::vector<int32_t> index = random_rows(slots, tokens, random);
  for (size_t i = 0; !c.gather && i < index.size(); ++i) index[i] = static_cast<int32_t>(i);
  const int64_t cols_a = weight ? c.m : c.k, cols_b = form == Form::rows ? c.k : c.n;
  const int64_t rows_b = form == Form::rows ? c.n : c.k;
  const int64_t lda = cols_a + c.padding, ldb = cols_b + c.padding, ldc = c.n + c.padding;
  const int64_t stride_b = weight ? 0 : rows_b * ldb, stride_c = weight ? c.m * ldc : 0;
  Data a(dtype_of<T>, tokens * lda), b(dtype_of<T>, weight ? tokens * ldb : groups * stride_b);
  Data out(dtype_of<Out>, weight ? groups * stride_c : slots * ldc);
  a.fill(0, tokens, cols_a, lda, random);
  b.fill(0, weight ? tokens : groups * rows_b, cols_b, ldb, random);
  if (c.accumulate) out.fill(0, weight ? groups * c.m : slots, c.n, ldc, random);
  const Data before = out, a_rows = gathered(a, index, lda), b_rows = weight ? gathered(b, index, ldb) : b;
  const int32_t* gather = c.gather ? index.data() : nullptr;
  const auto kernel = make_kernel(GroupedOperands<T>{offsets.data(), groups, c.m, c.n, c.k, start<T>(a), lda, gather,
                                                     start<T>(b), ldb, stride_b, weight ? gather : nullptr},
                                  start<Out>(out), ldc, stride_c);
  const auto check_result = [&] {
    int64_t wrong = 0, touched = 0;
    for (int i = 0; i < groups; ++i) {
      const int64_t first = offsets[static_cast<size_t>(i)], load = c.load[static_cast<size_t>(i)];
      const int64_t at = weight ? i * stride_c : first * ldc, rows = weight ? c.m : load;
      const View old{before, at, ldc};
      wrong += count_wrong(rows, c.n, weight ? load : c.k, View{a_rows, first * lda, lda, weight},
                           View{b_rows, weight ? first * ldb : i * stride_b, ldb, form == Form::rows},
                           View{out, at, ldc}, c.accumulate ? &old : nullptr);
      touched += count_touched(out, at, rows, c.n, ldc);
    }
    CHECK(wrong == 0);
    CHECK(touched == 0);
    if (!weight && !c.accumulate) {
      for (const int64_t row : {int64_t{0}, int64_t{1}, slots - 3, slots - 1}) CHECK(std::isnan(out.get(row * ldc)));
    }
    out = before;
  };
  emulate_all(
      {.blocks = c.blocks, .threads = kernel.threads, .shared_bytes = kernel.shared_bytes}, [&] { kernel(); },
      check_result);
}

}  // namespace moxie::cuda
