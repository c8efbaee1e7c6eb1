// SPDX-License-Identifier: Apache-2.0
#include "cuda/tuned/transpose.cuh"

#include "cuda/launch.cuh"

namespace moxie::cuda {
namespace {

template <class Form, class T> __global__ void __launch_bounds__(transpose_threads) transpose(TransposeCopy<T> kernel) {
  __shared__ typename Form::Memory memory;
  transpose_tile<Form>(kernel, memory);
}

template <class Form, class T> void launch(int device, const TransposeCopy<T>& kernel, int64_t rows, int64_t cols) {
  const int64_t tiles = kernel.all_tiles(Form::high, Form::wide);
  if (tiles > std::numeric_limits<int32_t>::max()) return launch_rows(device, kernel, rows, cols);
  const dim3 blocks(static_cast<unsigned>(tiles));
  transpose<Form><<<blocks, transpose_threads, 0, stream(device)>>>(kernel);
  check_launch(device, __PRETTY_FUNCTION__, {blocks, transpose_threads});
}

}  // namespace

#define MOXIE_TRANSPOSE(T)                                                                            \
  template <> void for_rows(int device, const TransposeCopy<T>& kernel, int64_t rows, int64_t cols) { \
    PackedTranspose<T>::fits(kernel) ? launch<PackedTranspose<T>>(device, kernel, rows, cols)         \
                                     : launch<PlainTranspose<T>>(device, kernel, rows, cols);         \
  }
MOXIE_TRANSPOSE(double)
MOXIE_TRANSPOSE(float)
MOXIE_TRANSPOSE(bf16)
MOXIE_TRANSPOSE(int32_t)
MOXIE_TRANSPOSE(uint8_t)

}  // namespace moxie::cuda
