// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/normalize/l2_norm.h"
#include "core/kernels/normalize/layer_norm.h"
#include "core/kernels/normalize/rms_norm.h"
#include "core/kernels/normalize/softmax.h"
#include "cuda/launch.cuh"

namespace moxie {

MOXIE_CUDA_FLOATS(L2Norm);
MOXIE_CUDA_FLOATS(L2NormBackward);
MOXIE_CUDA_FLOATS(LayerNorm);
MOXIE_CUDA_FLOATS(LayerNormBackward);
MOXIE_CUDA_FLOATS(LayerNormParameterPartial);
MOXIE_CUDA_FLOATS(RmsNorm);
MOXIE_CUDA_FLOATS(RmsNormBackward);
MOXIE_CUDA_FLOATS(RmsNormWeightPartial);
MOXIE_CUDA_FLOATS(Softmax);
MOXIE_CUDA_FLOATS(SoftmaxBackward);
MOXIE_CUDA_FLOATS(LogSoftmax);
MOXIE_CUDA_FLOATS(LogSoftmaxBackward);

}  // namespace moxie
