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
constexpr int64_t most_cols = 512;  // of a piece of a product

struct RowBlock {
  int64_t expert, first, count;
};

// So that no thread begins a large one when the others have nothing left to do.
template <class Part> void largest_first(std::vector<Part>& parts) {
  std::stable_sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.count > b.count; });
}

// The rows of all experts in blocks that the load alone fixes, those of the largest first.
template <class T> std::vector<RowBlock> row_blocks(const ExpertFfn<T>& ffn) {
  std::vector<RowBlock> blocks;
  for (int64_t e = 0; e < ffn.experts; ++e) {
    const int64_t end = ffn.offsets[e + 1];
    if (end == ffn.offsets[e]) continue;
    const int64_t size = Cut(end - ffn.offsets[e], most_rows).size;
    for (int64_t first = ffn.offsets[e]; first < end; first += size)
      blocks.push_back({e, first, std::min(size, end - first)});
  }
  largest_first(blocks);
  return blocks;
}

template <class T> double flops_of(const ExpertFfn<T>& ffn) {
  return 6.0 * static_cast<double>(ffn.slots) * static_cast<double>(ffn.width * ffn.hidden);
}

// to [count, width] = the rows of the slots' tokens
template <class T> void gather(const T* from, const int32_t* token, int64_t count, int64_t width, T* to) {
  for (int64_t i = 0; i < count; ++i) {
    const T* row = from + token[i] * width;
    T* out = to + i * width;
    SerialTeam{}.each(width, [=](int64_t j) { out[j] = row[j]; });
  }
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

// C [m, n] (+)= op(A) [m, k] op(B) [k, n], a piece of columns at a time
template <class T> struct Product {
  int64_t m, n, k;
  const T* a;
  int64_t lda;
  const T* b;
  int64_t ldb;
  bool transpose_a = false, transpose_b = false;
  template <class Out> void into(Out* c, int64_t ldc, bool accumulate = false) const {
    const Cut cut(n, most_cols);
    for (int64_t i = 0; i < cut.count; ++i) {
      const int64_t first = cut.first(i);
      gemm_here({.dtype = dtype_of<T>,
                 .out_dtype = dtype_of<Out>,
                 .transpose_a = transpose_a,
                 .transpose_b = transpose_b,
                 .accumulate = accumulate,
                 .m = m,
                 .n = cut.length(i, n),
                 .k = k,
                 .a = a,
                 .lda = lda,
                 .b = b + (transpose_b ? first * ldb : first),
                 .ldb = ldb,
                 .c = c + first,
                 .ldc = ldc});
    }
  }
};

// Slots to assignments: the inverse of slot_of_assignment.
template <class T> std::vector<int32_t> assignments(const ExpertFfn<T>& ffn) {
  std::vector<int32_t> of_slot(static_cast<size_t>(ffn.slots));
  for (int64_t i = 0; i < ffn.slots; ++i)
    of_slot[static_cast<size_t>(ffn.slot_of_assignment[i])] = static_cast<int32_t>(i);
  return of_slot;
}

// A run of one expert's rows, of which one thread makes all gradients. The sums over its rows go where the gradients of
// weights are wanted from an expert's first run, else to memory of their own, to be added afterwards.
template <class T> struct Run {
  int64_t expert, first, count;
  WeightTarget<T> gate_up, down;
};

// The runs of all experts in their order, which the load alone fixes: enough for several threads, at most experts + 64.
// `later` becomes the memory for the sums of those that are not an expert's first. Runs are so long that it is no
// larger than the gradient before the activation of all slots would be.
template <class T> std::vector<Run<T>> runs_of(const ExpertFfn<T>& f, const ExpertFfnGradients<T>& g, Array& later) {
  const int64_t most = std::max({std::clamp<int64_t>(f.slots / 8, 256, 1024), f.slots / 64, f.width});
  const int64_t gate_up_size = g.gate_up.data == nullptr ? 0 : 2 * f.width * f.hidden,
                down_size = g.down.data == nullptr ? 0 : f.width * f.hidden;
  std::vector<Run<T>> runs;
  for (int64_t e = 0; e < f.experts; ++e) {
    const int64_t first = f.offsets[e], load = f.offsets[e + 1] - first, length = Cut(load, most).size;
    runs.push_back({e, first, length, g.gate_up, g.down});
    runs.back().gate_up.data += e * gate_up_size;
    runs.back().down.data += e * down_size;
    for (int64_t i = length; i < load; i += length) runs.push_back({e, first + i, std::min(length, load - i), {}, {}});
  }
  if (static_cast<int64_t>(runs.size()) == f.experts) return runs;
  // Of the size that it can have at most, so that the cache of memory has it again in the next step.
  using V = Accumulator<T>;
  later = Array::empty({f.slots / most, gate_up_size + down_size}, {dtype_of<V>, Device::cpu()});
  V* sums = later.data<V>();
  for (Run<T>& run : runs) {
    if (run.first == f.offsets[run.expert]) continue;
    if (g.gate_up.data != nullptr) run.gate_up.data = sums;
    if (g.down.data != nullptr) run.down.data = sums + gate_up_size;
    sums += gate_up_size + down_size;
  }
  return runs;
}

// Adds the sums of each expert's later runs, in their order, to those of its first.
template <class T> void add_later(const ExpertFfn<T>& f, const std::vector<Run<T>>& runs) {
  const auto add = [](const WeightTarget<T>& to, const WeightTarget<T>& from, int64_t row, int64_t cols) {
    if (to.data == nullptr) return;
    Accumulator<T>* sum = to.data + row * cols;
    const Accumulator<T>* part = from.data + row * cols;
#pragma omp simd
    for (int64_t i = 0; i < cols; ++i) sum[i] += part[i];
  };
  parallel_for(f.width, true, [&](int64_t row) {
    const Run<T>* first = nullptr;
    for (const Run<T>& run : runs) {
      if (run.first == f.offsets[run.expert]) {
        first = &run;
      } else {
        add(first->gate_up, run.gate_up, row, 2 * f.hidden);
        add(first->down, run.down, row, f.hidden);
      }
    }
  });
}

// dW [m, n] (+)= left [rows, m]^T right [rows, n], in pieces that stay in L2.
template <class T>
void add_outer(const WeightTarget<T>& dw, int64_t rows, const T* left, int64_t m, const T* right, int64_t n) {
  if (dw.data == nullptr) return;
  const Cut cut(m, most_rows);
  for (int64_t i = 0; i < cut.count; ++i)
    Product<T>{cut.length(i, m), n, rows, left + cut.first(i), m, right, n, true}.into(dw.data + cut.first(i) * n, n,
                                                                                       dw.accumulate);
}

// All gradients of a run, a block of its rows at a time: what is between two products is still in the cache when the
// next one reads it, and isn't written to memory whole.
template <class T>
void run_backward(const ExpertFfn<T>& f, const ExpertFfnGradients<T>& g, const int32_t* assignment, Run<T> run,
                  T* scratch) {
  const int64_t d = f.width, n = f.hidden;
  const T *gate_up = f.gate_up + run.expert * 2 * n * d, *down = f.down + run.expert * d * n;
  T *dy = scratch, *x = dy + most_rows * d, *da = x + most_rows * d, *weighted = da + most_rows * n,
    *dz = weighted + most_rows * n;
  const Cut blocks(run.count, most_rows);
  for (int64_t i = 0; i == 0 || i < blocks.count; ++i) {  // one block without rows writes zeros
    const int64_t first = run.first + blocks.first(i), count = blocks.length(i, run.count);
    gather(g.dy, f.token_of_slot + first, count, d, dy);
    Product<T>{count, n, d, dy, d, down, n}.into(da, n);
    const ExpertActivationBackward<T> activation{g.z + first * 2 * n, da, assignment + first, g.weights, dz, weighted,
                                                 g.dweights,          n};
    for (int64_t row = 0; row < count; ++row) activation(SerialTeam{}, row);
    if (g.dx_rows != nullptr) Product<T>{count, d, 2 * n, dz, 2 * n, gate_up, d}.into(g.dx_rows + first * d, d);
    if (run.gate_up.data != nullptr) gather(f.x, f.token_of_slot + first, count, d, x);
    add_outer(run.down, count, dy, d, weighted, n);
    add_outer(run.gate_up, count, dz, 2 * n, x, d);
    run.down.accumulate = run.gate_up.accumulate = true;
  }
}

}  // namespace

