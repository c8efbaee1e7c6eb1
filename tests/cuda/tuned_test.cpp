// SPDX-License-Identifier: Apache-2.0
// The tuned kernels that move several short numbers at once, run by the block emulator against the generic ones.
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include "cuda/tuned/chunk_sum.cuh"
#include "cuda/tuned/cross_entropy.cuh"
#include "cuda/tuned/transpose.cuh"
#include "tests/cuda/block_emulator.h"

using namespace moxie;
using namespace moxie::cuda;

namespace {

// Begins at a multiple of 16 bytes, and `skipped` elements later.
template <class T> struct Buffer {
  std::vector<Vector16> memory;
  T* data;
  Buffer(int64_t count, int64_t skipped = 0)
      : memory(static_cast<size_t>((count + skipped) * static_cast<int64_t>(sizeof(T)) / 16 + 1)),
        data(reinterpret_cast<T*>(memory.data()) + skipped) {}
};

template <class T> Buffer<T> random_numbers(int64_t count, int64_t skipped = 0) {
  Buffer<T> buffer(count, skipped);
  std::mt19937 random(7);
  for (int64_t i = 0; i < count; ++i) buffer.data[i] = static_cast<T>(static_cast<float>(random() % 251) / 8.0f);
  return buffer;
}

// x [sizes of y, with `across` and the last dimension swapped] -> y
template <class T> struct Transposed {
  TransposeCopy<T> kernel{};
  int64_t count = 1;
  Transposed(std::vector<int64_t> sizes, int across) {
    const int rank = static_cast<int>(sizes.size());
    kernel.rank = rank;
    kernel.across = across;
    std::vector<int64_t> in = sizes;
    std::swap(in[static_cast<size_t>(across)], in.back());
    int64_t x_stride = 1;
    std::vector<int64_t> x_strides(sizes.size());
    for (int i = rank - 1; i >= 0; --i) {
      const auto k = static_cast<size_t>(i);
      kernel.size[i] = sizes[k];
      kernel.y_stride[i] = count;
      count *= sizes[k];
      x_strides[k] = x_stride;
      x_stride *= in[k];
    }
    std::swap(x_strides[static_cast<size_t>(across)], x_strides.back());
    for (int i = 0; i < rank; ++i) kernel.stride[i] = x_strides[static_cast<size_t>(i)];
  }
};

template <class T, int Pack> void check_transpose(const std::vector<int64_t>& sizes, int across, int64_t skipped = 0) {
  CAPTURE(sizes.size());
  CAPTURE(sizes.back());
  CAPTURE(sizes[static_cast<size_t>(across)]);
  Transposed<T> problem(sizes, across);
  const Buffer<T> x = random_numbers<T>(problem.count, skipped);
  const Buffer<T> wanted(problem.count), y(problem.count, skipped);
  problem.kernel.x = x.data;
  problem.kernel.y = wanted.data;
  int64_t rows = 1;
  for (int i = 0; i < problem.kernel.rank; ++i) {
    const bool is_cut = i == across || i == problem.kernel.rank - 1;
    rows *= is_cut ? problem.kernel.tiles(sizes[static_cast<size_t>(i)]) : sizes[static_cast<size_t>(i)];
  }
  for (int64_t row = 0; row < rows; ++row) problem.kernel(SerialTeam(), row);
  problem.kernel.y = y.data;
  if (Pack > 1) REQUIRE(transpose_is_packed(problem.kernel));
  const int64_t tiles = transpose_tiles(problem.kernel);
  for (const auto order : {Emulation::Order::forward, Emulation::Order::backward, Emulation::Order::shuffled}) {
    for (int64_t i = 0; i < problem.count; ++i) y.data[i] = static_cast<T>(255.0f);
    emulate({.blocks = 2, .threads = transpose_threads, .shared_bytes = sizeof(TransposeMemory<T>), .order = order},
            [&] {
              auto& shared = *reinterpret_cast<TransposeMemory<T>*>(dynamic_shared_memory());
              for (int64_t tile = block_index(); tile < tiles; tile += grid_blocks())
                transpose_tile<T, Pack>(problem.kernel, tile, shared);
            });
    int64_t different = 0;
    for (int64_t i = 0; i < problem.count; ++i) different += y.data[i] != wanted.data[i];
    CHECK(different == 0);
  }
}

template <class T, int Pack> void check_columns(int64_t outer, int64_t n, int64_t inner, int64_t chunk) {
  CAPTURE(n);
  CAPTURE(inner);
  const int64_t chunks = (n + chunk - 1) / chunk, rows = outer * chunks;
  const Buffer<T> x = random_numbers<T>(outer * n * inner);
  const Buffer<Accumulator<T>> y(rows * inner);
  const ChunkSum<T> kernel{x.data, y.data, n, inner, chunk, chunks};
  if (Pack > 1) REQUIRE(columns_are_packed(kernel));
  const int64_t strips = (inner + chunk_sum_threads * Pack - 1) / (chunk_sum_threads * Pack);
  for (int64_t strip = 0; strip < strips; ++strip)
    emulate({.blocks = 2, .threads = chunk_sum_threads},
            [&] { sum_columns<T, Pack>(kernel, rows, block_index(), grid_blocks(), strip); });
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < inner; ++col) {
      double wanted = 0;
      const int64_t first = row % chunks * chunk;
      for (int64_t k = first; k < std::min(first + chunk, n); ++k)
        wanted += static_cast<double>(static_cast<float>(x.data[(row / chunks * n + k) * inner + col]));
      if (static_cast<double>(y.data[row * inner + col]) != doctest::Approx(wanted).epsilon(1e-6))
        CHECK_MESSAGE(false, "row ", row, " column ", col);
    }
}

