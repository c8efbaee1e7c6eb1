// SPDX-License-Identifier: Apache-2.0
// Memory of arrays. On the CPU it is aligned to 64 bytes and comes from a cache that keeps its pages, so that a
// training step in its steady state asks the system for nothing. On a GPU it comes from CUDA's own pool, aligned to 256
// bytes, which keeps its pages too.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/device.h"

namespace moxie {

class Storage final {
 public:
  Storage(int64_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // What the cache took for it, as cpu_memory() counts: bytes() rounded up, at most by an eighth or to 64; on a GPU to
  // 256.
  int64_t capacity() const { return capacity_; }
  Device device() const { return device_; }
  // How often the numbers were changed in place, as far as those who did it said so.
  uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  void mark_changed() { version_.fetch_add(1, std::memory_order_relaxed); }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  int64_t capacity_ = 0;
  Device device_;
  std::atomic<uint64_t> version_{0};
};

struct MemoryStatistics {
  int64_t live_bytes = 0;      // in use by arrays now
  int64_t peak_bytes = 0;      // the most that was in use at once since reset_peak_memory
  int64_t reserved_bytes = 0;  // taken from the system: in use and cached
  int64_t system_calls = 0;    // how often the system was asked for memory
};

// What the CPU cache holds; safe to call from any thread.
MemoryStatistics cpu_memory();
// The same for any device. On a GPU system_calls is not counted.
MemoryStatistics memory_of(Device device);
// Makes the peaks of all devices start again from what is in use now.
void reset_peak_memory();
// Gives cached memory that no array uses back to the system, on all devices.
void release_cached_memory();
// While on, new memory is filled with 0xFF (NaN in every float type), so that tests see a read before a write.
void poison_new_memory(bool on);

}  // namespace moxie
