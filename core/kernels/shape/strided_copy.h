// SPDX-License-Identifier: Apache-2.0
// Copies between places that lie apart: reordered, repeated, reversed, cut out or joined.
#pragma once
#include "core/kernels/elementwise/accumulate.h"

namespace moxie {

// y [size..], contiguous, from x, where neighbours along dimension i of y lie stride[i] apart: 0 repeats, a negative
// one goes backwards. A row is `block` of the `lines` along the last dimension. At least one dimension.
template <class T> struct StridedCopy {
  static constexpr int max_rank = 16;
  const T* x;
  T* y;
  int rank;
  int64_t size[max_rank];
  int64_t stride[max_rank];
  int64_t lines, block;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t cols = size[rank - 1], step = stride[rank - 1];
    const int64_t first = row * block, last = first + block < lines ? first + block : lines;
    int64_t index[max_rank] = {}, at = 0, rest = first;
    for (int i = rank - 2; i >= 0; --i) {
      index[i] = rest % size[i];
      rest /= size[i];
      at += index[i] * stride[i];
    }
    for (int64_t line = first; line < last; ++line) {
      const T* in = x + at;
      T* out = y + line * cols;
      if (step == 1) {
        team.each(
            cols, [=](int64_t i) { return in[i]; }, [=](int64_t i, T value) { out[i] = value; });
      } else if (step == 0) {
        const T value = in[0];
        team.each(cols, [=](int64_t i) { out[i] = value; });
      } else {
        team.each(
            cols, [=](int64_t i) { return in[i * step]; }, [=](int64_t i, T value) { out[i] = value; });
      }
      for (int i = rank - 2; i >= 0; --i) {
        at += stride[i];
        if (++index[i] < size[i]) break;
        at -= index[i] * stride[i];
        index[i] = 0;
      }
    }
  }
};

// The same where dimension `across` of y, not the last one, is contiguous in x: a row is a square tile of these two
// dimensions, so that every cache line that is fetched is used up.
template <class T> struct TransposeCopy {
  static constexpr int max_rank = StridedCopy<T>::max_rank;
  static constexpr int64_t tile = 32;
  const T* x;
  T* y;
  int rank;
  int across;
  int64_t size[max_rank];
  int64_t stride[max_rank];    // in x
  int64_t y_stride[max_rank];  // of a contiguous y
  static MOXIE_FN int64_t tiles(int64_t n, int64_t side = tile) { return (n + side - 1) / side; }
  // All tiles of `high` elements of dimension `across` by `wide` of the last one.
  int64_t all_tiles(int64_t high = tile, int64_t wide = tile) const {
    int64_t count = 1;
    for (int i = 0; i < rank; ++i)
      count *= i == across ? tiles(size[i], high) : i == rank - 1 ? tiles(size[i], wide) : size[i];
    return count;
  }

  // Number `row` of these tiles: element (j, i) goes from x[from + j + i * step] to y[to + j * apart + i]. Int counts
  // tiles: on a GPU divisions of 32 bits are much faster.
  struct Place {
    int64_t from, to, step, apart, height, width;
  };
  template <class Int = int64_t> MOXIE_FN Place place(Int row, int64_t high = tile, int64_t wide = tile) const {
    const int64_t cols = size[rank - 1], step = stride[rank - 1];
    const Int across_cols = static_cast<Int>(tiles(cols, wide));
    const int64_t column = row % across_cols * wide;
    Int rest = row / across_cols;
    int64_t from = column * step, to = column, line = 0;
    for (int i = rank - 2; i >= 0; --i) {
      const Int places = static_cast<Int>(i == across ? tiles(size[i], high) : size[i]);
      const int64_t index = rest % places * (i == across ? high : 1);
      rest /= places;
      from += index * stride[i];
      to += index * y_stride[i];
      if (i == across) line = index;
    }
    const int64_t height = size[across] - line < high ? size[across] - line : high;
    const int64_t width = cols - column < wide ? cols - column : wide;
    return {from, to, step, y_stride[across], height, width};
  }

  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const Place at = place(row);
    const int64_t step = at.step;
    for (int64_t j = 0; j < at.height; ++j) {
      const T* in = x + at.from + j;
      T* out = y + at.to + j * at.apart;
      team.each(at.width, [=](int64_t i) { out[i] = in[i * step]; });
    }
  }
};

// Copies lines of `cols` elements between two arrays with different distances between lines: y (+)= x. A row is `chunk`
// elements of a line, which has `chunks` of them.
template <class T> struct CopyRows {
  const T* x;
  int64_t x_stride;
  T* y;
  int64_t y_stride;
  int64_t cols, chunk, chunks;
  bool accumulate;
  template <class Team> MOXIE_FN void operator()(Team team, int64_t row) const {
    const int64_t line = row / chunks, first = row % chunks * chunk;
    const int64_t n = cols - first < chunk ? cols - first : chunk;
    const T* in = x + line * x_stride + first;
    T* out = y + line * y_stride + first;
    using V = Accumulator<T>;
    if (accumulate)
      store_each(team, n, out, true, [=](int64_t i) { return V(in[i]); });
    else
      team.each(
          n, [=](int64_t i) { return in[i]; }, [=](int64_t i, T value) { out[i] = value; });
  }
};

}  // namespace moxie
