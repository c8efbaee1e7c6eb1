// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/binary.h"
#include "cuda/launch.cuh"

namespace moxie {

// The gradient of a broadcast operand is summed afterwards, so it is kept in the dtype of sums.
#define MOXIE_CUDA_BROADCAST(...)                                  \
  MOXIE_CUDA_KERNEL(BroadcastBinary<__VA_ARGS__, double, double>); \
  MOXIE_CUDA_KERNEL(BroadcastBinary<__VA_ARGS__, float, float>);   \
  MOXIE_CUDA_KERNEL(BroadcastBinary<__VA_ARGS__, bf16, bf16>)
#define MOXIE_CUDA_BROADCAST_GRADIENT(...) \
  MOXIE_CUDA_BROADCAST(__VA_ARGS__);       \
  MOXIE_CUDA_KERNEL(BroadcastBinary<__VA_ARGS__, bf16, float>)

MOXIE_CUDA_BROADCAST(Add, BinaryPart::value);
MOXIE_CUDA_BROADCAST(Sub, BinaryPart::value);
MOXIE_CUDA_BROADCAST(Mul, BinaryPart::value);
MOXIE_CUDA_BROADCAST(Div, BinaryPart::value);
MOXIE_CUDA_BROADCAST(Maximum, BinaryPart::value);
MOXIE_CUDA_BROADCAST(Minimum, BinaryPart::value);
MOXIE_CUDA_BROADCAST(Pow, BinaryPart::value);
MOXIE_CUDA_BROADCAST_GRADIENT(Sub, BinaryPart::dy);
MOXIE_CUDA_BROADCAST_GRADIENT(Mul, BinaryPart::dx);
MOXIE_CUDA_BROADCAST_GRADIENT(Mul, BinaryPart::dy);
MOXIE_CUDA_BROADCAST_GRADIENT(Div, BinaryPart::dx);
MOXIE_CUDA_BROADCAST_GRADIENT(Div, BinaryPart::dy);
MOXIE_CUDA_BROADCAST_GRADIENT(Maximum, BinaryPart::dx);
MOXIE_CUDA_BROADCAST_GRADIENT(Maximum, BinaryPart::dy);
MOXIE_CUDA_BROADCAST_GRADIENT(Minimum, BinaryPart::dx);
MOXIE_CUDA_BROADCAST_GRADIENT(Minimum, BinaryPart::dy);
MOXIE_CUDA_BROADCAST_GRADIENT(Pow, BinaryPart::dx);
MOXIE_CUDA_BROADCAST_GRADIENT(Pow, BinaryPart::dy);

}  // namespace moxie
