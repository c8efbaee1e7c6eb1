// SPDX-License-Identifier: Apache-2.0
// Internal to core/attention*.cpp: what the CPU forward and backward share beyond the tiles.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>

#include "core/attention.h"
#include "core/attention_pairs.h"
#include "core/attention_tiles.h"
#include "core/launch.h"

namespace moxie::attention_cpu {

// All are instantiated for double, float and bf16, and the first two for bf16 by pairs everywhere. decode() is
// forward() for very few queries that nothing turns.
template <class T, class A = Arithmetic<T>> void forward(const Attention& problem);
template <class T, class A = Arithmetic<T>> void backward(const AttentionBackward& problem);
template <class T> void decode(const Attention& problem);

// Up to how many queries decode() is the faster one.
inline constexpr int64_t decode_queries = 2;

// Which query of one head sees which key: with `causal`, query t the keys up to t + offset; with a window, the last
// `window` of those; with a mask, those of them that its row allows. What causal and window leave is one range of keys,
// and both its ends grow with the query.
struct Visibility {
  int64_t k_length;
  int64_t offset;
  bool causal;
  int64_t window;       // 0: none
  const uint8_t* mask;  // null: none; the row of query t at mask + t * mask_stride
  int64_t mask_stride;
  Visibility(const Attention& p, int64_t batch, int64_t head)
      : k_length(p.k_length),
        offset(p.k_length - p.q_length),
        causal(p.causal),
        window(p.window),
        mask(p.mask == nullptr ? nullptr : p.mask + batch * p.mask_batch_stride + head * p.mask_head_stride),
        mask_stride(p.mask_stride) {}
  // Where the query's range of keys begins and ends.
  int64_t first_key_of(int64_t query) const {
    return window == 0 ? 0 : std::clamp<int64_t>(query + offset + 1 - window, 0, k_length);
  }
  int64_t end_key_of(int64_t query) const {
    return causal ? std::clamp<int64_t>(query + offset + 1, 0, k_length) : k_length;
  }
  // Where the key's range of queries begins and ends, if there were queries enough on both sides.
  int64_t first_query_of(int64_t key) const { return causal ? key - offset : 0; }
  int64_t end_query_of(int64_t key) const {
    return window == 0 ? std::numeric_limits<int64_t>::max() : key - offset + window;
  }
  bool sees(int64_t query, int64_t key) const {
    return key >= first_key_of(query) && key < end_key_of(query) &&
           (mask == nullptr || mask[query * mask_stride + key] != 0);
  }
};

// How many keys a block has at most.
inline constexpr int64_t most_keys = 128;

// Sets values[j * row + w] to `value` where query + w does not see key first + j, for j < keys and the tile's lanes w;
// what lanes from `queries` on get does not matter. Returns the first j of which something is hidden, or `keys`.
template <class C>
int64_t hide(const Visibility& visibility, int64_t query, int64_t queries, int64_t first, int64_t keys, C* values,
             int64_t row, C value) {
  constexpr int64_t width = tile_columns<C>;
  int64_t hidden = std::clamp<int64_t>(visibility.end_key_of(query) - first, 0, keys);
  for (int64_t j = hidden; j < keys; ++j) {
    std::fill_n(values + j * row, std::min(width, visibility.first_query_of(first + j) - query), value);
  }
  const int64_t left = std::min(keys, visibility.first_key_of(query + queries - 1) - first);
  for (int64_t j = 0; j < left; ++j) {
    const int64_t lanes = std::max<int64_t>(0, visibility.end_query_of(first + j) - query);
    std::fill(values + j * row + lanes, values + j * row + width, value);
  }
  if (left > 0) hidden = 0;
  if (visibility.mask == nullptr) return hidden;
  int64_t masked = keys;  // the first j that the mask hides from somebody
  for (int64_t w = 0; w < queries; ++w) {
    const uint8_t* seen = visibility.mask + (query + w) * visibility.mask_stride + first;
    const void* zero = std::memchr(seen, 0, static_cast<size_t>(masked));
    if (zero != nullptr) masked = static_cast<const uint8_t*>(zero) - seen;
  }
  if (masked == keys) return hidden;
  // Queries along the lanes, as the values are, so that no branch depends on the mask.
  uint8_t lanes[most_keys * width];
  std::memset(lanes, 1, sizeof lanes);
  for (int64_t w = 0; w < queries; ++w) {
    const uint8_t* seen = visibility.mask + (query + w) * visibility.mask_stride + first;
    for (int64_t j = masked; j < keys; ++j) lanes[j * width + w] = seen[j];
  }
  for (int64_t j = masked; j < keys; ++j) {
    C* to = values + j * row;
    const uint8_t* seen = lanes + j * width;
#pragma omp simd
    for (int64_t w = 0; w < width; ++w) to[w] = seen[w] != 0 ? to[w] : value;
  }
  return std::min(hidden, masked);
}

// One piece of scratch memory per thread, allocated before a parallel loop so that failing throws there.
template <class C> class Scratch final {
 public:
  explicit Scratch(int64_t elements_per_thread)
      : nested_(in_parallel()),
        stride_(round_up(elements_per_thread, 64)),
        memory_(static_cast<C*>(::operator new(bytes(), alignment))) {}
  ~Scratch() { ::operator delete(memory_, alignment); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // The piece of the calling thread.
  C* mine() const { return nested_ ? memory_ : memory_ + thread_number() * stride_; }

 private:
  static constexpr std::align_val_t alignment{64};
  size_t bytes() const { return static_cast<size_t>(stride_ * (nested_ ? 1 : threads())) * sizeof(C); }
  bool nested_;
  int64_t stride_;
  C* memory_;
};

// Hands out consecutive pieces of a thread's scratch memory, each on its own cache lines.
template <class C> class Cutter final {
 public:
  explicit Cutter(C* memory) : next_(memory) {}
  C* take(int64_t elements) {
    C* piece = next_;
    next_ += round_up(elements, 64 / static_cast<int64_t>(sizeof(C)));
    return piece;
  }
  // The same of elements of the same size.
  template <class E> E* take_as(int64_t elements) {
    static_assert(sizeof(E) == sizeof(C));
    return reinterpret_cast<E*>(take(elements));
  }

 private:
  C* next_;
};

// The angles of the keys.
template <class C> Turn<C> turn_of(const Attention& p) {
  return {static_cast<const C*>(p.cosine), static_cast<const C*>(p.sine), p.head_dim / 2};
}

// Keys or values, row by row, in the type of the arithmetic.
template <class C> struct Rows {
  const C* data;
  int64_t row;
  Rows from(int64_t first) const { return {data + first * row, row}; }
};

// The rows where they are if their type fits, they are whole vectors (padded == columns) and nothing turns them,
// otherwise copied to `copy`.
template <class T, class C>
Rows<C> rows_of(const T* from, int64_t from_row, C* copy, int64_t rows, int64_t columns, int64_t padded,
                const Turn<C>& turn = {}) {
  if constexpr (std::is_same_v<T, C>) {
    if (padded == columns && turn.cosine == nullptr) return {from, from_row};
  }
  copy_rows(from, from_row, copy, rows, columns, padded, C{1}, turn);
  return {copy, padded};
}

// How long rows are that the products read: whole vectors where they are paired.
template <class A> int64_t padded_head_dim(int64_t head_dim) {
  return A::group == 1 ? head_dim : round_up(head_dim, Simd<typename A::Scalar>::lanes);
}

// The rows as elements along their columns: themselves, or pairs in `pairs`.
template <class A>
Rows<typename A::Element> along_columns(const Rows<typename A::Scalar>& rows, int64_t count, int64_t padded,
                                        [[maybe_unused]] typename A::Element* pairs) {
  if constexpr (A::group == 1) {
    return rows;
  } else {
    pair_columns(rows.data, rows.row, count, padded, pairs, padded / 2);
    return {pairs, padded / 2};
  }
}

// The rows as elements along the rows, [elements of count, columns]: themselves, or pairs in `pairs`.
template <class A>
Rows<typename A::Element> along_rows(const Rows<typename A::Scalar>& rows, int64_t count, int64_t columns,
                                     [[maybe_unused]] typename A::Element* pairs) {
  if constexpr (A::group == 1) {
    return rows;
  } else {
    pair_rows(rows.data, rows.row, count, columns, pairs, columns);
    return {pairs, columns};
  }
}

}  // namespace moxie::attention_cpu
