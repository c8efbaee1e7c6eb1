// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/elementwise/accumulate.h"
#include "core/kernels/elementwise/activate.h"
#include "core/kernels/elementwise/affine.h"
#include "core/kernels/elementwise/convert.h"
#include "core/kernels/elementwise/fill.h"
#include "core/kernels/elementwise/scale_by_ratio.h"
#include "core/kernels/elementwise/where.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_DTYPES(Fill);
MOXIE_CUDA_DTYPES(Convert, double);
MOXIE_CUDA_DTYPES(Convert, float);
MOXIE_CUDA_DTYPES(Convert, bf16);
MOXIE_CUDA_DTYPES(Convert, int32_t);
MOXIE_CUDA_DTYPES(Convert, uint8_t);
MOXIE_CUDA_FLOATS(Accumulate, double);
MOXIE_CUDA_FLOATS(Accumulate, float);
MOXIE_CUDA_FLOATS(Accumulate, bf16);
MOXIE_CUDA_FLOATS(Affine);
MOXIE_CUDA_KERNEL(ScaleByRatio<double, double>);
MOXIE_CUDA_KERNEL(ScaleByRatio<float, float>);
MOXIE_CUDA_KERNEL(ScaleByRatio<float, bf16>);
MOXIE_CUDA_KERNEL(ScaleByRatio<bf16, bf16>);
MOXIE_CUDA_FLOATS(SwiGlu);
MOXIE_CUDA_FLOATS(SwiGluBackward);
MOXIE_CUDA_DTYPES(Where);
MOXIE_CUDA_FLOATS(MaskedFill);

}  // namespace moxie
