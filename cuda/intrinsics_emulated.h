// SPDX-License-Identifier: Apache-2.0
// What the CPU form of cuda/intrinsics.cuh asks of the block emulator. Declared here, defined by
// tests/cuda/block_emulator.cpp: no part of the library.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace moxie::cuda::emulated {

struct Position {
  int thread = 0, threads = 0, block = 0, blocks = 0, block_y = 0;
};
const Position& position();

void sync_threads();

// The functions that a whole warp calls together. Threads of a warp that call different ones are an error.
enum class Call : uint8_t { sync_warp, shuffle, load_matrices, multiply_add };

// What the threads of a warp gave to a call, valid until this thread's next one.
struct Exchanged {
  static constexpr size_t most = 32;
  const unsigned char* values = nullptr;
  template <class T> T of(int lane) const {
    static_assert(sizeof(T) <= most);
    T value;
    std::memcpy(&value, values + static_cast<size_t>(lane) * most, sizeof(T));
    return value;
  }
};
Exchanged exchange(Call call, const void* value, size_t size);

unsigned char* shared_memory();
uint32_t shared_address(const void* pointer);
void* shared_pointer(uint32_t address, size_t size);

void copy_async(uint32_t shared, const void* global, size_t size);  // global null: zeros
void copy_async_commit();
void copy_async_wait(int pending);

void load_matrices(uint32_t (&matrix)[4], uint32_t address, bool transposed);
void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

// Hopper's instructions for four warps (cuda/warpgroup.cuh); sums [cols8][4] of this thread.
void multiply_warpgroup(float* sums, int cols8, uint64_t a, bool a_along_extent, uint64_t b, bool b_along_extent);
void multiply_warpgroup_registers(float* sums, int cols8, const uint32_t (&a)[4], uint64_t b, bool b_along_extent);
void commit_warpgroup();
void wait_warpgroup(int pending);

}  // namespace moxie::cuda::emulated
