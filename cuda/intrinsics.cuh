// SPDX-License-Identifier: Apache-2.0
// The GPU's instructions that moxie's own kernels use, as functions. nvcc compiles the device form. A plain C++
// compiler gets a CPU form of the same functions, with which tests/cuda/block_emulator.h runs the threads of a block
// through the very same kernel source, so that index arithmetic and synchronisation are proved without a GPU.
//
// Shared memory is addressed by 32-bit numbers, as the instructions want it; shared_pointer() gives ordinary access.
// Every function marked "whole warp" is called by all 32 threads of a warp together.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#include "core/dtype.h"
#include "core/macros.h"

// MOXIE_UNROLL before a loop makes indices of register arrays constants.
#ifdef __CUDACC__
#define MOXIE_DEVICE __device__ __forceinline__
#define MOXIE_UNROLL _Pragma("unroll")
#define MOXIE_UNROLL_BY_4 _Pragma("unroll 4")
#define MOXIE_UNROLL_BY_16 _Pragma("unroll 16")
#define MOXIE_DO_NOT_UNROLL _Pragma("unroll 1")
#else
#include "cuda/intrinsics_emulated.h"
#define MOXIE_DEVICE inline
#define MOXIE_UNROLL
#define MOXIE_UNROLL_BY_4
#define MOXIE_UNROLL_BY_16
#define MOXIE_DO_NOT_UNROLL
#endif

namespace moxie::cuda {

inline constexpr int warp_size = 32;

// 16 bytes that move in one instruction.
struct alignas(16) Vector16 {
  uint32_t word[4];
};
// Whether `data` begins where so many bytes can move at once.
inline bool is_aligned(const void* data, size_t bytes = sizeof(Vector16)) {
  return reinterpret_cast<uintptr_t>(data) % bytes == 0;
}

#ifdef __CUDACC__

MOXIE_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
MOXIE_DEVICE int block_index() { return static_cast<int>(blockIdx.x); }
MOXIE_DEVICE int block_index_y() { return static_cast<int>(blockIdx.y); }
MOXIE_DEVICE int threads_of_block() { return static_cast<int>(blockDim.x); }
MOXIE_DEVICE int grid_blocks() { return static_cast<int>(gridDim.x); }

// All threads of the block wait for each other; what they wrote before is seen by all after.
MOXIE_DEVICE void sync_threads() { __syncthreads(); }
// The same for a warp. Whole warp.
MOXIE_DEVICE void sync_warp() { __syncwarp(); }

// The block's dynamic shared memory, aligned to 1,024 bytes.
MOXIE_DEVICE unsigned char* dynamic_shared_memory() {
  extern __shared__ __align__(1024) unsigned char moxie_dynamic_shared_memory[];
  return moxie_dynamic_shared_memory;
}
MOXIE_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
template <class T> MOXIE_DEVICE T* shared_pointer(uint32_t address) {
  return static_cast<T*>(__cvta_shared_to_generic(address));
}

// The value of thread lane ^ mask, and of thread `source` of the warp. Whole warp. T has 4 or 8 bytes.
template <class T> MOXIE_DEVICE T shuffle_xor(T value, int mask) { return __shfl_xor_sync(0xFFFFFFFFu, value, mask); }
template <class T> MOXIE_DEVICE T shuffle(T value, int source) { return __shfl_sync(0xFFFFFFFFu, value, source); }
// The lanes of the warp whose value is this thread's, one bit each. Whole warp.
MOXIE_DEVICE uint32_t match_any(int32_t value) { return __match_any_sync(0xFFFFFFFFu, value); }
MOXIE_DEVICE int count_bits(uint32_t bits) { return __popc(bits); }
// *to += value, for many threads at once. Integers alone: a float's sum would depend on the order.
MOXIE_DEVICE void add_atomically(int32_t* to, int32_t value) { atomicAdd(to, value); }

// Begins to copy 16 bytes (both addresses aligned to 16) past the registers; zeros where `valid` is false, and then
// `global` is not read. Only copies that were committed and waited for have arrived, for the thread that began them:
// others see them after a sync_threads().
MOXIE_DEVICE void copy_async_16(uint32_t shared, const void* global, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(bytes)
               : "memory");
}
// Closes a group: the copies that this thread began since the last commit.
MOXIE_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all but this thread's latest `pending` groups have arrived.
template <int pending> MOXIE_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Loads four 8 x 8 matrices of 16-bit elements. Threads 8 i .. 8 i + 7 give the addresses of the rows of matrix i; of
// each, thread t receives the elements 2 (t % 4) and the next of row t / 4. Whole warp.
MOXIE_DEVICE void load_matrices(uint32_t (&matrix)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
               : "r"(address)
               : "memory");
}
// The same, each matrix transposed: thread t receives rows 2 (t % 4) and the next of column t / 4.
MOXIE_DEVICE void load_matrices_transposed(uint32_t (&matrix)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
               : "r"(address)
               : "memory");
}

