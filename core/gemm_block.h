// SPDX-License-Identifier: Apache-2.0
// One block of a matmul on the calling thread. Internal to the matmul seam.
#pragma once
#include "core/gemm.h"

namespace moxie::gemm_detail {

// The uses of a thread's scratch memory that can be alive at the same time.
enum class Scratch { a, b, c, panel_a, panel_b, count };

// At least `bytes` of memory that belongs to the calling thread, aligned to 64, reused by later calls.
void* scratch(Scratch use, int64_t bytes);

// Multiplies one block (batch is ignored) on the calling thread alone, for any dtype. k = 0 is allowed.
// Throws std::logic_error where the library below fails, std::bad_alloc without memory for scratch.
void multiply_block(const Gemm& block);

// C = op(A) op(B) by moxie's own kernel: for f64, and for f32 where oneDNN is not built in.
void multiply_own_f64(const Gemm& block);
void multiply_own_f32(const Gemm& block);

}  // namespace moxie::gemm_detail
