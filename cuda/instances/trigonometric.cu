// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/trigonometric.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_FLOATS(Unary, Sin);
MOXIE_CUDA_FLOATS(Unary, Cos);
MOXIE_CUDA_FLOATS(Unary, Tan);
MOXIE_CUDA_FLOATS(Unary, Asin);
MOXIE_CUDA_FLOATS(Unary, Acos);
MOXIE_CUDA_FLOATS(Unary, Atan);
MOXIE_CUDA_FLOATS(Unary, Sinh);
MOXIE_CUDA_FLOATS(Unary, Cosh);
MOXIE_CUDA_FLOATS(Unary, Asinh);
MOXIE_CUDA_FLOATS(Unary, Acosh);
MOXIE_CUDA_FLOATS(Unary, Atanh);

MOXIE_CUDA_FLOATS(UnaryBackward, Sin);
MOXIE_CUDA_FLOATS(UnaryBackward, Cos);
MOXIE_CUDA_FLOATS(UnaryBackward, Tan);
MOXIE_CUDA_FLOATS(UnaryBackward, Asin);
MOXIE_CUDA_FLOATS(UnaryBackward, Acos);
MOXIE_CUDA_FLOATS(UnaryBackward, Atan);
MOXIE_CUDA_FLOATS(UnaryBackward, Sinh);
MOXIE_CUDA_FLOATS(UnaryBackward, Cosh);
MOXIE_CUDA_FLOATS(UnaryBackward, Asinh);
MOXIE_CUDA_FLOATS(UnaryBackward, Acosh);
MOXIE_CUDA_FLOATS(UnaryBackward, Atanh);

}  // namespace moxie