template <class T> void expert_ffn(const ExpertFfn<T>& f, T* z, T* rows) {
  const int64_t d = f.width, n = f.hidden;
  const std::vector<RowBlock> blocks = row_blocks(f);
  const Scratch<T> scratch(most_rows * (d + n));
  parallel_for_throwing(static_cast<int64_t>(blocks.size()), flops_of(f) >= parallel_flops, [&](int64_t index) {
    const RowBlock& block = blocks[static_cast<size_t>(index)];
    T *x = scratch.mine(), *a = x + most_rows * d, *block_z = z + block.first * 2 * n;
    gather(f.x, f.token_of_slot + block.first, block.count, d, x);
    Product<T>{block.count, 2 * n, d, x, d, f.gate_up + block.expert * 2 * n * d, d, false, true}.into(block_z, 2 * n);
    const SwiGlu<T> activation{block_z, a, n};
    for (int64_t i = 0; i < block.count; ++i) activation(SerialTeam{}, i);
    Product<T>{block.count, d, n, a, n, f.down + block.expert * d * n, n, false, true}.into(rows + block.first * d, d);
  });
}

template <class T> void expert_ffn_backward(const ExpertFfn<T>& f, const ExpertFfnGradients<T>& g) {
  Array later;
  const std::vector<Run<T>> runs = runs_of(f, g, later);
  std::vector<Run<T>> in_turn = runs;
  largest_first(in_turn);
  const std::vector<int32_t> assignment = assignments(f);
  const Scratch<T> scratch(most_rows * (2 * f.width + 4 * f.hidden));
  parallel_for_throwing(static_cast<int64_t>(in_turn.size()), flops_of(f) >= parallel_flops, [&](int64_t i) {
    run_backward(f, g, assignment.data(), in_turn[static_cast<size_t>(i)], scratch.mine());
  });
  if (later.defined()) add_later(f, runs);
}

template void expert_ffn(const ExpertFfn<double>&, double*, double*);
template void expert_ffn(const ExpertFfn<float>&, float*, float*);
template void expert_ffn(const ExpertFfn<bf16>&, bf16*, bf16*);
template void expert_ffn_backward(const ExpertFfn<double>&, const ExpertFfnGradients<double>&);
template void expert_ffn_backward(const ExpertFfn<float>&, const ExpertFfnGradients<float>&);
template void expert_ffn_backward(const ExpertFfn<bf16>&, const ExpertFfnGradients<bf16>&);

}  // namespace moxie::moe::cpu
