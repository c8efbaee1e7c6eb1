// SPDX-License-Identifier: Apache-2.0
#include "moe/expert_ffn_cpu.h"

#include <algorithm>
#include <vector>

#include "core/array.h"
#include "core/gemm.h"
#include "core/gemm_cut.h"
#include "core/kernels/elementwise/activate.h"
#include "core/kernels/index/rows.h"
#include "core/parallel_throwing.h"
#include "core/team.h"
#include "moe/kernels/expert_activation.h"

namespace moxie::moe::cpu {
namespace {

constexpr int64_t most_rows = 256;  // of a block: operands and results of its products fit L2 together
constexpr int64_t most_cols = 512;  // of a piece of a gradient of weights

struct RowBlock {
  int64_t expert, first, count;
};

// The rows of all experts in blocks that the load alone fixes.
template <class T> std::vector<RowBlock> row_blocks(const ExpertFfn<T>& ffn) {
  std::vector<RowBlock> blocks;
  for (int64_t e = 0; e < ffn.experts; ++e) {
    const int64_t end = ffn.offsets[e + 1];
    if (end == ffn.offsets[e]) continue;
    const int64_t size = Cut(end - ffn.offsets[e], most_rows).size;
    for (int64_t first = ffn.offsets[e]; first < end; first += size)
      blocks.push_back({e, first, std::min(size, end - first)});
  }
  return blocks;
}

template <class T> double flops_of(const ExpertFfn<T>& ffn) {
  return 6.0 * static_cast<double>(ffn.slots) * static_cast<double>(ffn.width * ffn.hidden);
}

// to [count, cols] = the rows of the slots' tokens, columns [col, col + cols) of `width`
template <class T>
void gather(const T* from, const int32_t* token, int64_t count, int64_t width, int64_t col, int64_t cols, T* to) {
  for (int64_t i = 0; i < count; ++i) std::copy_n(from + token[i] * width + col, cols, to + i * cols);
}

// Memory of each thread.
template <class T> class Scratch final {
 public:
  explicit Scratch(int64_t elements)
      : nested_(in_parallel()),
        elements_(elements),
        all_(Array::empty({nested_ ? 1 : threads(), elements}, {dtype_of<T>, Device::cpu()})) {}
  T* mine() const { return nested_ ? all_.data<T>() : all_.data<T>() + thread_number() * elements_; }

 private:
  bool nested_;
  int64_t elements_;
  Array all_;
};

// C [m, n] (+)= op(A) [m, k] op(B) [k, n]
template <class T> struct Product {
  int64_t m, n, k;
  const T* a;
  int64_t lda;
  const T* b;
  int64_t ldb;
  bool transpose_a = false, transpose_b = false;
  void into(T* c, int64_t ldc, bool accumulate = false) const {
    gemm_here({.dtype = dtype_of<T>,
               .out_dtype = dtype_of<T>,
               .transpose_a = transpose_a,
               .transpose_b = transpose_b,
               .accumulate = accumulate,
               .m = m,
               .n = n,
               .k = k,
               .a = a,
               .lda = lda,
               .b = b,
               .ldb = ldb,
               .c = c,
               .ldc = ldc});
  }
};

// Slots to assignments: the inverse of slot_of_assignment.
template <class T> std::vector<int32_t> assignments(const ExpertFfn<T>& ffn) {
  std::vector<int32_t> of_slot(static_cast<size_t>(ffn.slots));
  for (int64_t i = 0; i < ffn.slots; ++i)
    of_slot[static_cast<size_t>(ffn.slot_of_assignment[i])] = static_cast<int32_t>(i);
  return of_slot;
}

// dz, weighted, dx_rows and dweights of one block.
template <class T>
void block_backward(const ExpertFfn<T>& f, const ExpertFfnGradients<T>& g, const int32_t* assignment,
                    const RowBlock& block, T* dy, T* da) {
  const int64_t d = f.width, n = f.hidden;
  gather(g.dy, f.token_of_slot + block.first, block.count, d, 0, d, dy);
  Product<T>{block.count, n, d, dy, d, f.down + block.expert * d * n, n}.into(da, n);
  T* dz = g.dz + block.first * 2 * n;
  const ExpertActivationBackward<T> activation{g.z + block.first * 2 * n,
                                               da,
                                               assignment + block.first,
                                               g.weights,
                                               dz,
                                               g.weighted + block.first * n,
                                               g.dweights,
                                               n};
  for (int64_t i = 0; i < block.count; ++i) activation(SerialTeam{}, i);
  if (g.dx_rows != nullptr)
    Product<T>{block.count, d, 2 * n, dz, 2 * n, f.gate_up + block.expert * 2 * n * d, d}.into(
        g.dx_rows + block.first * d, d);
}

// A piece of one expert's gradient: rows [row, row + rows) and columns [col, col + cols) of dW [m, n].
struct WeightPiece {
  int64_t expert, row, rows, col, cols;
};

// The pieces of all experts' gradients [m, n], those of the longest sums first.
template <class T> std::vector<WeightPiece> weight_pieces(const ExpertFfn<T>& ffn, int64_t m, int64_t n) {
  const int64_t rows = Cut(m, most_rows).size, cols = Cut(n, most_cols).size;
  std::vector<WeightPiece> pieces;
  for (const int64_t e : longest_first(ffn.offsets, ffn.experts))
    for (int64_t row = 0; row < m; row += rows)
      for (int64_t col = 0; col < n; col += cols)
        pieces.push_back({e, row, std::min(rows, m - row), col, std::min(cols, n - col)});
  return pieces;
}

// Where the rows of one side of a gradient of weights are: one for each slot, or one for each token, to be gathered.
template <class T> struct Side {
  const T* rows;
  int64_t width;
  bool of_tokens;
  int64_t scratch(int64_t most) const { return of_tokens ? most_rows * std::min(width, most) : 0; }
};

template <class T> struct Operand {
  const T* data;
  int64_t leading;
};

// `count` rows from slot `first` on, columns [col, col + cols).
template <class T>
Operand<T> rows_of(const ExpertFfn<T>& f, const Side<T>& side, int64_t first, int64_t count, int64_t col, int64_t cols,
                   T* gathered) {
  if (!side.of_tokens) return {side.rows + first * side.width + col, side.width};
  gather(side.rows, f.token_of_slot + first, count, side.width, col, cols, gathered);
  return {gathered, cols};
}

// dW [left.width, right.width] of every expert (+)= the sum over its slots s of left[s] right[s]^T.
template <class T>
void weight_gradient(const ExpertFfn<T>& f, const Side<T>& left, const Side<T>& right, const WeightTarget<T>& dw) {
  const int64_t m = left.width, n = right.width;
  const std::vector<WeightPiece> pieces = weight_pieces(f, m, n);
  const Scratch<T> scratch(left.scratch(most_rows) + right.scratch(most_cols));
  parallel_for_throwing(static_cast<int64_t>(pieces.size()), flops_of(f) >= parallel_flops, [&](int64_t index) {
    const WeightPiece& piece = pieces[static_cast<size_t>(index)];
    T *left_rows = scratch.mine(), *right_rows = left_rows + left.scratch(most_rows);
    T* out = dw.data + (piece.expert * m + piece.row) * n + piece.col;
    const int64_t first = f.offsets[piece.expert], end = f.offsets[piece.expert + 1];
    const auto add_rows = [&](int64_t s, int64_t count, bool accumulate) {
      const Operand<T> a = rows_of(f, left, s, count, piece.row, piece.rows, left_rows),
                       b = rows_of(f, right, s, count, piece.col, piece.cols, right_rows);
      Product<T>{piece.rows, piece.cols, count, a.data, a.leading, b.data, b.leading, true}.into(out, n, accumulate);
    };
    if (first == end) add_rows(first, 0, dw.accumulate);
    for (int64_t s = first; s < end; s += most_rows)
      add_rows(s, std::min(most_rows, end - s), dw.accumulate || s > first);
  });
}

}  // namespace

template <class T> void expert_ffn(const ExpertFfn<T>& f, T* z, T* rows) {
  const int64_t d = f.width, n = f.hidden;
  const std::vector<RowBlock> blocks = row_blocks(f);
  const Scratch<T> scratch(most_rows * (d + n));
  parallel_for_throwing(static_cast<int64_t>(blocks.size()), flops_of(f) >= parallel_flops, [&](int64_t index) {
    const RowBlock& block = blocks[static_cast<size_t>(index)];
    T *x = scratch.mine(), *a = x + most_rows * d, *block_z = z + block.first * 2 * n;
    gather(f.x, f.token_of_slot + block.first, block.count, d, 0, d, x);
    Product<T>{block.count, 2 * n, d, x, d, f.gate_up + block.expert * 2 * n * d, d, false, true}.into(block_z, 2 * n);
    const SwiGlu<T> activation{block_z, a, n};
    for (int64_t i = 0; i < block.count; ++i) activation(SerialTeam{}, i);
    Product<T>{block.count, d, n, a, n, f.down + block.expert * d * n, n, false, true}.into(rows + block.first * d, d);
  });
}

template <class T> void expert_ffn_backward(const ExpertFfn<T>& f, const ExpertFfnGradients<T>& g) {
  const int64_t d = f.width, n = f.hidden;
  {
    const std::vector<RowBlock> blocks = row_blocks(f);
    const std::vector<int32_t> assignment = assignments(f);
    const Scratch<T> scratch(most_rows * (d + n));
    parallel_for_throwing(static_cast<int64_t>(blocks.size()), flops_of(f) >= parallel_flops, [&](int64_t index) {
      T* dy = scratch.mine();
      block_backward(f, g, assignment.data(), blocks[static_cast<size_t>(index)], dy, dy + most_rows * d);
    });
  }
  if (g.down.data != nullptr) weight_gradient<T>(f, {g.dy, d, true}, {g.weighted, n, false}, g.down);
  if (g.gate_up.data != nullptr) weight_gradient<T>(f, {g.dz, 2 * n, false}, {f.x, d, true}, g.gate_up);
}

template void expert_ffn(const ExpertFfn<double>&, double*, double*);
template void expert_ffn(const ExpertFfn<float>&, float*, float*);
template void expert_ffn_backward(const ExpertFfn<double>&, const ExpertFfnGradients<double>&);
template void expert_ffn_backward(const ExpertFfn<float>&, const ExpertFfnGradients<float>&);

}  // namespace moxie::moe::cpu
