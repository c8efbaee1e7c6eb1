// SPDX-License-Identifier: Apache-2.0
// More of Hopper's matrix instructions: for 64 columns, and with the left operand in registers, where a product before
// has left it (attention's weights). See warpgroup.cuh.
#pragma once
#include "cuda/warpgroup.cuh"

namespace moxie::cuda {

#ifdef __CUDACC__

#define MOXIE_SUMS(s, j) "+f"(s[j][0]), "+f"(s[j][1]), "+f"(s[j][2]), "+f"(s[j][3])
#define MOXIE_SUMS_4(s, j) MOXIE_SUMS(s, j), MOXIE_SUMS(s, j + 1), MOXIE_SUMS(s, j + 2), MOXIE_SUMS(s, j + 3)
#define MOXIE_SUMS_8(s, j) MOXIE_SUMS_4(s, j), MOXIE_SUMS_4(s, j + 4)

// Begins sums [64, 64] += A [64, 16] B [16, 64] of the warpgroup.
template <Along along_a, Along along_b>
MOXIE_DEVICE void multiply_warpgroup(float (&sums)[8][4], uint64_t a, uint64_t b) {
#ifdef MOXIE_WGMMA
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, %32, %33, p, 1, 1, %34, %35;\n}\n"
      : MOXIE_SUMS_8(sums, 0)
      : "l"(a), "l"(b), "n"(along_a == Along::extent ? 1 : 0), "n"(along_b == Along::extent ? 1 : 0));
#else
  __trap();
#endif
}

// Begins sums [64, 64] += A [64, 16] B [16, 64] of the warpgroup. Warp w of the four holds rows 16 w and on of A, in
// the way of multiply_add(), and must not change them until the product is waited for.
template <Along along_b>
MOXIE_DEVICE void multiply_warpgroup_registers(float (&sums)[8][4], const uint32_t (&a)[4], uint64_t b) {
#ifdef MOXIE_WGMMA
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, {%32, %33, %34, %35}, %36, p, 1, 1, %37;\n}\n"
      : MOXIE_SUMS_8(sums, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(along_b == Along::extent ? 1 : 0));
#else
  __trap();
#endif
}
// The same for 128 columns.
template <Along along_b>
MOXIE_DEVICE void multiply_warpgroup_registers(float (&sums)[16][4], const uint32_t (&a)[4], uint64_t b) {
#ifdef MOXIE_WGMMA
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, {%64, %65, %66, %67}, %68, p, 1, 1, %69;\n}\n"
      : MOXIE_SUMS_8(sums, 0), MOXIE_SUMS_8(sums, 8)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(along_b == Along::extent ? 1 : 0));
#else
  __trap();
#endif
}

#undef MOXIE_SUMS
#undef MOXIE_SUMS_4
#undef MOXIE_SUMS_8

// After waiting for products, before their sums are used, and after changing sums, before the next products: keeps the
// compiler from moving the use of the registers to the other side.
template <int cols8> MOXIE_DEVICE void hold(float (&sums)[cols8][4]) {
  MOXIE_UNROLL
  for (int j = 0; j < cols8; ++j) {
    MOXIE_UNROLL
    for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(sums[j][e])::"memory");
  }
}

#else

template <Along along_b, int cols8>
void multiply_warpgroup_registers(float (&sums)[cols8][4], const uint32_t (&a)[4], uint64_t b) {
  emulated::multiply_warpgroup_registers(sums[0], cols8, a, b, along_b == Along::extent);
}
template <int cols8> void hold(float (&)[cols8][4]) {}

#endif

}  // namespace moxie::cuda
