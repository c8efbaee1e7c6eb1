// SPDX-License-Identifier: Apache-2.0
// Launches the kernels of the grouped matmul, and chooses among those for tensor cores.
#pragma once
#include <atomic>

#include "cuda/grouped_gemm_kernel.cuh"
#include "cuda/runtime.h"
#include "cuda/warpgroup.cuh"

namespace moxie::cuda {

template <class Kernel, int per_multiprocessor>
__global__ void __launch_bounds__(Kernel::threads, per_multiprocessor)
    run_tiles(const __grid_constant__ Kernel kernel) {
  kernel();
}

// As many blocks as the device runs at once go through all tiles.
template <int per_multiprocessor, class Kernel> void launch_tiles(int device, const char* name, const Kernel& kernel) {
  const cudaStream_t on = stream(device);
  static std::atomic<uint64_t> prepared = 0;  // a bit for each device
  const uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
  if ((prepared.load() & bit) == 0) {
    MOXIE_CUDA_CHECK(cudaFuncSetAttribute(run_tiles<Kernel, per_multiprocessor>,
                                          cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          static_cast<int>(Kernel::shared_bytes)));
    prepared |= bit;
  }
  const dim3 blocks(static_cast<unsigned>(properties(device).multiprocessors * per_multiprocessor)),
      threads(Kernel::threads);
  run_tiles<Kernel, per_multiprocessor><<<blocks, threads, Kernel::shared_bytes, on>>>(kernel);
  check_launch(device, name, {blocks, threads, Kernel::shared_bytes});
}

// Whether the device has Hopper's instructions for warpgroups, and this program was compiled for them.
bool has_warpgroups(int device);

// The kernels for tensor cores. 256 columns give each byte that is copied the most products; 128, two blocks at a time,
// let one block multiply while the other one finishes its tile.
using WideTile = WarpgroupMultiply<128, 256>;
using NarrowTile = WarpgroupMultiply<128, 128, 1>;
using WarpsTile = WarpMultiply<128, 128>;

// A grouped product on tensor cores. Sizes are multiples of 8 and all rows are aligned to 16 bytes. Returns the number
// of columns of which a warp has the sums, which a finish may want to know.
template <Form form, class Finish>
int launch_tensor(int device, const char* name, const GroupedOperands<bf16>& operands, const Finish& finish) {
  const int cols = Finish::paired ? 2 * operands.n : operands.n;
  // A finish that reads much is best hidden behind another block's products, unless these are many.
  const bool wide = cols > 128 && (!Finish::reads || operands.k >= 2048);
  const auto launch = [&]<class Multiply, int stages, int per_multiprocessor>() {
    launch_tiles<per_multiprocessor>(device, name, GroupedKernel<Multiply, form, Finish, stages>{operands, finish});
    return 8 * Multiply::cols8;
  };
  if (!has_warpgroups(device)) return launch.template operator()<WarpsTile, 3, 2>();
  if (wide) return launch.template operator()<WideTile, 4, 1>();
  return launch.template operator()<NarrowTile, 3, 2>();
}

// Compiled once for each form and type of C, in grouped_gemm_tensor_*.cu.
template <Form form, class Out>
void grouped_tensor(int device, const GroupedOperands<bf16>& operands, Out* c, int64_t ldc, int64_t stride_c,
                    bool accumulate);
// The same without tensor cores, for any operands.
template <Form form, class T, class Out>
void grouped_plain(int device, const GroupedOperands<T>& operands, Out* c, int64_t ldc, int64_t stride_c,
                   bool accumulate);

}  // namespace moxie::cuda
