// SPDX-License-Identifier: Apache-2.0
// The emulator itself: what its functions compute, and that it shows what is wrong with a kernel.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/check.h"
#include "cuda/intrinsics.cuh"
#include "tests/cuda/block_emulator.h"

using namespace moxie;
using namespace moxie::cuda;

namespace {

#ifdef __SANITIZE_THREAD__
constexpr bool thread_sanitizer = true;
#else
constexpr bool thread_sanitizer = false;
#endif

std::string error_of(const Emulation& emulation, const std::function<void()>& kernel) {
  try {
    emulate(emulation, kernel);
  } catch (const std::logic_error& error) {
    return error.what();
  }
  return "";
}

// For kernels, whose threads are no threads to doctest's counters.
void expect(bool condition) { check_internal(condition, "a thread saw something else"); }

std::vector<bf16> random_bf16(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<bf16> values;
  for (size_t i = 0; i < count; ++i) values.emplace_back(normal(random));
  return values;
}

}  // namespace

TEST_CASE("emulator: every thread of every block runs once, with its place") {
  std::vector<int> count(3 * 2 * 64, 0);
  emulate({.blocks = 3, .blocks_y = 2, .threads = 64}, [&] {
    expect(threads_of_block() == 64);
    expect(grid_blocks() == 3);
    expect(warp_index() * 32 + lane_index() == thread_index());
    ++count[static_cast<size_t>((block_index_y() * 3 + block_index()) * 64 + thread_index())];
  });
  for (const int runs : count) CHECK(runs == 1);
}

TEST_CASE("emulator: shuffles, and a sum of the block through shared memory") {
  emulate_all(
      {.threads = 96, .shared_bytes = 3 * sizeof(float)},
      [] {
        float sum = static_cast<float>(thread_index());
        for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
        expect(shuffle(thread_index(), 5) == warp_index() * 32 + 5);
        float* parts = reinterpret_cast<float*>(dynamic_shared_memory());
        if (lane_index() == 0) parts[warp_index()] = sum;
        sync_threads();
        expect(parts[0] + parts[1] + parts[2] == 95 * 96 / 2);
      },
      [] {});
}

