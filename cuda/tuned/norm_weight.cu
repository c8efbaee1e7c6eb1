// SPDX-License-Identifier: Apache-2.0
#include "cuda/tuned/norm_weight.cuh"

#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(norm_weight_threads) norm_weight_columns(RmsNormWeightPartial<T> kernel) {
  NormWeightColumns<T>::run(kernel, blockIdx.x, blockIdx.y);
}

template <class T> void launch(int device, const RmsNormWeightPartial<T>& kernel, int64_t rows, int64_t cols) {
  const int64_t strips = NormWeightColumns<T>::strips(kernel);
  if (!NormWeightColumns<T>::fits(kernel) || strips > most_blocks_y || rows > most_blocks)
    return launch_rows(device, kernel, rows, cols);
  if (rows == 0 || strips == 0) return;
  const dim3 blocks(static_cast<unsigned>(rows), static_cast<unsigned>(strips));
  norm_weight_columns<<<blocks, norm_weight_threads, 0, stream(device)>>>(kernel);
  check_launch(device, __PRETTY_FUNCTION__, {blocks, norm_weight_threads});
}

}  // namespace

template <> void for_rows(int device, const RmsNormWeightPartial<float>& kernel, int64_t rows, int64_t cols) {
  launch(device, kernel, rows, cols);
}
template <> void for_rows(int device, const RmsNormWeightPartial<bf16>& kernel, int64_t rows, int64_t cols) {
  launch(device, kernel, rows, cols);
}

}  // namespace moxie::cuda
