// SPDX-License-Identifier: Apache-2.0
// One block of a matmul on the calling thread. Internal to the matmul seam.
#pragma once
#include "core/gemm.h"

namespace moxie::gemm_detail {

// Longer sums are cut into pieces of this many products, so that the operands of a piece stay in L2.
inline constexpr int64_t block_depth = 256;
// Added to the rows of copied operands: leading dimensions that are powers of two fall on few sets of the caches.
inline constexpr int64_t padding = 16;

// The uses of a thread's scratch memory that can be alive at the same time.
enum class Scratch { a, b, c, panel_a, panel_b, shared_b, partial, count };

// At least `bytes` of memory that belongs to the calling thread, aligned to 64, reused by later calls.
void* scratch(Scratch use, int64_t bytes);
float* scratch_f32(Scratch use, int64_t count);

// Multiplies one block (batch is ignored) on the calling thread alone, for any dtype. k = 0 is allowed.
// Throws std::logic_error where the library below fails, std::bad_alloc without memory for scratch.
void multiply_block(const Gemm& block);

// Whether multiply_f32() would bring B into another form before it multiplies: packed rows of B that are n + padding
// apart.
bool packs_b(const Gemm& block);
// Brings B [k, n] of the block into that form.
void pack_b(const Gemm& block, float* packed);

// C = op(A) op(B) with k > 0: f32 by oneDNN where it is built in and the product is not small, else by moxie's own
// kernel; f64 always by the latter.
void multiply_f32(const Gemm& block);
// Whether bf16 operands are multiplied by the processor's own instructions.
bool multiplies_bf16();
// C in f32 of bf16 operands by the processor's own instructions. Does nothing and returns false where it has none, or
// the product is too small for them to pay.
bool multiply_bf16_natively(const Gemm& block);
void multiply_own_f32(const Gemm& block);
void multiply_own_f64(const Gemm& block);

}  // namespace moxie::gemm_detail
