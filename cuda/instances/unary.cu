// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/unary.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_FLOATS(Unary, Neg);
MOXIE_CUDA_FLOATS(Unary, Abs);
MOXIE_CUDA_FLOATS(Unary, Square);
MOXIE_CUDA_FLOATS(Unary, Reciprocal);
MOXIE_CUDA_FLOATS(Unary, Sqrt);
MOXIE_CUDA_FLOATS(Unary, Rsqrt);
MOXIE_CUDA_FLOATS(Unary, PowerOf);
MOXIE_CUDA_FLOATS(Unary, Exp);
MOXIE_CUDA_FLOATS(Unary, Expm1);
MOXIE_CUDA_FLOATS(Unary, Log);
MOXIE_CUDA_FLOATS(Unary, Log1p);
MOXIE_CUDA_FLOATS(Unary, Erf);
MOXIE_CUDA_FLOATS(Unary, Clamp);
MOXIE_CUDA_FLOATS(Unary, Floor);
MOXIE_CUDA_FLOATS(Unary, Ceil);
MOXIE_CUDA_FLOATS(Unary, Round);
MOXIE_CUDA_FLOATS(Unary, Sign);

MOXIE_CUDA_FLOATS(UnaryBackward, Neg);
MOXIE_CUDA_FLOATS(UnaryBackward, Abs);
MOXIE_CUDA_FLOATS(UnaryBackward, Square);
MOXIE_CUDA_FLOATS(UnaryBackward, Reciprocal);
MOXIE_CUDA_FLOATS(UnaryBackward, Sqrt);
MOXIE_CUDA_FLOATS(UnaryBackward, Rsqrt);
MOXIE_CUDA_FLOATS(UnaryBackward, PowerOf);
MOXIE_CUDA_FLOATS(UnaryBackward, Exp);
MOXIE_CUDA_FLOATS(UnaryBackward, Expm1);
MOXIE_CUDA_FLOATS(UnaryBackward, Log);
MOXIE_CUDA_FLOATS(UnaryBackward, Log1p);
MOXIE_CUDA_FLOATS(UnaryBackward, Erf);
MOXIE_CUDA_FLOATS(UnaryBackward, Clamp);

}  // namespace moxie
