// SPDX-License-Identifier: Apache-2.0
// The grouped matmul in bf16 on tensor cores. One launch deals with all groups: every block takes each grid_blocks()th
// tile of C, finds its group from the offsets on the device, and goes through the tile's products in steps of 64 while
// the copies of later steps, those of its next tile too, are under way.
#pragma once
#include <type_traits>

#include "cuda/grouped_gemm_schedule.cuh"
#include "cuda/tile.cuh"

namespace moxie::cuda {

// Finish says what becomes of the sums; with Finish::paired B_g has 2 n rows, and the columns of a tile are, in turns
// of 8, columns of B_g's first half and the same ones of its second half.
template <class Multiply, Form form, class Finish, int stages> struct GroupedKernel {
  static constexpr int threads = Multiply::threads;
  static constexpr Along along_a = form == Form::weight ? Along::extent : Along::depth;
  static constexpr Along along_b = form == Form::rows ? Along::depth : Along::extent;
  static constexpr uint32_t bytes_a = tile_bytes(Multiply::rows), bytes_stage = bytes_a + tile_bytes(Multiply::cols);
  static constexpr size_t shared_bytes = size_t{stages} * bytes_stage;
  static constexpr int lookahead = stages - Multiply::lag;  // steps whose copies are under way
  static constexpr int tile_cols = Finish::paired ? Multiply::cols / 2 : Multiply::cols;
  static_assert(lookahead >= 1 && (!Finish::paired || form == Form::rows));
  using Schedule = TileSchedule<Multiply::rows, tile_cols, form == Form::weight>;

  GroupedOperands<bf16> operands;
  Finish finish;

  MOXIE_DEVICE void operator()() const {
    Copies copies(operands);
    const uint32_t shared = shared_address(dynamic_shared_memory());
    copies.begin();
    MOXIE_DO_NOT_UNROLL
    for (int i = 0; i < lookahead; ++i) copies.load(shared + static_cast<uint32_t>(i) * bytes_stage);
    uint32_t stage = shared, next = shared + lookahead % stages * bytes_stage;
    const auto advance = [shared](uint32_t at) {
      return at + bytes_stage == shared + stages * bytes_stage ? shared : at + bytes_stage;
    };
    Schedule schedule(operands.offsets, operands.groups, operands.m, operands.n);
    GroupTile tile;
    for (int index = block_index(); schedule.find(index, tile); index += grid_blocks()) {
      typename Multiply::Sums sums;
      sums.clear();
      const int steps = steps_of(operands, tile);
      MOXIE_DO_NOT_UNROLL
      for (int step = 0; step < steps; ++step) {
        copy_async_wait<lookahead - 1>();
        Multiply::publish();
        sync_threads();
        if constexpr (Multiply::copies_first) copies.load(next);
        Multiply::template step<along_a, along_b>(sums, stage, stage + bytes_a);
        if constexpr (!Multiply::copies_first) copies.load(next);
        Multiply::finish_previous(sums);
        stage = advance(stage);
        next = advance(next);
      }
      Multiply::finish(sums);
      finish.template store<Multiply>(tile, sums);
    }
    copy_async_wait<0>();
  }

 private:
  MOXIE_DEVICE static int steps_of(const GroupedOperands<bf16>& operands, const GroupTile& tile) {
    const int depth = form == Form::weight ? tile.group_end - tile.group_begin : operands.k;
    return (depth + tile_depth - 1) / tile_depth;
  }

  // Walks through the steps of this block's tiles, ahead of the products.
  struct Copies {
    MOXIE_DEVICE explicit Copies(const GroupedOperands<bf16>& o)
        : operands(o), schedule(o.offsets, o.groups, o.m, o.n) {}

    const GroupedOperands<bf16>& operands;
    Schedule schedule;
    std::conditional_t<along_a == Along::depth, DepthLoader<Multiply::rows, threads>,
                       ExtentLoader<Multiply::rows, threads>>
        a;
    std::conditional_t<along_b == Along::depth, StridedDepthLoader<Multiply::cols, threads>,
                       ExtentLoader<Multiply::cols, threads>>
        b;
    int index = block_index(), step = 0, steps = 0;

    // Goes to the next tile that has products.
    MOXIE_DEVICE void begin() {
      GroupTile tile;
      step = steps = 0;
      while (steps == 0 && schedule.find(index, tile)) {
        steps = steps_of(operands, tile);
        index += grid_blocks();
      }
      if (steps > 0) begin(tile);
    }

    // Begins the copies of a step, if there is one, and commits.
    MOXIE_DEVICE void load(uint32_t stage) {
      if (steps > 0) {
        a.load(stage, step);
        b.load(stage + bytes_a, step);
        if (++step == steps) begin();
      }
      copy_async_commit();
    }

   private:
    MOXIE_DEVICE void begin(const GroupTile& tile) {
      const GroupedOperands<bf16>& o = operands;
      if constexpr (form == Form::weight) {
        const int depth = tile.group_end - tile.group_begin;
        begin_weight(a, o.a, o.lda, o.gather_a, tile.group_begin, depth, tile.row, o.m);
        begin_weight(b, o.b, o.ldb, o.gather_b, tile.group_begin, depth, tile.col, o.n);
      } else {
        a.begin(o.k, [&](int i) -> const bf16* {
          const int row = tile.row + i;
          if (row >= tile.group_end) return nullptr;
          return o.a + (o.gather_a == nullptr ? row : o.gather_a[row]) * o.lda;
        });
        const bf16* matrix = o.b + tile.group * o.stride_b;
        if constexpr (form == Form::rows) {
          // Paired: in turns of 8 rows of the tile, rows of the first half of B_g and the same ones of its second half.
          constexpr int apart = StridedDepthLoader<Multiply::cols, threads>::rows_apart;
          static_assert(!Finish::paired || apart % 16 == 0);
          constexpr int spacing = Finish::paired ? apart / 2 : apart;
          const int i = thread_index() / row_chunks, half = Finish::paired ? i / 8 % 2 : 0;
          const int row = tile.col + (Finish::paired ? i / 16 * 8 + i % 8 : i);
          b.begin(o.k, matrix + (half * int64_t{o.n} + row) * o.ldb, spacing * o.ldb,
                  row < o.n ? (o.n - row + spacing - 1) / spacing : 0);
        } else {
          b.begin(matrix + tile.col, o.ldb, nullptr, o.k, o.n - tile.col);
        }
      }
    }

    template <class Loader>
    MOXIE_DEVICE static void begin_weight(Loader& loader, const bf16* matrix, int64_t leading, const int32_t* gather,
                                          int first, int depth, int extent_begin, int extent) {
      if (gather == nullptr) matrix += first * leading;
      loader.begin(matrix + extent_begin, leading, gather == nullptr ? nullptr : gather + first, depth,
                   extent - extent_begin);
    }
  };
};

}  // namespace moxie::cuda
