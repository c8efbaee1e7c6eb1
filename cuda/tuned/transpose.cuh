// SPDX-License-Identifier: Apache-2.0
// Transposes through shared memory: a warp reads along x and writes along y, where the generic kernel's threads read
// lines that lie apart. Where all lines begin and end at multiples of 16 bytes, that is what moves at once.
#pragma once
#include <cstring>

#include "core/kernels/shape/strided_copy.h"
#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

inline constexpr int transpose_threads = 256;

// Tiles that move by 16 bytes. A thread reads 16 bytes of each of `lines` lines of x, joins the elements that come to
// lie side by side in y, and puts each such word into the line of y that it belongs to.
template <class T> struct PackedTranspose {
  static constexpr int size = sizeof(T), pack = 16 / size;
  static constexpr int lines = size == 4 || size == 1 ? 4 : 2;
  static constexpr int high = size == 8 ? 32 : size == 1 ? 128 : 64;  // along x
  static constexpr int readers = high / pack;                         // threads of a line of x
  static constexpr int wide = transpose_threads / readers * lines;    // along y
  static constexpr int writers = wide / pack;                         // threads of a line of y
  static constexpr int lines_at_once = transpose_threads / writers;
  struct Memory {
    alignas(16) unsigned char values[high * wide * size];
  };
  struct alignas(size* lines) Word {
    T part[lines];
  };
  struct Pack {
    T part[pack];
  };

  static bool fits(const TransposeCopy<T>& kernel) {
    bool packed = is_aligned(kernel.x) && is_aligned(kernel.y);
    for (int i = 0; i < kernel.rank; ++i) packed = packed && (i == kernel.across || kernel.stride[i] % pack == 0);
    return packed && kernel.size[kernel.across] % pack == 0 && kernel.size[kernel.rank - 1] % pack == 0;
  }

  // Where element (j, i) of the tile lies. Packs of neighbouring readers change places, so that neither the words of
  // one column nor the packs of one line meet in a bank.
  static MOXIE_DEVICE int at(int j, int i) {
    return (j * writers + (i / pack ^ (j / pack & 7))) * 16 + i % pack * size;
  }

  static MOXIE_DEVICE void run(const TransposeCopy<T>& kernel, const typename TransposeCopy<T>::Place& place,
                               Memory& memory) {
    const int j = thread_index() % readers * pack, i = thread_index() / readers * lines;
    if (j < place.height && i < place.width) {  // whole packs and words: sizes are multiples
      const T* const from = kernel.x + place.from + j + i * place.step;
      Pack packs[lines];
      MOXIE_UNROLL
      for (int k = 0; k < lines; ++k) packs[k] = std::bit_cast<Pack>(load_16(from + k * place.step));
      MOXIE_UNROLL
      for (int p = 0; p < pack; ++p) {
        Word word;
        MOXIE_UNROLL
        for (int k = 0; k < lines; ++k) word.part[k] = packs[k].part[p];
        *reinterpret_cast<Word*>(memory.values + at(j + p, i)) = word;
      }
    }
    sync_threads();
    const int line = thread_index() / writers, column = thread_index() % writers * pack;
    MOXIE_UNROLL
    for (int k = 0; k < high / lines_at_once; ++k) {
      const int to = line + k * lines_at_once;
      if (to >= place.height || column >= place.width) continue;
      *reinterpret_cast<Vector16*>(kernel.y + place.to + to * place.apart + column) =
          *reinterpret_cast<const Vector16*>(memory.values + at(to, column));
    }
  }
};

// Tiles that move by single elements.
template <class T> struct PlainTranspose {
  static constexpr int high = sizeof(T) < 4 ? 64 : 32, wide = high;
  static constexpr int row = wide + 1;  // odd: neither direction meets one bank
  static constexpr int lines_at_once = transpose_threads / high, steps = high / lines_at_once;
  struct Memory {
    T values[high * row];
  };

  static MOXIE_DEVICE void run(const TransposeCopy<T>& kernel, const typename TransposeCopy<T>::Place& place,
                               Memory& memory) {
    const int line = thread_index() / high, column = thread_index() % high;
    T moved[steps];
    MOXIE_UNROLL
    for (int k = 0; k < steps; ++k) {
      const int i = line + k * lines_at_once;
      if (i < place.width && column < place.height) moved[k] = kernel.x[place.from + column + i * place.step];
    }
    MOXIE_UNROLL
    for (int k = 0; k < steps; ++k) {
      const int i = line + k * lines_at_once;
      if (i < place.width && column < place.height) memory.values[i * row + column] = moved[k];
    }
    sync_threads();
    MOXIE_UNROLL
    for (int k = 0; k < steps; ++k) {
      const int j = line + k * lines_at_once;
      if (j < place.height && column < place.width)
        kernel.y[place.to + j * place.apart + column] = memory.values[column * row + j];
    }
  }
};

// The block's tile, number block_index().
template <class Form, class T>
MOXIE_DEVICE void transpose_tile(const TransposeCopy<T>& kernel, typename Form::Memory& memory) {
  Form::run(kernel, kernel.place(static_cast<uint32_t>(block_index()), Form::high, Form::wide), memory);
}

}  // namespace moxie::cuda
