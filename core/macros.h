// SPDX-License-Identifier: Apache-2.0
// Marks functions that run on both the CPU and the GPU.
#pragma once

#ifdef __CUDACC__
#define MOXIE_FN __host__ __device__ __forceinline__
#else
#define MOXIE_FN inline __attribute__((always_inline))
#endif
