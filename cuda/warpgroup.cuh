// SPDX-License-Identifier: Apache-2.0
// Hopper's matrix instructions (compute capability 9.0, compiled for 90a): four warps multiply out of shared memory,
// beside whatever their threads do meanwhile. Elsewhere calling them is an error at run time (a trap).
#pragma once
#include "cuda/tile.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MOXIE_WGMMA
#endif

namespace moxie::cuda {

inline constexpr int warpgroup_size = 4 * warp_size;

// What the instruction must know of an operand in the layout of cuda/tile.cuh that begins at `address`: the distance
// between panels (along the extent), the distance between groups of 8 rows, and the swizzle. All in units of 16 bytes.
template <Along along> MOXIE_DEVICE uint64_t describe_operand(uint32_t address) {
  constexpr uint64_t panels = along == Along::extent ? panel_bytes >> 4 : 1, groups = 8 * row_bytes >> 4;
  constexpr uint64_t swizzle_128 = 1;
  return ((address & 0x3FFFFu) >> 4) | panels << 16 | groups << 32 | swizzle_128 << 62;
}
// The same operand, 16 products further.
template <Along along> inline constexpr uint64_t next_products = along == Along::depth ? 32 >> 4 : 16 * row_bytes >> 4;

#ifdef __CUDACC__

#ifdef MOXIE_WGMMA
#define MOXIE_ON_WGMMA(instruction) asm volatile(instruction ::: "memory")
#else
#define MOXIE_ON_WGMMA(instruction) __trap()
#endif

// Lets the matrix instructions see what this thread wrote to shared memory; a sync_threads() must follow.
MOXIE_DEVICE void publish_to_warpgroups() { MOXIE_ON_WGMMA("fence.proxy.async.shared::cta;"); }
// Before the first instruction that uses sums which the threads have touched. Whole warpgroup, as all that follow.
MOXIE_DEVICE void begin_warpgroup() { MOXIE_ON_WGMMA("wgmma.fence.sync.aligned;"); }
// Closes a group of instructions.
MOXIE_DEVICE void commit_warpgroup() { MOXIE_ON_WGMMA("wgmma.commit_group.sync.aligned;"); }
// Waits until all but the latest `pending` groups are done.
template <int pending> MOXIE_DEVICE void wait_warpgroup() {
#ifdef MOXIE_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#else
  __trap();
#endif
}

#define MOXIE_SUMS_2(s, j)                                                                                             \
  "+f"(s[j][0]), "+f"(s[j][1]), "+f"(s[j][2]), "+f"(s[j][3]), "+f"(s[j + 1][0]), "+f"(s[j + 1][1]), "+f"(s[j + 1][2]), \
      "+f"(s[j + 1][3])
#define MOXIE_SUMS_8(s, j) MOXIE_SUMS_2(s, j), MOXIE_SUMS_2(s, j + 2), MOXIE_SUMS_2(s, j + 4), MOXIE_SUMS_2(s, j + 6)

// Begins sums [64, 128] += A [64, 16] B [16, 128] of the warpgroup, with operands as described. Warp w of the four
// holds rows 16 w and on, in the way of multiply_add().
template <Along along_a, Along along_b>
MOXIE_DEVICE void multiply_warpgroup(float (&sums)[16][4], uint64_t a, uint64_t b) {
#ifdef MOXIE_WGMMA
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, %64, %65, p, 1, 1, %66, %67;\n}\n"
      : MOXIE_SUMS_8(sums, 0), MOXIE_SUMS_8(sums, 8)
      : "l"(a), "l"(b), "n"(along_a == Along::extent ? 1 : 0), "n"(along_b == Along::extent ? 1 : 0));
#else
  __trap();
#endif
}
// The same for 256 columns.
template <Along along_a, Along along_b>
MOXIE_DEVICE void multiply_warpgroup(float (&sums)[32][4], uint64_t a, uint64_t b) {
#ifdef MOXIE_WGMMA
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
      "}, %128, %129, p, 1, 1, %130, %131;\n}\n"
      : MOXIE_SUMS_8(sums, 0), MOXIE_SUMS_8(sums, 8), MOXIE_SUMS_8(sums, 16), MOXIE_SUMS_8(sums, 24)
      : "l"(a), "l"(b), "n"(along_a == Along::extent ? 1 : 0), "n"(along_b == Along::extent ? 1 : 0));
#else
  __trap();
#endif
}

#undef MOXIE_SUMS_2
#undef MOXIE_SUMS_8
#undef MOXIE_ON_WGMMA

#else

inline void publish_to_warpgroups() {}
inline void begin_warpgroup() {}
inline void commit_warpgroup() { emulated::commit_warpgroup(); }
template <int pending> void wait_warpgroup() { emulated::wait_warpgroup(pending); }
template <Along along_a, Along along_b, int cols8>
void multiply_warpgroup(float (&sums)[cols8][4], uint64_t a, uint64_t b) {
  emulated::multiply_warpgroup(sums[0], cols8, a, along_a == Along::extent, b, along_b == Along::extent);
}

#endif

// A tile product by the instructions for warpgroups: each owns [64, cols] of the tile. With lag 2 the products of a
// step go on during the next, and only what is two steps old may be overwritten.
template <int rows_, int cols_, int lag_ = 2> struct WarpgroupMultiply {
  static constexpr int rows = rows_, cols = cols_, threads = rows / 64 * warpgroup_size;
  static constexpr int rows16 = 1, cols8 = cols / 8;
  static constexpr int lag = lag_;
  static constexpr bool copies_first = false;
  using Sums = TileSums<rows16, cols8>;

  MOXIE_DEVICE static int first_row() { return warp_index() * 16; }
  MOXIE_DEVICE static int first_col() { return 0; }
  MOXIE_DEVICE static void publish() { publish_to_warpgroups(); }
  MOXIE_DEVICE static void finish_previous(Sums&) { wait_warpgroup<lag - 1>(); }
  MOXIE_DEVICE static void finish(Sums&) { wait_warpgroup<0>(); }

  template <Along along_a, Along along_b> MOXIE_DEVICE static void step(Sums& sums, uint32_t a, uint32_t b) {
    const uint32_t part = static_cast<uint32_t>(thread_index() / warpgroup_size) * tile_bytes(64);
    const uint64_t operand_a = describe_operand<along_a>(a + part), operand_b = describe_operand<along_b>(b);
    begin_warpgroup();
    MOXIE_UNROLL
    for (uint64_t i = 0; i < tile_depth / 16; ++i) {
      multiply_warpgroup<along_a, along_b>(sums.sum[0], operand_a + i * next_products<along_a>,
                                           operand_b + i * next_products<along_b>);
    }
    commit_warpgroup();
  }
};

}  // namespace moxie::cuda
