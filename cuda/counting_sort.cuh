// SPDX-License-Identifier: Apache-2.0
// A stable sort of small integers in two launches: every block counts the keys of its chunk; then every block adds up
// the counts of all chunks and puts its own keys in their places. Counts are integers, so that the order in which
// atomics add them changes nothing.
#pragma once
#include "cuda/intrinsics.cuh"

namespace moxie::cuda {

// What core/sort.h says of counting_sort(), for values <= most_values and chunks <= most_chunks.
struct SmallSort {
  static constexpr int threads = 512, warps = threads / warp_size;
  static constexpr int rounds = 4;  // keys of a thread
  static constexpr int chunk = threads * rounds;
  static constexpr int most_values = 512, most_chunks = 512;
  struct Memory {
    int32_t seen[warps][most_values];  // keys of each value in a warp's part of the chunk, then the place of the first
    int32_t total[most_values];        // in all chunks
    int32_t before[most_values];       // in the chunks before this one
  };

  const int32_t* keys;
  int32_t* counts;  // [chunks, values]
  int32_t* offsets;
  int32_t* order;
  int32_t* place;
  int n, values, chunks, group;

  MOXIE_DEVICE int keys_of(int number) const { return n - number * chunk < chunk ? n - number * chunk : chunk; }

  // counts[number, v] = keys v in the chunk
  MOXIE_DEVICE void count(int number, Memory& memory) const {
    const int here = keys_of(number);
    for (int v = thread_index(); v < values; v += threads) memory.total[v] = 0;
    sync_threads();
    for (int i = thread_index(); i < here; i += threads) add_atomically(&memory.total[keys[number * chunk + i]], 1);
    sync_threads();
    for (int v = thread_index(); v < values; v += threads) counts[number * values + v] = memory.total[v];
  }

  MOXIE_DEVICE void add_up_counts(int number, Memory& memory) const {
    const int v = thread_index() % values, part = thread_index() / values, parts = threads / values;
    if (part >= parts) return;
    int32_t all = 0, earlier = 0;
    MOXIE_UNROLL_BY_16
    for (int c = part; c < chunks; c += parts) {
      const int32_t count = counts[c * values + v];
      all += count;
      earlier += c < number ? count : 0;
    }
    add_atomically(&memory.total[v], all);
    add_atomically(&memory.before[v], earlier);
  }

  MOXIE_DEVICE void put(int number, Memory& memory) const {
    const int here = keys_of(number), first = number * chunk;
    for (int v = thread_index(); v < values; v += threads) {
      memory.total[v] = memory.before[v] = 0;
      for (int w = 0; w < warps; ++w) memory.seen[w][v] = 0;
    }
    sync_threads();
    add_up_counts(number, memory);
    // A warp's part is contiguous, 32 keys at a time: equal ones are ranked by their lanes.
    int32_t* const seen = memory.seen[warp_index()];
    const int begin = warp_index() * rounds * warp_size + lane_index();
    int key[rounds], rank[rounds];
    MOXIE_UNROLL
    for (int r = 0; r < rounds; ++r) {
      const int i = begin + r * warp_size;
      key[r] = i < here ? keys[first + i] : -1;
    }
    MOXIE_UNROLL
    for (int r = 0; r < rounds; ++r) {
      const uint32_t equal = match_any(key[r]);
      const int lower = count_bits(equal & ((1u << lane_index()) - 1));
      const int32_t earlier = key[r] < 0 ? 0 : seen[key[r]];
      rank[r] = earlier + lower;
      sync_warp();
      if (key[r] >= 0 && lower == 0) seen[key[r]] = earlier + count_bits(equal);
      sync_warp();
    }
    sync_threads();
    if (const int v = thread_index(); v < values) {
      int32_t start = 0;
      MOXIE_UNROLL_BY_16
      for (int u = 0; u < values; ++u) start += u < v ? memory.total[u] : 0;
      if (number == 0) {
        offsets[v] = start;
        if (v == values - 1) offsets[values] = n;
      }
      start += memory.before[v];
      MOXIE_UNROLL
      for (int w = 0; w < warps; ++w) {
        const int32_t count = memory.seen[w][v];
        memory.seen[w][v] = start;
        start += count;
      }
    }
    sync_threads();
    MOXIE_UNROLL
    for (int r = 0; r < rounds; ++r) {
      if (key[r] < 0) continue;
      const int i = first + begin + r * warp_size;
      const int32_t at = seen[key[r]] + rank[r];
      place[i] = at;
      order[at] = i / group;
    }
  }
};

}  // namespace moxie::cuda
