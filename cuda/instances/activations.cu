// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/activations.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_FLOATS(Unary, Tanh);
MOXIE_CUDA_FLOATS(Unary, Sigmoid);
MOXIE_CUDA_FLOATS(Unary, LogSigmoid);
MOXIE_CUDA_FLOATS(Unary, Silu);
MOXIE_CUDA_FLOATS(Unary, Swish);
MOXIE_CUDA_FLOATS(Unary, Softplus);
MOXIE_CUDA_FLOATS(Unary, Mish);
MOXIE_CUDA_FLOATS(Unary, Softsign);
MOXIE_CUDA_FLOATS(Unary, Gelu);
MOXIE_CUDA_FLOATS(Unary, GeluTanh);
MOXIE_CUDA_FLOATS(Unary, Relu);
MOXIE_CUDA_FLOATS(Unary, Relu6);
MOXIE_CUDA_FLOATS(Unary, LeakyRelu);
MOXIE_CUDA_FLOATS(Unary, ScaledElu);
MOXIE_CUDA_FLOATS(Unary, HardSigmoid);
MOXIE_CUDA_FLOATS(Unary, HardSwish);

MOXIE_CUDA_FLOATS(UnaryBackward, Tanh);
MOXIE_CUDA_FLOATS(UnaryBackward, Sigmoid);
MOXIE_CUDA_FLOATS(UnaryBackward, LogSigmoid);
MOXIE_CUDA_FLOATS(UnaryBackward, Silu);
MOXIE_CUDA_FLOATS(UnaryBackward, Swish);
MOXIE_CUDA_FLOATS(UnaryBackward, Softplus);
MOXIE_CUDA_FLOATS(UnaryBackward, Mish);
MOXIE_CUDA_FLOATS(UnaryBackward, Softsign);
MOXIE_CUDA_FLOATS(UnaryBackward, Gelu);
MOXIE_CUDA_FLOATS(UnaryBackward, GeluTanh);
MOXIE_CUDA_FLOATS(UnaryBackward, Relu);
MOXIE_CUDA_FLOATS(UnaryBackward, Relu6);
MOXIE_CUDA_FLOATS(UnaryBackward, LeakyRelu);
MOXIE_CUDA_FLOATS(UnaryBackward, ScaledElu);
MOXIE_CUDA_FLOATS(UnaryBackward, HardSigmoid);
MOXIE_CUDA_FLOATS(UnaryBackward, HardSwish);

}  // namespace moxie
