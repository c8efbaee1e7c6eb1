// SPDX-License-Identifier: Apache-2.0
// The device, its one stream, and checks on every call of CUDA.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "core/cuda.h"

namespace moxie::cuda {

// Makes `device` the calling thread's current one and returns the stream on which all of moxie's work on it is queued.
// The first call sets the device up; throws CudaError where there is no usable one, std::invalid_argument for an index
// beyond those there are.
cudaStream_t stream(int device);

// What is known about a device, after stream(device).
struct Properties {
  int multiprocessors = 0;
  int capability = 0;           // 80 for compute capability 8.0
  int shared_memory_limit = 0;  // bytes of shared memory that one block may ask for
};
const Properties& properties(int device);

// Throws CudaError with the name of the call; out-of-range indices that a kernel has found come first.
[[noreturn]] void throw_error(cudaError_t error, const char* call);
inline void check(cudaError_t error, const char* call) {
  if (error != cudaSuccess) [[unlikely]]
    throw_error(error, call);
}

// The shape of a launch.
struct LaunchShape {
  unsigned grid[3] = {1, 1, 1};
  unsigned block[3] = {1, 1, 1};
  size_t shared_memory = 0;

  LaunchShape(dim3 blocks, dim3 threads, size_t bytes = 0)
      : grid{blocks.x, blocks.y, blocks.z}, block{threads.x, threads.y, threads.z}, shared_memory(bytes) {}
};

// Throws CudaError, with the kernel's name and the launch's shape, where `error` says that it was refused.
void check_launch(cudaError_t error, int device, const char* kernel, const LaunchShape& shape);
// To be called right after a launch on stream(device). With MOXIE_CUDA_SYNC=1 in the environment it also waits for the
// kernel, so that an error inside it is thrown here, by name, and not by a later call. Inline, since a program and a
// shared library may each have a CUDA runtime of their own, which know their own launches.
inline void check_launch(int device, const char* kernel, const LaunchShape& shape) {
  check_launch(cudaGetLastError(), device, kernel, shape);
}

}  // namespace moxie::cuda

// Checks a call of the CUDA runtime: MOXIE_CUDA_CHECK(cudaMemcpyAsync(...)).
#define MOXIE_CUDA_CHECK(...) ::moxie::cuda::check((__VA_ARGS__), #__VA_ARGS__)
