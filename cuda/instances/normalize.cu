// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/normalize/l2_norm.h"
#include "core/kernels/normalize/layer_norm.h"
#include "core/kernels/normalize/rms_norm.h"
#include "core/kernels/normalize/softmax.h"
#include "cuda/launch.cuh"

namespace moxie {

// f32 and bf16 of softmax and RMSNorm: cuda/tuned/normalize.cu and rms_norm_backward.cu

MOXIE_CUDA_FLOATS(L2Norm);
MOXIE_CUDA_FLOATS(L2NormBackward);
MOXIE_CUDA_FLOATS(LayerNorm);
MOXIE_CUDA_FLOATS(LayerNormBackward);
MOXIE_CUDA_FLOATS(LayerNormParameterPartial);
MOXIE_CUDA_KERNEL(RmsNorm<double>);
MOXIE_CUDA_KERNEL(AddRmsNorm<double>);
MOXIE_CUDA_KERNEL(RmsNormBackward<double>);
MOXIE_CUDA_KERNEL(RmsNormBackwardChunk<double>);
MOXIE_CUDA_KERNEL(Softmax<double>);
MOXIE_CUDA_KERNEL(SoftmaxBackward<double>);
MOXIE_CUDA_KERNEL(LogSoftmax<double>);
MOXIE_CUDA_FLOATS(LogSoftmaxBackward);

}  // namespace moxie
