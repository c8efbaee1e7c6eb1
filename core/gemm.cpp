// SPDX-License-Identifier: Apache-2.0
// Cuts a matmul into blocks that its shape alone fixes, so that results don't depend on the number of threads.
#include "core/gemm.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/gemm_block.h"
#include "core/gemm_cut.h"
#include "core/launch.h"
#include "core/parallel_throwing.h"

namespace moxie {
namespace {

// Small blocks are put together until a piece of the parallel loop has about this many, as long as pieces are plenty.
constexpr double piece_flops = 2e6;
constexpr int64_t pieces_plenty = 16;

const void* advance(const void* data, int64_t elements, Dtype dtype) {
  return static_cast<const char*>(data) + elements * size_of(dtype);
}
void* advance(void* data, int64_t elements, Dtype dtype) {
  return static_cast<char*>(data) + elements * size_of(dtype);
}

// The part of a matmul that gives rows [i, i + m) and columns [j, j + n) of C.
Gemm part(const Gemm& whole, int64_t i, int64_t m, int64_t j, int64_t n) {
  Gemm block = whole;
  block.m = m;
  block.n = n;
  block.a = advance(whole.a, whole.transpose_a ? i : i * whole.lda, whole.dtype);
  block.b = advance(whole.b, whole.transpose_b ? j * whole.ldb : j, whole.dtype);
  block.c = advance(whole.c, i * whole.ldc + j, whole.out_dtype);
  if (whole.bias != nullptr) block.bias = advance(whole.bias, j, whole.out_dtype);
  return block;
}

// Writes the bias to C's rows, to which the products are then added: rounded once.
Gemm begin_with_bias(Gemm g) {
  if (g.bias == nullptr) return g;
  for (int64_t i = 0; i < g.m; ++i) {
    std::memcpy(advance(g.c, i * g.ldc, g.out_dtype), g.bias, static_cast<size_t>(g.n * size_of(g.out_dtype)));
  }
  g.bias = nullptr;
  g.accumulate = true;
  return g;
}

// Runs f(i) for all blocks, `flops` in total.
template <class F> void for_blocks(int64_t count, double flops, F&& f) {
  if (count == 0) return;
  const double per_block = std::max(flops / static_cast<double>(count), 1.0);
  const int64_t per_piece =
      std::max<int64_t>(1, std::min(static_cast<int64_t>(piece_flops / per_block), count / pieces_plenty));
  const int64_t pieces = (count + per_piece - 1) / per_piece;
  parallel_for_throwing(pieces, flops >= parallel_flops, [&](int64_t piece) {
    const int64_t end = std::min(count, (piece + 1) * per_piece);
    for (int64_t i = piece * per_piece; i < end; ++i) f(i);
  });
}

void check_dtypes(const char* op, Dtype dtype, Dtype out_dtype) {
  check_internal(is_float(dtype), "{}: operands must be f64, f32 or bf16, got {}", op, name_of(dtype));
  check_internal(out_dtype == dtype || (dtype == Dtype::bf16 && out_dtype == Dtype::f32),
                 "{}: {} operands cannot give {}", op, name_of(dtype), name_of(out_dtype));
}

void check_leading(const char* op, const char* matrix, int64_t leading, int64_t row) {
  check_internal(leading >= row, "{}: the leading dimension of {} is below its row, {} < {}", op, matrix, leading, row);
}

double count_flops(int64_t m, int64_t n, int64_t k) {
  return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
}

// The largest blocks of C. Operands of a block, block_depth products deep, fill 768 KiB at most and C is written in one
// piece.
struct BlockSize {
  int64_t rows, cols;
  explicit BlockSize(Dtype dtype)
      : rows(256), cols(dtype == Dtype::bf16 && gemm_detail::multiplies_bf16() ? 1024 : 512) {}
};

// The blocks of C [m, n], of which there are `copies`: halved until there are enough for several threads, but not
// below what is still fast.
BlockSize choose_block(Dtype dtype, int64_t m, int64_t n, int64_t k, double copies) {
  constexpr int64_t rows_least = 32, cols_least = 64;
  constexpr double enough = 8, flops_least = 1.5e6;
  BlockSize size(dtype);
  while (size.rows > rows_least && size.rows / 2 >= m) size.rows /= 2;
  while (size.cols > cols_least && size.cols / 2 >= n) size.cols /= 2;
  const auto too_few = [&] {
    const int64_t blocks = Cut(m, size.rows).count * Cut(n, size.cols).count;
    return static_cast<double>(blocks) * copies < enough &&
           count_flops(std::min(m, size.rows), std::min(n, size.cols), k) >= 2 * flops_least;
  };
  while (too_few()) {
    const bool rows = size.rows > rows_least, cols = size.cols > cols_least;
    if (!rows && !cols) break;
    if (cols && (size.cols > size.rows || !rows)) {
      size.cols /= 2;
    } else {
      size.rows /= 2;
    }
  }
  return size;
}

// All blocks of C where blocks of rows would each bring B into the form that they are fastest on: it is done once for
// all of them. Does nothing and returns false elsewhere.
bool multiply_sharing_b(const Gemm& g, const Cut& rows, const Cut& cols) {
  constexpr int64_t most = 1 << 20;  // numbers of B: they are copied as a whole
  if (g.dtype != Dtype::f32 || g.batch > 1 || rows.count < 2 || g.k == 0 || g.k * g.n > most) return false;
  const auto columns = [&](int64_t col) { return part(g, 0, rows.size, cols.first(col), cols.length(col, g.n)); };
  if (!gemm_detail::packs_b(columns(0))) return false;
  const int64_t panel = g.k * (cols.size + gemm_detail::padding);
  float* packed = gemm_detail::scratch_f32(gemm_detail::Scratch::shared_b, cols.count * panel);
  const Cut depths(g.k, 64);
  parallel_for(cols.count * depths.count, g.k * g.n >= parallel_threshold, [&](int64_t index) {
    const int64_t col = index / depths.count, depth = depths.first(index % depths.count);
    Gemm piece = columns(col);
    piece.k = depths.length(index % depths.count, g.k);
    piece.b = advance(piece.b, g.transpose_b ? depth : depth * g.ldb, g.dtype);
    gemm_detail::pack_b(piece, packed + col * panel + depth * (piece.n + gemm_detail::padding));
  });
  for_blocks(rows.count * cols.count, count_flops(g.m, g.n, g.k), [&](int64_t index) {
    const int64_t row = index % rows.count, col = index / rows.count;
    Gemm block = part(g, rows.first(row), rows.length(row, g.m), cols.first(col), cols.length(col, g.n));
    block.b = packed + col * panel;
    block.ldb = block.n + gemm_detail::padding;
    block.transpose_b = false;
    gemm_detail::multiply_block(begin_with_bias(block));
  });
  return true;
}

// All blocks of C for a batch.
void multiply_batch(const Gemm& g) {
  const BlockSize size = choose_block(g.dtype, g.m, g.n, g.k, static_cast<double>(g.batch));
  const Cut rows(g.m, size.rows), cols(g.n, size.cols);
  if (multiply_sharing_b(g, rows, cols)) return;
  const int64_t per_member = rows.count * cols.count;
  for_blocks(g.batch * per_member, static_cast<double>(g.batch) * count_flops(g.m, g.n, g.k), [&](int64_t index) {
    const int64_t member = index / per_member, row = index % per_member / cols.count, col = index % cols.count;
    Gemm whole = g;
    whole.a = advance(g.a, member * g.stride_a, g.dtype);
    whole.b = advance(g.b, member * g.stride_b, g.dtype);
    whole.c = advance(g.c, member * g.stride_c, g.out_dtype);
    gemm_detail::multiply_block(
        begin_with_bias(part(whole, rows.first(row), rows.length(row, g.m), cols.first(col), cols.length(col, g.n))));
  });
}

// C (+)= the sum of `count` matrices, in their order.
template <class T, class Sum> void add_up(const Gemm& g, const Sum* partial, int64_t count) {
  T* c = static_cast<T*>(g.c);
  const int64_t size = g.m * g.n;
  parallel_for(g.m, size * count >= parallel_threshold, [&](int64_t i) {
    T* out = c + i * g.ldc;
    const Sum* in = partial + i * g.n;
    const bool accumulate = g.accumulate;
#pragma omp simd
    for (int64_t j = 0; j < g.n; ++j) {
      Sum sum = accumulate ? static_cast<Sum>(out[j]) : Sum(0);
      for (int64_t p = 0; p < count; ++p) sum += in[p * size + j];
      assign(out[j], sum);
    }
  });
}

// Into how many parts the sums of a product are cut: 1, unless C is small and k long, as in the gradient of a weight.
int64_t choose_parts(const Gemm& g) {
  constexpr int64_t enough = 8, depth_least = 1024, largest = 512 * 512;
  if (g.batch > 1 || g.m * g.n > largest) return 1;
  return std::clamp<int64_t>(g.k / depth_least, 1, enough);
}

// Equal parts of k as a batch, what is left of k after them on its own, and then their sum.
void multiply_parts(const Gemm& g, int64_t parts) {
  const bool f64 = g.dtype == Dtype::f64;
  const int64_t size = g.m * g.n, depth = g.k / parts, rest = g.k - depth * parts;
  Gemm batch = g;
  batch.accumulate = false;
  batch.out_dtype = f64 ? Dtype::f64 : Dtype::f32;
  batch.k = depth;
  batch.batch = parts;
  batch.stride_a = g.transpose_a ? depth * g.lda : depth;
  batch.stride_b = g.transpose_b ? depth : depth * g.ldb;
  batch.c = gemm_detail::scratch(gemm_detail::Scratch::partial, parts * size * size_of(batch.out_dtype));
  batch.ldc = g.n;
  batch.stride_c = size;
  multiply_batch(batch);
  if (rest > 0) {
    Gemm last = batch;
    last.accumulate = true;
    last.k = rest;
    last.batch = 1;
    last.a = advance(batch.a, parts * batch.stride_a, g.dtype);
    last.b = advance(batch.b, parts * batch.stride_b, g.dtype);
    multiply_batch(last);
  }
  if (f64) return add_up<double>(g, static_cast<const double*>(batch.c), parts);
  const float* partial = static_cast<const float*>(batch.c);
  return g.out_dtype == Dtype::f32 ? add_up<float>(g, partial, parts) : add_up<bf16>(g, partial, parts);
}

void gemm_cpu(const Gemm& g) {
  const int64_t parts = choose_parts(g);
  if (parts > 1) {
    multiply_parts(begin_with_bias(g), parts);
  } else {
    multiply_batch(g);
  }
}

void check_offsets(const char* op, const int32_t* offsets, int64_t groups) {
  check_internal(offsets[0] >= 0, "{}: offsets must start at 0 or above, got {}", op, offsets[0]);
  for (int64_t g = 0; g < groups; ++g) {
    check_internal(offsets[g] <= offsets[g + 1], "{}: offsets must ascend, got {} then {} for group {}", op, offsets[g],
                   offsets[g + 1], g);
  }
}

struct GroupBlock {
  int64_t group, first, size;
};

void grouped_gemm_cpu(const GroupedGemm& g) {
  check_offsets("grouped_gemm", g.offsets, g.groups);
  const int64_t all_rows = g.offsets[g.groups] - g.offsets[0];
  const BlockSize size = choose_block(g.dtype, all_rows, g.n, g.k, 1);
  std::vector<GroupBlock> blocks;
  for (int64_t group = 0; group < g.groups; ++group) {
    const int64_t rows = g.offsets[group + 1] - g.offsets[group];
    const Cut cut(rows, size.rows);
    for (int64_t i = 0; i < cut.count; ++i) {
      blocks.push_back({group, g.offsets[group] + cut.first(i), cut.length(i, rows)});
    }
  }
  const Cut cols(g.n, size.cols);
  const double flops = count_flops(all_rows, g.n, g.k);
  for_blocks(static_cast<int64_t>(blocks.size()) * cols.count, flops, [&](int64_t index) {
    const GroupBlock& rows = blocks[static_cast<size_t>(index / cols.count)];
    const int64_t col = index % cols.count;
    Gemm whole{.dtype = g.dtype, .out_dtype = g.out_dtype, .transpose_b = g.transpose_b, .accumulate = g.accumulate};
    whole.k = g.k;
    whole.a = g.a;
    whole.lda = g.lda;
    whole.b = advance(g.b, rows.group * g.stride_b, g.dtype);
    whole.ldb = g.ldb;
    whole.c = g.c;
    whole.ldc = g.ldc;
    gemm_detail::multiply_block(part(whole, rows.first, rows.size, cols.first(col), cols.length(col, g.n)));
  });
}

void grouped_gemm_weight_cpu(const GroupedGemmWeight& g) {
  check_offsets("grouped_gemm_weight", g.offsets, g.groups);
  const auto load = [&](int64_t group) { return int64_t{g.offsets[group + 1]} - g.offsets[group]; };
  const std::vector<int64_t> order = longest_first(g.offsets, g.groups);
  const int64_t all_rows = g.offsets[g.groups] - g.offsets[0];
  const int64_t longest = std::max<int64_t>(load(order[0]), 1);
  const double copies = std::max(1.0, static_cast<double>(all_rows) / static_cast<double>(longest));
  const BlockSize size = choose_block(g.dtype, g.m, g.n, longest, copies);
  const Cut rows(g.m, size.rows), cols(g.n, size.cols);
  const int64_t per_group = rows.count * cols.count;
  for_blocks(g.groups * per_group, count_flops(g.m, g.n, all_rows), [&](int64_t index) {
    const int64_t group = order[static_cast<size_t>(index / per_group)];
    const int64_t row = index % per_group / cols.count, col = index % cols.count;
    Gemm whole{.dtype = g.dtype, .out_dtype = g.out_dtype, .transpose_a = true, .accumulate = g.accumulate};
    whole.k = load(group);
    whole.a = advance(g.a, g.offsets[group] * g.lda, g.dtype);
    whole.lda = g.lda;
    whole.b = advance(g.b, g.offsets[group] * g.ldb, g.dtype);
    whole.ldb = g.ldb;
    whole.c = advance(g.c, group * g.stride_c, g.out_dtype);
    whole.ldc = g.ldc;
    gemm_detail::multiply_block(
        part(whole, rows.first(row), rows.length(row, g.m), cols.first(col), cols.length(col, g.n)));
  });
}

}  // namespace

void gemm(Device device, const Gemm& g) {
  if (g.m == 0 || g.n == 0 || g.batch == 0) return;
  check_dtypes("gemm", g.dtype, g.out_dtype);
  check_internal(g.m > 0 && g.n > 0 && g.k >= 0 && g.batch > 0,
                 "gemm: sizes must not be negative, {} x {} x {}, batch {}", g.m, g.n, g.k, g.batch);
  check_leading("gemm", "A", g.lda, g.transpose_a ? g.m : g.k);
  check_leading("gemm", "B", g.ldb, g.transpose_b ? g.k : g.n);
  check_leading("gemm", "C", g.ldc, g.n);
  check_internal(g.batch == 1 || g.stride_c > 0, "gemm: members of the batch must not share C");
  check_internal(g.bias == nullptr || (g.batch == 1 && !g.accumulate),
                 "gemm: a bias goes with one product that isn't added to C");
  if (device.is_cpu()) return gemm_cpu(g);
#ifdef MOXIE_CUDA
  cuda::gemm(device.index, g);
#else
  throw_built_without_cuda();
#endif
}

void gemm_here(const Gemm& g) {
  check_dtypes("gemm_here", g.dtype, g.out_dtype);
  gemm_detail::multiply_block(begin_with_bias(g));
}

void grouped_gemm(Device device, const GroupedGemm& g) {
  if (g.groups == 0 || g.n == 0) return;
  check_dtypes("grouped_gemm", g.dtype, g.out_dtype);
  check_internal(g.groups > 0 && g.n > 0 && g.k >= 0, "grouped_gemm: sizes must not be negative, {} groups, n {}, k {}",
                 g.groups, g.n, g.k);
  check_leading("grouped_gemm", "A", g.lda, g.k);
  check_leading("grouped_gemm", "B", g.ldb, g.transpose_b ? g.k : g.n);
  check_leading("grouped_gemm", "C", g.ldc, g.n);
  if (device.is_cpu()) return grouped_gemm_cpu(g);
#ifdef MOXIE_CUDA
  cuda::grouped_gemm(device.index, g);
#else
  throw_built_without_cuda();
#endif
}

void grouped_gemm_weight(Device device, const GroupedGemmWeight& g) {
  if (g.groups == 0 || g.m == 0 || g.n == 0) return;
  check_dtypes("grouped_gemm_weight", g.dtype, g.out_dtype);
  check_internal(g.groups > 0 && g.m > 0 && g.n > 0,
                 "grouped_gemm_weight: sizes must not be negative, {} groups, {} x {}", g.groups, g.m, g.n);
  check_leading("grouped_gemm_weight", "A", g.lda, g.m);
  check_leading("grouped_gemm_weight", "B", g.ldb, g.n);
  check_leading("grouped_gemm_weight", "C", g.ldc, g.n);
  check_internal(g.groups == 1 || g.stride_c > 0, "grouped_gemm_weight: groups must not share C");
  if (device.is_cpu()) return grouped_gemm_weight_cpu(g);
#ifdef MOXIE_CUDA
  cuda::grouped_gemm_weight(device.index, g);
#else
  throw_built_without_cuda();
#endif
}

}  // namespace moxie
