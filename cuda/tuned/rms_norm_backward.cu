// SPDX-License-Identifier: Apache-2.0
#include "cuda/tuned/rms_norm_backward.cuh"

#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

template <class T, int packs, bool by_block>
__global__ void __launch_bounds__(norm_threads, (by_block && packs == 4) ? 1 : 2)
    rms_norm_backward(RmsNormBackwardChunk<T> kernel) {
  using Norm = NormBackward<T, packs, by_block>;
  __shared__ typename Norm::Memory memory;
  Norm::run(kernel, blockIdx.x, memory);
}

template <class T> void launch(int device, const RmsNormBackwardChunk<T>& kernel, int64_t chunks, int64_t cols) {
  if (chunks == 0 || kernel.norm.cols == 0) return;
  const bool launched = chunks <= most_blocks && with_norm_backward(kernel.norm, [&]<int packs, bool by_block>() {
                          const dim3 blocks(static_cast<unsigned>(chunks));
                          rms_norm_backward<T, packs, by_block><<<blocks, norm_threads, 0, stream(device)>>>(kernel);
                          check_launch(device, __PRETTY_FUNCTION__, {blocks, norm_threads});
                        });
  if (!launched) launch_rows(device, kernel, chunks, cols);
}

}  // namespace

template <> void for_rows(int device, const RmsNormBackwardChunk<float>& kernel, int64_t rows, int64_t cols) {
  launch(device, kernel, rows, cols);
}
template <> void for_rows(int device, const RmsNormBackwardChunk<bf16>& kernel, int64_t rows, int64_t cols) {
  launch(device, kernel, rows, cols);
}

}  // namespace moxie::cuda
