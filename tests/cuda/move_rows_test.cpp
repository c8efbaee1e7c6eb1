// SPDX-License-Identifier: Apache-2.0
// The kernels that move rows by 16 bytes, run by the block emulator against the generic ones.
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "cuda/tuned/move_rows.cuh"
#include "tests/cuda/block_emulator.h"
#include "tests/cuda/buffer.h"

using namespace moxie;
using namespace moxie::cuda;

namespace {

// Two warps, row by row in turns.
template <class Kernel> void run_packed(const Kernel& kernel, int64_t rows) {
  const bool packed = with_packed(kernel, [&](const auto& form) {
    emulate({.threads = 2 * warp_size}, [&] {
      for (int64_t row = warp_index(); row < rows; row += 2) form(row);
    });
  });
  CHECK(packed);
}
template <class Kernel> void run_serial(const Kernel& kernel, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) kernel(SerialTeam(), row);
}
template <class T> double at(const Buffer<T>& buffer, int64_t i) {
  return static_cast<double>(static_cast<float>(buffer.data[i]));
}
template <class T> void check_equal(const Buffer<T>& made, const Buffer<T>& wanted, int64_t count, const char* what) {
  for (int64_t i = 0; i < count; ++i)
    if (at(made, i) != doctest::Approx(at(wanted, i)).epsilon(std::is_same_v<T, bf16> ? 8e-3 : 1e-5))
      CHECK_MESSAGE(false, what, " ", i, ": ", at(made, i), " instead of ", at(wanted, i));
}

// A slot for each assignment, in no order.
Buffer<int32_t> slots(int64_t count) {
  Buffer<int32_t> slot(count);
  std::iota(slot.data, slot.data + count, 0);
  std::shuffle(slot.data, slot.data + count, std::mt19937(5));
  return slot;
}

template <class T> void check_combine(int64_t tokens, int64_t top_k, int64_t cols) {
  CAPTURE(top_k);
  CAPTURE(cols);
  const int64_t slot_count = tokens * top_k;
  const Buffer<T> rows = random_numbers<T>(slot_count * cols), made(tokens * cols), wanted(tokens * cols);
  const Buffer<float> weights = random_numbers<float>(slot_count);
  const Buffer<int32_t> slot = slots(slot_count);
  for (const bool accumulate : {false, true})
    for (const float* weight : {static_cast<const float*>(weights.data), static_cast<const float*>(nullptr)}) {
      for (int64_t i = 0; i < tokens * cols; ++i) made.data[i] = wanted.data[i] = static_cast<T>(3.0f);
      run_serial(moe::Combine<T>{rows.data, weight, slot.data, wanted.data, cols, top_k, accumulate}, tokens);
      run_packed(moe::Combine<T>{rows.data, weight, slot.data, made.data, cols, top_k, accumulate}, tokens);
      check_equal(made, wanted, tokens * cols, "element");
    }
}

template <class T> void check_combine_backward(int64_t tokens, int64_t top_k, int64_t cols) {
  CAPTURE(top_k);
  CAPTURE(cols);
  const int64_t slot_count = tokens * top_k;
  const Buffer<T> rows = random_numbers<T>(slot_count * cols);
  const Buffer<float> weights = random_numbers<float>(slot_count);
  const Buffer<int32_t> slot = slots(slot_count);
  const Buffer<T> dy = random_numbers<T>(tokens * cols), made_rows(slot_count * cols), wanted_rows(slot_count * cols);
  const Buffer<float> made_weights(slot_count), wanted_weights(slot_count);
  for (const bool wants_rows : {false, true})
    for (const bool wants_weights : {false, true}) {
      const auto kernel = [&](const Buffer<T>& drows, const Buffer<float>& dweights) {
        std::fill(drows.data, drows.data + slot_count * cols, static_cast<T>(-1.0f));
        std::fill(dweights.data, dweights.data + slot_count, -1.0f);
        return moe::CombineBackward<T>{rows.data,
                                       weights.data,
                                       slot.data,
                                       dy.data,
                                       wants_rows ? drows.data : nullptr,
                                       wants_weights ? dweights.data : nullptr,
                                       cols,
                                       top_k};
      };
      run_serial(kernel(wanted_rows, wanted_weights), tokens);
      run_packed(kernel(made_rows, made_weights), tokens);
      check_equal(made_rows, wanted_rows, slot_count * cols, "gradient of a row");
      check_equal(made_weights, wanted_weights, slot_count, "gradient of a weight");
    }
}

template <class T> void check_gather(int64_t rows, int64_t cols) {
  CAPTURE(cols);
  const Buffer<T> x = random_numbers<T>(rows * cols), made(rows * cols), wanted(rows * cols);
  const Buffer<int32_t> index = slots(rows);
  run_serial(GatherRows<T>{x.data, index.data, wanted.data, cols}, rows);
  run_packed(GatherRows<T>{x.data, index.data, made.data, cols}, rows);
  for (int64_t i = 0; i < rows * cols; ++i)
    if (made.data[i] != wanted.data[i]) CHECK_MESSAGE(false, "element ", i);
}

}  // namespace

TEST_CASE("tuned combine: a warp to a token, every number of rows that has a form") {
  for (const int64_t top_k : {1, 2, 3, 4, 6, 8})
    for (const int64_t cols : {8, 264, 2056, 4096}) {
      check_combine<bf16>(5, top_k, cols);
      check_combine<float>(5, top_k, cols);
    }
  check_combine<float>(3, 2, 12);
  for (const int64_t top_k : {1, 2, 3, 4, 5, 6, 8, 10})
    for (const int64_t cols : {8, 264, 2056, 4096}) {
      check_combine_backward<bf16>(5, top_k, cols);
      check_combine_backward<float>(5, top_k, cols);
    }
  check_combine_backward<float>(3, 2, 12);
  const auto none = [](const auto&) {};
  const Buffer<bf16> buffer(64);
  const moe::Combine<bf16> five{buffer.data, nullptr, nullptr, buffer.data, 8, 5, false},
      narrow{buffer.data, nullptr, nullptr, buffer.data, 4, 2, false},
      shifted{buffer.data + 1, nullptr, nullptr, buffer.data, 8, 2, false};
  for (const moe::Combine<bf16>* kernel : {&five, &narrow, &shifted}) CHECK(!with_packed(*kernel, none));
  const moe::CombineBackward<bf16> misplaced{buffer.data, nullptr, nullptr, buffer.data + 1, nullptr, nullptr, 8, 2};
  CHECK(!with_packed(misplaced, none));
}

TEST_CASE("tuned gather: rows of any type by 16 bytes") {
  check_gather<bf16>(9, 8);
  check_gather<bf16>(7, 2200);
  check_gather<float>(5, 1028);
  check_gather<double>(5, 34);
  check_gather<uint8_t>(11, 48);
  check_gather<int32_t>(3, 4);
  const auto none = [](const auto&) {};
  const Buffer<uint8_t> buffer(64);
  CHECK(!with_packed(GatherRows<uint8_t>{buffer.data, nullptr, buffer.data, 24}, none));
  CHECK(!with_packed(GatherRows<uint8_t>{buffer.data + 8, nullptr, buffer.data, 16}, none));
}