TEST_CASE("emulator: C = A B by load_matrices and multiply_add") {
  // A [16, 16] row-major, B [16, 8] both as [k, n] (transposed on loading) and as [n, k]
  const std::vector<bf16> a = random_bf16(256, 1), b = random_bf16(128, 2);
  for (const bool transposed : {false, true}) {
    std::vector<float> c(128, NAN);
    emulate({.threads = 32, .shared_bytes = 1024}, [&] {
      bf16* shared_a = reinterpret_cast<bf16*>(dynamic_shared_memory());
      bf16* shared_b = shared_a + 256;
      for (int i = lane_index(); i < 256; i += 32) shared_a[i] = a[static_cast<size_t>(i)];
      for (int i = lane_index(); i < 128; i += 32) {
        const int k = i / 8, n = i % 8;
        shared_b[transposed ? i : n * 16 + k] = b[static_cast<size_t>(i)];
      }
      sync_warp();
      uint32_t fragment_a[4], fragment_b[4];
      const int lane = lane_index();
      load_matrices(fragment_a, shared_address(shared_a + lane % 16 * 16 + lane / 16 * 8));
      if (transposed) {
        load_matrices_transposed(fragment_b, shared_address(shared_b + lane % 16 * 8));
      } else {
        load_matrices(fragment_b, shared_address(shared_b + lane % 8 * 16 + lane / 8 % 2 * 8));
      }
      float sum[4] = {};
      multiply_add(sum, fragment_a, fragment_b[0], fragment_b[1]);
      for (int i = 0; i < 4; ++i) c[static_cast<size_t>((lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2)] = sum[i];
    });
    for (size_t m = 0; m < 16; ++m) {
      for (size_t n = 0; n < 8; ++n) {
        double sum = 0;
        for (size_t k = 0; k < 16; ++k) sum += static_cast<double>(a[m * 16 + k]) * static_cast<double>(b[k * 8 + n]);
        CHECK(static_cast<double>(c[m * 8 + n]) == doctest::Approx(sum).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("emulator: a copy arrives at its wait, with zeros where it is not valid") {
  std::vector<bf16> from = random_bf16(32 * 8, 3);
  alignas(16) Vector16 source[32];
  std::memcpy(source, from.data(), sizeof(source));
  emulate_all(
      {.threads = 32, .shared_bytes = 512},
      [&] {
        const uint32_t to = shared_address(dynamic_shared_memory()) + 16 * static_cast<uint32_t>(thread_index());
        copy_async_16(to, source + thread_index(), thread_index() != 7);
        copy_async_commit();
        copy_async_wait<0>();
        sync_threads();
        const int other = (thread_index() + 9) % 32;
        const auto* seen = reinterpret_cast<const Vector16*>(dynamic_shared_memory()) + other;
        for (int i = 0; i < 4; ++i) expect(seen->word[i] == (other == 7 ? 0u : source[other].word[i]));
      },
      [] {});
}

TEST_CASE("emulator: late copies and the order of threads show missing waits and syncs") {
  alignas(16) Vector16 source[32] = {};
  const auto wrong = [&](Emulation emulation, bool waits, bool syncs) {
    std::vector<int> seen_wrong(32);
    emulate(emulation, [&] {
      auto* shared = reinterpret_cast<Vector16*>(dynamic_shared_memory());
      const int me = thread_index();
      copy_async_16(shared_address(shared + me), source + me, true);
      copy_async_commit();
      if (waits) copy_async_wait<0>();
      if (syncs) sync_threads();
      seen_wrong[static_cast<size_t>(me)] = shared[31 - me].word[0] != 0;
      copy_async_wait<0>();
    });
    return std::accumulate(seen_wrong.begin(), seen_wrong.end(), 0);
  };
  const Emulation base{.threads = 32, .shared_bytes = 512};
  CHECK(wrong(base, true, true) == 0);
  if (thread_sanitizer) return;  // it sees those that follow, too
  CHECK(wrong(base, false, true) > 0);
  CHECK(wrong(base, true, false) > 0);
  Emulation early = base;
  early.late = false;
  CHECK(wrong(early, false, true) == 0);
  CHECK(wrong(early, true, false) > 0);
}

// For ThreadSanitizer's build, which runs it by itself and must find it (tests/CMakeLists.txt). No order of the threads
// shows it: a shuffle makes them wait for each other, but orders no memory.
TEST_CASE("emulator: a race" * doctest::skip()) {
  emulate({.threads = 32, .shared_bytes = 4}, [] {
    int* shared = reinterpret_cast<int*>(dynamic_shared_memory());
    if (lane_index() == 0) *shared = 1;
    shuffle(0, 0);
    expect(*shared == 1);
  });
}

TEST_CASE("emulator: what a GPU would answer with garbage is an error") {
  CHECK(error_of({.threads = 32, .shared_bytes = 64}, [] {
          shared_pointer<uint32_t>(shared_address(dynamic_shared_memory()) + 64);
        }) == "emulate: 4 bytes at shared address 64 are outside of the 64 bytes there are");
  CHECK(error_of({.threads = 32, .shared_bytes = 64}, [] {
          copy_async_16(shared_address(dynamic_shared_memory()) + 8, nullptr, false);
        }) == "emulate: shared address 8 is not aligned to 16");
  alignas(16) Vector16 source[2] = {};
  CHECK(error_of({.threads = 32, .shared_bytes = 64}, [&] {
          copy_async_16(shared_address(dynamic_shared_memory()), &source[0].word[1], true);
        }) == "emulate: a copy's source is not aligned to 16");
  CHECK(error_of({.threads = 32, .shared_bytes = 64}, [] {
          copy_async_16(shared_address(dynamic_shared_memory()), nullptr, false);
          copy_async_commit();
        }) == "emulate: thread 0 ends with work that it did not wait for");
  CHECK(error_of({.threads = 32}, [] {
          if (lane_index() == 3)
            sync_warp();
          else
            shuffle(1, 0);
        }) == "emulate: threads 3 and 31 of a warp call different functions");
  CHECK(error_of({.threads = 64}, [] {
          if (warp_index() == 0) sync_threads();
        }) == "emulate: all threads of block 0 wait for each other, 0 for their warp, 32 for the block, 32 have ended");
  CHECK_THROWS_WITH_AS(sync_threads(), "emulate: a kernel's function was called outside of emulate()",
                       std::logic_error);
  CHECK_THROWS_WITH_AS(emulate({.threads = 33}, [] {}), "emulate: threads must be a multiple of 32, got 33",
                       std::invalid_argument);
}
