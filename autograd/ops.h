// SPDX-License-Identifier: Apache-2.0
// The ops. Inputs of one op must share dtype and device: nothing is converted or moved implicitly. Every op throws
// std::invalid_argument, naming itself, the rule, and the shapes, where its inputs don't fit. `dim` may count from the
// back. Unless said otherwise ops take f64, f32 and bf16, and accumulate bf16 in f32.
#pragma once
#include "autograd/ops/activation.h"
#include "autograd/ops/attention.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/index.h"
#include "autograd/ops/loss.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/normalize.h"
#include "autograd/ops/random.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
