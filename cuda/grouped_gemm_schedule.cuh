// SPDX-License-Identifier: Apache-2.0
// What a grouped product is made of, and which tile of which group comes when: all tiles of all groups have numbers,
// which blocks turn into tiles from the offsets on the device.
#pragma once
#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

// rows: C [rows of g, n] = A [rows of g, k] B_g [n, k]^T
// rows_backward: C [rows of g, n] = A [rows of g, k] B_g [k, n]
// weight: C_g [m, n] = A [rows of g, m]^T B [rows of g, n]
enum class Form { rows, rows_backward, weight };

template <class T> struct GroupedOperands {
  const int32_t* offsets;  // [groups + 1]
  int groups;
  int m, n, k;  // m of weight only, k not of weight
  // Row i of an operand is row gather[i] of what it points to; null: row i. gather_b of weight only.
  const T* a;
  int64_t lda;
  const int32_t* gather_a;
  const T* b;
  int64_t ldb, stride_b;
  const int32_t* gather_b;
};

struct GroupTile {
  int group;
  int group_begin, group_end;  // the group's rows
  int row, col;                // where the tile begins in C: row counts from the first group's first row, or in C_g
  int row_end, col_end;        // the rows and columns of C end here
};

// Numbers that ascend are found in turn, each step from the group of the one before. Within a group tiles are numbered
// so that those that run at the same time share rows and columns: bands of `band` tiles along the rows, within a band
// column by column.
template <int tile_rows, int tile_cols, bool weight> class TileSchedule {
 public:
  static constexpr int band = 16;

  MOXIE_DEVICE TileSchedule(const int32_t* offsets, int groups, int m, int n)
      : offsets_(offsets), groups_(groups), m_(m), n_(n) {
    if (groups > 0) read_group();
  }

  // False where there are fewer tiles.
  MOXIE_DEVICE bool find(int index, GroupTile& tile) {
    const int across = (n_ + tile_cols - 1) / tile_cols;
    while (true) {
      if (group_ >= groups_) return false;
      const int down = ((weight ? m_ : end_ - begin_) + tile_rows - 1) / tile_rows;
      const int inside = index - first_;
      if (inside < down * across) {
        const int top = inside / (band * across) * band, left = inside - top * across;
        const int height = down - top < band ? down - top : band;
        const int row = (top + left % height) * tile_rows;
        tile.group = group_;
        tile.group_begin = begin_;
        tile.group_end = end_;
        tile.row = weight ? row : begin_ + row;
        tile.row_end = weight ? m_ : end_;
        tile.col = left / height * tile_cols;
        tile.col_end = n_;
        return true;
      }
      first_ += down * across;
      if (++group_ < groups_) read_group();
    }
  }

 private:
  MOXIE_DEVICE void read_group() {
    begin_ = offsets_[group_];
    end_ = offsets_[group_ + 1];
  }

  const int32_t* offsets_;
  int groups_, m_, n_;
  int group_ = 0, first_ = 0, begin_ = 0, end_ = 0;
};

}  // namespace moxie::cuda
