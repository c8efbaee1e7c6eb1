// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/binary.h"
#include "cuda/launch.cuh"

namespace moxie {

// A gradient that passes through unchanged, as those of a sum do, needs no kernel.
MOXIE_CUDA_FLOATS(Binary, Add, BinaryPart::value);
MOXIE_CUDA_FLOATS(Binary, Sub, BinaryPart::value);
MOXIE_CUDA_FLOATS(Binary, Mul, BinaryPart::value);
MOXIE_CUDA_FLOATS(Binary, Div, BinaryPart::value);
MOXIE_CUDA_FLOATS(Binary, Maximum, BinaryPart::value);
MOXIE_CUDA_FLOATS(Binary, Minimum, BinaryPart::value);
MOXIE_CUDA_FLOATS(Binary, Pow, BinaryPart::value);
MOXIE_CUDA_FLOATS(Binary, Sub, BinaryPart::dy);
MOXIE_CUDA_FLOATS(Binary, Mul, BinaryPart::dx);
MOXIE_CUDA_FLOATS(Binary, Mul, BinaryPart::dy);
MOXIE_CUDA_FLOATS(Binary, Div, BinaryPart::dx);
MOXIE_CUDA_FLOATS(Binary, Div, BinaryPart::dy);
MOXIE_CUDA_FLOATS(Binary, Maximum, BinaryPart::dx);
MOXIE_CUDA_FLOATS(Binary, Maximum, BinaryPart::dy);
MOXIE_CUDA_FLOATS(Binary, Minimum, BinaryPart::dx);
MOXIE_CUDA_FLOATS(Binary, Minimum, BinaryPart::dy);
MOXIE_CUDA_FLOATS(Binary, Pow, BinaryPart::dx);
MOXIE_CUDA_FLOATS(Binary, Pow, BinaryPart::dy);

}  // namespace moxie
