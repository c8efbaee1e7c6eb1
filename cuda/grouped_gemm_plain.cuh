// SPDX-License-Identifier: Apache-2.0
// The grouped matmul without tensor cores: f64, f32, and bf16 whose rows are not aligned to 16 bytes. A block of 256
// threads computes tiles [64, 64] of C, each thread [4, 4] of them, from 16 products at a time in shared memory.
#pragma once
#include "cuda/grouped_gemm_schedule.cuh"

namespace moxie::cuda {

template <class T, class Out, Form form> struct PlainGroupedKernel {
  using Sum = Accumulator<T>;
  static constexpr int threads = 256, tile = 64, depth = 16, part = 4;
  static constexpr int line = tile + 4;  // of shared memory, so that writing along the depth meets different banks
  static constexpr size_t shared_bytes = 2 * depth * line * sizeof(Sum);
  static constexpr bool weight = form == Form::weight;

  GroupedOperands<T> operands;
  Out* c;
  int64_t ldc, stride_c;  // stride_c: between the groups' C_g; 0 where C has all rows
  bool accumulate;

  MOXIE_DEVICE void operator()() const {
    Sum* const a = reinterpret_cast<Sum*>(dynamic_shared_memory());
    Sum* const b = a + depth * line;
    const int row = thread_index() / 16 * part, col = thread_index() % 16 * part;
    TileSchedule<tile, tile, weight> schedule(operands.offsets, operands.groups, operands.m, operands.n);
    GroupTile at;
    for (int index = block_index(); schedule.find(index, at); index += grid_blocks()) {
      const int products = weight ? at.group_end - at.group_begin : operands.k;
      Sum sum[part][part] = {};
      MOXIE_DO_NOT_UNROLL
      for (int first = 0; first < products; first += depth) {
        sync_threads();  // until all have read what the step before left
        load_a(a, at, first, products);
        load_b(b, at, first, products);
        sync_threads();
        MOXIE_UNROLL
        for (int p = 0; p < depth; ++p) {
          MOXIE_UNROLL
          for (int i = 0; i < part; ++i) {
            MOXIE_UNROLL
            for (int j = 0; j < part; ++j) sum[i][j] += a[p * line + row + i] * b[p * line + col + j];
          }
        }
      }
      MOXIE_UNROLL
      for (int i = 0; i < part; ++i) {
        Out* const to = c + at.group * stride_c + (at.row + row + i) * ldc + at.col;
        MOXIE_UNROLL
        for (int j = 0; j < part; ++j) {
          if (at.row + row + i < at.row_end && at.col + col + j < at.col_end) {
            Out& value = to[col + j];
            value = static_cast<Out>(accumulate ? static_cast<Sum>(value) + sum[i][j] : sum[i][j]);
          }
        }
      }
    }
  }

 private:
  // Thread t loads elements t, t + 256, ... of a [tile, depth] part; the index that runs fastest is the one along which
  // memory does. f(i, p): row or column i of the tile, product p.
  template <bool along_depth, class F> static MOXIE_DEVICE void load(Sum* to, F f) {
    MOXIE_UNROLL
    for (int e = 0; e < tile * depth / threads; ++e) {
      const int at = thread_index() + e * threads;
      const int i = along_depth ? at / depth : at % tile, p = along_depth ? at % depth : at / tile;
      to[p * line + i] = f(i, p);
    }
  }

  MOXIE_DEVICE void load_a(Sum* to, const GroupTile& at, int first, int products) const {
    const GroupedOperands<T>& o = operands;
    load<!weight>(to, [&](int i, int p) {
      const int row = at.row + i, product = first + p;
      if (row >= at.row_end || product >= products) return Sum(0);
      const int line_of_a = weight ? at.group_begin + product : row;
      const int64_t from = o.gather_a == nullptr ? line_of_a : o.gather_a[line_of_a];
      return static_cast<Sum>(o.a[from * o.lda + (weight ? row : product)]);
    });
  }

  MOXIE_DEVICE void load_b(Sum* to, const GroupTile& at, int first, int products) const {
    const GroupedOperands<T>& o = operands;
    load<form == Form::rows>(to, [&](int i, int p) {
      const int col = at.col + i, product = first + p;
      if (col >= at.col_end || product >= products) return Sum(0);
      if constexpr (weight) {
        const int row = at.group_begin + product;
        const int64_t from = o.gather_b == nullptr ? row : o.gather_b[row];
        return static_cast<Sum>(o.b[from * o.ldb + col]);
      } else {
        const T* matrix = o.b + at.group * o.stride_b;
        return static_cast<Sum>(form == Form::rows ? matrix[col * o.ldb + product] : matrix[product * o.ldb + col]);
      }
    });
  }
};

}  // namespace moxie::cuda