// C [16, 8] += A [16, 16] B [16, 8] in f32 from bf16. Whole warp; with g = t / 4 and q = 2 (t % 4) thread t holds
//   a: A[g, q..], A[g + 8, q..], A[g, q + 8..], A[g + 8, q + 8..]   two elements each
//   b: B[q.., g], B[q + 8.., g]                                      two elements each
//   c: C[g, q], C[g, q + 1], C[g + 8, q], C[g + 8, q + 1]
MOXIE_DEVICE void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two floats as bf16, the first in the low half.
MOXIE_DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// Reads of what no thread of the kernel writes; the compiler may move them before any other access.
MOXIE_DEVICE Vector16 load_16(const void* from) {
  Vector16 v;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
      : "l"(from));
  return v;
}
MOXIE_DEVICE float load_float(const float* from) { return __ldg(from); }
// Makes v look new to the compiler: what it unpacked from it is unpacked again, and takes no registers in between.
MOXIE_DEVICE void renew(Vector16& v) {
  asm volatile("" : "+r"(v.word[0]), "+r"(v.word[1]), "+r"(v.word[2]), "+r"(v.word[3]));
}

// 2^x and 1 / x, good to about 2 units in the last place of a float; 2^-inf = 0, 1 / inf = 0.
MOXIE_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
MOXIE_DEVICE float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#else

inline int thread_index() { return emulated::position().thread; }
inline int block_index() { return emulated::position().block; }
inline int block_index_y() { return emulated::position().block_y; }
inline int threads_of_block() { return emulated::position().threads; }
inline int grid_blocks() { return emulated::position().blocks; }

inline void sync_threads() { emulated::sync_threads(); }
inline void sync_warp() { emulated::exchange(emulated::Call::sync_warp, nullptr, 0); }

inline unsigned char* dynamic_shared_memory() { return emulated::shared_memory(); }
inline uint32_t shared_address(const void* pointer) { return emulated::shared_address(pointer); }
template <class T> T* shared_pointer(uint32_t address) {
  return static_cast<T*>(emulated::shared_pointer(address, sizeof(T)));
}

template <class T> T shuffle(T value, int source) {
  return emulated::exchange(emulated::Call::shuffle, &value, sizeof(T)).template of<T>(source % warp_size);
}
template <class T> T shuffle_xor(T value, int mask) {
  return emulated::exchange(emulated::Call::shuffle, &value, sizeof(T))
      .template of<T>(thread_index() % warp_size ^ mask);
}

inline uint32_t match_any(int32_t value) {
  const emulated::Exchanged values = emulated::exchange(emulated::Call::shuffle, &value, sizeof(value));
  uint32_t equal = 0;
  for (int lane = 0; lane < warp_size; ++lane)
    equal |= static_cast<uint32_t>(values.of<int32_t>(lane) == value) << lane;
  return equal;
}
inline int count_bits(uint32_t bits) { return std::popcount(bits); }
inline void add_atomically(int32_t* to, int32_t value) { std::atomic_ref(*to).fetch_add(value); }

inline void copy_async_16(uint32_t shared, const void* global, bool valid) {
  emulated::copy_async(shared, valid ? global : nullptr, 16);
}
inline void copy_async_commit() { emulated::copy_async_commit(); }
template <int pending> void copy_async_wait() { emulated::copy_async_wait(pending); }

inline void load_matrices(uint32_t (&matrix)[4], uint32_t address) { emulated::load_matrices(matrix, address, false); }
inline void load_matrices_transposed(uint32_t (&matrix)[4], uint32_t address) {
  emulated::load_matrices(matrix, address, true);
}
inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulated::multiply_add(c, a, b0, b1);
}

inline uint32_t pack_bf16(float low, float high) {
  return static_cast<uint32_t>(bf16(low).bits) | static_cast<uint32_t>(bf16(high).bits) << 16;
}

inline Vector16 load_16(const void* from) { return *static_cast<const Vector16*>(from); }
inline float load_float(const float* from) { return *from; }
inline void renew(Vector16&) {}

inline float exp2_fast(float x) { return std::exp2(x); }
inline float reciprocal_fast(float x) { return 1 / x; }

#endif

MOXIE_DEVICE int lane_index() { return thread_index() % warp_size; }
MOXIE_DEVICE int warp_index() { return thread_index() / warp_size; }

inline constexpr double log2_e = 1.4426950408889634;  // exp(x) = exp2(x log2_e)

// The two halves of a word of bf16 as floats.
MOXIE_DEVICE float low_bf16(uint32_t packed) { return std::bit_cast<float>(packed << 16); }
MOXIE_DEVICE float high_bf16(uint32_t packed) { return std::bit_cast<float>(packed & 0xFFFF0000u); }

}  // namespace moxie::cuda
