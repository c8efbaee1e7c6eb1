// SPDX-License-Identifier: Apache-2.0
// The tuned kernels that move several short numbers at once, run by the block emulator against the generic ones.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "cuda/tuned/chunk_sum.cuh"
#include "cuda/tuned/cross_entropy.cuh"
#include "cuda/tuned/rms_norm_backward.cuh"
#include "cuda/tuned/rope.cuh"
#include "cuda/tuned/transpose.cuh"
#include "tests/cuda/block_emulator.h"
#include "tests/cuda/buffer.h"

using namespace moxie;
using namespace moxie::cuda;

namespace {

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

template <class Form, class T>
void check_transpose(const std::vector<int64_t>& sizes, int across, int64_t skipped = 0) {
  CAPTURE(sizes.size());
  CAPTURE(sizes.back());
  CAPTURE(sizes[static_cast<size_t>(across)]);
  Transposed<T> problem(sizes, across);
  const Buffer<T> x = random_numbers<T>(problem.count, skipped);
  const Buffer<T> wanted(problem.count), y(problem.count, skipped);
  problem.kernel.x = x.data;
  problem.kernel.y = wanted.data;
  for (int64_t row = 0; row < problem.kernel.all_tiles(); ++row) problem.kernel(SerialTeam(), row);
  problem.kernel.y = y.data;
  if (std::is_same_v<Form, PackedTranspose<T>>) REQUIRE(PackedTranspose<T>::fits(problem.kernel));
  const auto tiles = static_cast<int>(problem.kernel.all_tiles(Form::high, Form::wide));
  for (const auto order : {Emulation::Order::forward, Emulation::Order::backward, Emulation::Order::shuffled}) {
    for (int64_t i = 0; i < problem.count; ++i) y.data[i] = static_cast<T>(255.0f);
    using Memory = typename Form::Memory;
    emulate({.blocks = tiles, .threads = transpose_threads, .shared_bytes = sizeof(Memory), .order = order},
            [&] { transpose_tile<Form>(problem.kernel, *reinterpret_cast<Memory*>(dynamic_shared_memory())); });
    int64_t different = 0;
    for (int64_t i = 0; i < problem.count; ++i) different += y.data[i] != wanted.data[i];
    CHECK(different == 0);
  }
}
template <class T> void check_plain(const std::vector<int64_t>& sizes, int across, int64_t skipped = 0) {
  check_transpose<PlainTranspose<T>, T>(sizes, across, skipped);
}
template <class T> void check_packed(const std::vector<int64_t>& sizes, int across) {
  check_transpose<PackedTranspose<T>, T>(sizes, across);
}

template <class T> void check_sums(const ChunkSum<T>& kernel, int64_t rows) {
  const int64_t inner = kernel.inner, n = kernel.n;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < inner; ++col) {
      double wanted = 0;
      const int64_t first = row % kernel.chunks * kernel.chunk;
      for (int64_t k = first; k < std::min(first + kernel.chunk, n); ++k)
        wanted += static_cast<double>(static_cast<float>(kernel.x[(row / kernel.chunks * n + k) * inner + col]));
      if (static_cast<double>(kernel.y[row * inner + col]) != doctest::Approx(wanted).epsilon(1e-6))
        CHECK_MESSAGE(false, "row ", row, " column ", col);
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
  check_sums(kernel, rows);
  for (int64_t i = 0; i < rows * inner; ++i) y.data[i] = -1;
  emulate({.blocks = 2, .threads = sharing_threads, .shared_bytes = sizeof(SharingMemory<T>)}, [&] {
    auto& memory = *reinterpret_cast<SharingMemory<T>*>(dynamic_shared_memory());
    for (int64_t strip = 0; strip * warp_size < inner; ++strip)
      sum_shared_columns<T>(kernel, rows, block_index(), grid_blocks(), strip, memory);
  });
  check_sums(kernel, rows);
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
  const Buffer<T> logits(rows * cols), gradient(rows * cols);
  for (int64_t i = 0; i < rows * cols; ++i) logits.data[i] = gradient.data[i] = x.data[i];
  const Buffer<float> block_loss(rows), block_counted(rows), serial_loss(rows), serial_counted(rows);
  const CrossEntropyInPlace<T> in_place{logits.data, targets.data, block_loss.data, block_counted.data, cols, -100};
  const CrossEntropyInPlace<T> serial{gradient.data, targets.data, serial_loss.data, serial_counted.data, cols, -100};
  emulate({.threads = loss_threads, .shared_bytes = sizeof(LossMemory)}, [&] {
    auto& memory = *reinterpret_cast<LossMemory*>(dynamic_shared_memory());
    for (int64_t row = 0; row < rows; ++row) cross_entropy_in_place(in_place, row, memory);
  });
  for (int64_t row = 0; row < rows; ++row) serial(SerialTeam(), row);
  for (int64_t i = 0; i < rows * cols; ++i) {
    const auto got = static_cast<double>(static_cast<float>(logits.data[i])),
               wanted = static_cast<double>(static_cast<float>(gradient.data[i]));
    if (got != doctest::Approx(wanted).epsilon(std::is_same_v<T, bf16> ? 8e-3 : 2e-5).scale(1e-3))
      CHECK_MESSAGE(false, "gradient ", i, ": ", got, " instead of ", wanted);
  }
  const Buffer<float> by_block(rows);
  const ChunkSum<T> block_sum{x.data, by_block.data, cols, 1, cols, 1};
  emulate({.threads = row_threads, .shared_bytes = sizeof(RowMemory)}, [&] {
    auto& memory = *reinterpret_cast<RowMemory*>(dynamic_shared_memory());
    for (int64_t row = 0; row < rows; ++row) sum_row_by_block(block_sum, row, memory);
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
    for (const Buffer<float>* losses : {&block_loss, &serial_loss})
      CHECK(static_cast<double>(losses->data[row]) ==
            doctest::Approx(static_cast<double>(loss.data[row])).epsilon(1e-5));
    for (const Buffer<float>* counts : {&block_counted, &serial_counted}) CHECK(counts->data[row] == counted.data[row]);
    CHECK(static_cast<double>(sums.data[row]) == doctest::Approx(plain).epsilon(1e-5));
    CHECK(static_cast<double>(by_block.data[row]) == doctest::Approx(plain).epsilon(1e-5));
  }
}

// `packs` packs to a thread of a warp or block is what these columns should get.
template <class T>
void check_norm_backward(int64_t rows, int64_t cols, int64_t chunk, int wanted_packs, bool wanted_block) {
  CAPTURE(rows);
  CAPTURE(cols);
  const int64_t chunks = (rows + chunk - 1) / chunk;
  const Buffer<T> x = random_numbers<T>(rows * cols), dy = random_numbers<T>(rows * cols),
                  more = random_numbers<T>(rows * cols), wanted(rows * cols), made(rows * cols);
  const Buffer<float> weight = random_numbers<float>(cols), rstd = random_numbers<float>(rows),
                      wanted_sums(chunks * cols), sums(chunks * cols);
  for (const T* added :
       {static_cast<const T*>(nullptr), static_cast<const T*>(more.data), static_cast<const T*>(made.data)}) {
    RmsNormBackwardChunk<T> kernel{
        {x.data, weight.data, rstd.data, dy.data, added, wanted.data, cols}, wanted_sums.data, rows, chunk};
    for (int64_t i = 0; i < rows * cols; ++i) made.data[i] = more.data[i];
    for (int64_t i = 0; i < chunks; ++i) kernel(SerialTeam(), i);
    kernel.norm.dx = made.data, kernel.partial = sums.data;
    const bool launched = with_norm_backward(kernel.norm, [&]<int packs, bool by_block>() {
      CHECK(packs == wanted_packs);
      CHECK(by_block == wanted_block);
      using Norm = NormBackward<T, packs, by_block>;
      using Memory = Norm::Memory;
      emulate({.blocks = static_cast<int>(chunks), .threads = norm_threads, .shared_bytes = sizeof(Memory)},
              [&] { Norm::run(kernel, block_index(), *reinterpret_cast<Memory*>(dynamic_shared_memory())); });
    });
    CHECK(launched);
    const auto at = [](const Buffer<T>& buffer, int64_t i) {
      return static_cast<double>(static_cast<float>(buffer.data[i]));
    };
    for (int64_t i = 0; i < rows * cols; ++i)
      if (at(made, i) != doctest::Approx(at(wanted, i)).epsilon(std::is_same_v<T, bf16> ? 8e-3 : 1e-5).scale(0.1))
        CHECK_MESSAGE(false, "dx ", i, ": ", at(made, i), " instead of ", at(wanted, i));
    for (int64_t i = 0; i < chunks * cols; ++i)
      if (static_cast<double>(sums.data[i]) !=
          doctest::Approx(static_cast<double>(wanted_sums.data[i])).epsilon(1e-5).scale(0.1))
        CHECK_MESSAGE(false, "the weight's gradient ", i, ": ", sums.data[i], " instead of ", wanted_sums.data[i]);
  }
}

// Of [rows, heads, head_dim] the first `turned` heads.
template <class T> void check_rope(int64_t rows, int64_t heads, int64_t turned, int64_t head_dim, bool accumulate) {
  CAPTURE(heads);
  CAPTURE(head_dim);
  const int64_t time = 3, count = rows * heads * head_dim, angles = time * head_dim / 2;
  const Buffer<T> x = random_numbers<T>(count), wanted = random_numbers<T>(count), y = random_numbers<T>(count);
  const Buffer<float> cosine = random_numbers<float>(angles), sine(angles);
  for (int64_t i = 0; i < angles; ++i) sine.data[i] = static_cast<float>(i % 7) - 3;
  Rope<T> kernel{x.data, wanted.data, cosine.data, sine.data, time, heads, turned, head_dim, -1, accumulate};
  for (int64_t row = 0; row < rows; ++row) kernel(SerialTeam(), row);
  kernel.y = y.data;
  REQUIRE(PackedRope<T>::fits(kernel));
  const PackedRope<T> packed(kernel);
  const auto threads = static_cast<uint32_t>(packed.threads(rows));
  for (uint32_t i = 0; i < threads + 5; ++i) packed(i, threads);
  for (int64_t i = 0; i < count; ++i) {
    const double difference = static_cast<double>(static_cast<float>(y.data[i]) - static_cast<float>(wanted.data[i]));
    // the CPU may round products once where the other form rounds them twice
    if (std::abs(difference) > std::abs(static_cast<double>(static_cast<float>(wanted.data[i]))) / 128 + 1e-4)
      CHECK_MESSAGE(false, "element ", i, " differs by ", difference);
  }
}

}  // namespace

TEST_CASE("tuned RMSNorm: backward with the weight's gradient, by chunks of rows") {
  check_norm_backward<bf16>(37, 768, 16, 3, false);
  check_norm_backward<bf16>(5, 8, 32, 1, false);
  check_norm_backward<bf16>(20, 1000, 32, 4, false);
  check_norm_backward<bf16>(3, 1032, 2, 1, true);
  check_norm_backward<float>(33, 256, 32, 2, false);
  check_norm_backward<float>(5, 1028, 4, 2, true);
  check_norm_backward<float>(2, 4096, 2, 4, true);
  const RmsNormBackward<bf16> empty{};
  const auto none = []<int, bool> {};
  for (const int64_t cols : {12, 8200}) {
    RmsNormBackward<bf16> unfit = empty;
    unfit.cols = cols;
    CHECK(!with_norm_backward(unfit, none));
  }
  RmsNormBackward<bf16> shifted = empty;
  const Buffer<bf16> buffer(16);
  shifted.cols = 8, shifted.added = buffer.data + 1;
  CHECK(!with_norm_backward(shifted, none));
}

TEST_CASE("tuned rope: packs of two heads") {
  for (const bool accumulate : {false, true}) {
    check_rope<bf16>(7, 4, 4, 64, accumulate);
    check_rope<bf16>(4, 5, 3, 16, accumulate);
    check_rope<bf16>(2, 1, 1, 48, accumulate);
    check_rope<float>(7, 6, 2, 8, accumulate);
    check_rope<float>(3, 3, 0, 24, accumulate);
  }
  Rope<bf16> kernel{nullptr, nullptr, nullptr, nullptr, 1, 1, 1, 24, 1, false};
  CHECK(!PackedRope<bf16>::fits(kernel));
}

TEST_CASE("tuned transpose: tiles and their edges, alone and in packs") {
  for (const int64_t rows : {1, 64, 65})
    for (const int64_t cols : {1, 63, 129}) check_plain<bf16>({rows, cols}, 0);
  check_plain<float>({70, 131}, 0, 1);
  check_plain<double>({66, 65}, 0);
  check_plain<int32_t>({65, 64}, 0);
  check_plain<uint8_t>({65, 67}, 0);
  check_plain<bf16>({72, 64}, 0, 1);  // not aligned
  for (const int64_t rows : {16, 64, 144})
    for (const int64_t cols : {48, 208}) {
      check_packed<bf16>({rows + 8, cols}, 0);
      check_packed<float>({rows + 4, cols}, 0);
      check_packed<int32_t>({rows, cols + 4}, 0);
      check_packed<double>({rows + 2, cols}, 0);
      check_packed<uint8_t>({rows, cols}, 0);
    }
}

TEST_CASE("tuned transpose: more dimensions, in packs where all lines allow it") {
  check_packed<bf16>({3, 64, 72}, 1);
  check_packed<bf16>({72, 3, 64}, 0);
  check_packed<float>({2, 4, 3, 68}, 1);
  check_plain<float>({5, 33, 2, 67}, 1);
  Transposed<bf16> odd({3, 68, 72}, 1), aligned({3, 64, 72}, 1);
  const Buffer<bf16> buffer(1);
  for (Transposed<bf16>* problem : {&odd, &aligned}) problem->kernel.x = problem->kernel.y = buffer.data;
  CHECK(!PackedTranspose<bf16>::fits(odd.kernel));
  CHECK(PackedTranspose<bf16>::fits(aligned.kernel));
  aligned.kernel.x = buffer.data + 1;
  CHECK(!PackedTranspose<bf16>::fits(aligned.kernel));
}

TEST_CASE("tuned sums of lines: one column or four to a thread") {
  for (const int64_t inner : {96, 256, 1024, 1100}) {
    check_columns<bf16, 4>(1, 37, inner, 16);
    check_columns<bf16, 1>(2, 16, inner + 1, 16);
    check_columns<float, 1>(3, 5, inner, 16);
  }
  check_columns<double, 1>(1, 9, 300, 4);
  check_columns<float, 1>(2, 100, 5, 64);
  check_columns<bf16, 1>(1, 300, 33, 300);
}

TEST_CASE("tuned sums and cross entropy: a warp to a row") {
  for (const int64_t cols : {8, 16, 256, 264, 1024, 1032, 2056}) {
    check_rows<bf16>(7, cols);
    check_rows<float>(7, cols);
  }
  check_rows<float>(3, 4);
}