// Rows [rows, cols] of numbers of different sizes, and what lies beside them.
template <class T> void check_rows(int64_t rows, int64_t cols) {
  CAPTURE(rows);
  CAPTURE(cols);
  const Buffer<T> x = random_numbers<T>(rows * cols);
  for (int64_t i = 0; i < rows; ++i)
    x.data[i * cols + i % cols] = static_cast<T>(static_cast<float>(40 + 300 * (i % 3)));
  const Buffer<float> lse(rows), loss(rows), counted(rows), sums(rows);
  Buffer<int32_t> targets(rows);
  for (int64_t i = 0; i < rows; ++i) targets.data[i] = i % 4 == 3 ? -100 : static_cast<int32_t>(7 * i % cols);
  const CrossEntropy<T> kernel{x.data, targets.data, lse.data, loss.data, counted.data, cols, -100};
  const ChunkSum<T> sum{x.data, sums.data, cols, 1, cols, 1};
  REQUIRE(rows_are_packed(sum));
  emulate({.threads = 128}, [&] {
    for (int64_t row = warp_index(); row < rows; row += 4) {
      cross_entropy_row(kernel, row);
      sum_row(sum, row);
    }
  });
  for (int64_t row = 0; row < rows; ++row) {
    const auto at = [&](int64_t i) { return static_cast<double>(static_cast<float>(x.data[row * cols + i])); };
    double top = at(0), total = 0, plain = 0;
    for (int64_t i = 0; i < cols; ++i) top = std::max(top, at(i)), plain += at(i);
    for (int64_t i = 0; i < cols; ++i) total += std::exp(at(i) - top);
    const int32_t target = targets.data[row];
    CHECK(static_cast<double>(lse.data[row]) == doctest::Approx(top + std::log(total)).epsilon(1e-6));
    CHECK(static_cast<double>(loss.data[row]) ==
          doctest::Approx(target < 0 ? 0 : top - at(target) + std::log(total)).epsilon(1e-5));
    CHECK(counted.data[row] == (target < 0 ? 0.0f : 1.0f));
    CHECK(static_cast<double>(sums.data[row]) == doctest::Approx(plain).epsilon(1e-5));
  }
}

}  // namespace

TEST_CASE("tuned transpose: tiles and their edges, alone and in packs") {
  for (const int64_t rows : {1, 2, 63, 64, 65, 130})
    for (const int64_t cols : {1, 2, 63, 64, 66, 129}) {
      check_transpose<bf16, 1>({rows, cols}, 0);
      if (rows % 2 == 0 && cols % 2 == 0) check_transpose<bf16, 2>({rows, cols}, 0);
    }
  check_transpose<float, 1>({70, 131}, 0, 1);
  check_transpose<double, 1>({66, 65}, 0);
  check_transpose<int32_t, 1>({65, 64}, 0);
  check_transpose<uint8_t, 1>({65, 67}, 0);
  check_transpose<uint8_t, 4>({68, 132}, 0);
  check_transpose<bf16, 1>({70, 68}, 0, 1);  // not aligned to 4 bytes
}

TEST_CASE("tuned transpose: more dimensions, in packs where all lines allow it") {
  check_transpose<bf16, 2>({3, 66, 70}, 1);
  check_transpose<bf16, 2>({66, 3, 70}, 0);
  check_transpose<bf16, 2>({2, 4, 3, 66}, 1);
  check_transpose<float, 1>({5, 33, 2, 67}, 1);
  Transposed<bf16> odd({3, 65, 70}, 1), aligned({3, 66, 70}, 1);
  const Buffer<bf16> buffer(1);
  for (Transposed<bf16>* problem : {&odd, &aligned}) problem->kernel.x = problem->kernel.y = buffer.data;
  CHECK(!transpose_is_packed(odd.kernel));
  CHECK(transpose_is_packed(aligned.kernel));
  aligned.kernel.x = buffer.data + 1;
  CHECK(!transpose_is_packed(aligned.kernel));
}

TEST_CASE("tuned sums of lines: one column or four to a thread") {
  for (const int64_t inner : {96, 256, 1024, 1100}) {
    check_columns<bf16, 4>(1, 37, inner, 16);
    check_columns<bf16, 1>(2, 16, inner + 1, 16);
    check_columns<float, 1>(3, 5, inner, 16);
  }
  check_columns<double, 1>(1, 9, 300, 4);
}

TEST_CASE("tuned sums and cross entropy: a warp to a row") {
  for (const int64_t cols : {8, 16, 256, 264, 1024, 1032, 2056}) {
    check_rows<bf16>(7, cols);
    check_rows<float>(7, cols);
  }
  check_rows<float>(3, 4);
}
