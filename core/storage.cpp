// SPDX-License-Identifier: Apache-2.0
#include "core/storage.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "core/cuda.h"
#include "core/launch.h"

namespace moxie {
namespace {

constexpr int64_t alignment = 64;
constexpr int64_t mapped_from = int64_t{1} << 20;  // blocks from here up are mapped on their own
constexpr int64_t huge_page = int64_t{1} << 21;
[[maybe_unused]] constexpr int64_t cuda_alignment = 256;

int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

// Sizes are rounded so that slightly different requests meet the same cached block: at most an eighth is lost.
int64_t size_class(int64_t bytes) {
  int64_t unit = alignment;
  while (unit * 16 <= bytes) unit *= 2;
  return round_up(std::max(bytes, alignment), unit);
}

std::byte* system_allocate(int64_t capacity) {
  if (capacity < mapped_from)
    return static_cast<std::byte*>(::operator new (static_cast<size_t>(capacity), std::align_val_t{alignment}));
  void* memory =
      mmap(nullptr, static_cast<size_t>(capacity), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  if (capacity >= huge_page) madvise(memory, static_cast<size_t>(capacity), MADV_HUGEPAGE);
  return static_cast<std::byte*>(memory);
}

void system_free(std::byte* data, int64_t capacity) {
  if (capacity < mapped_from) return ::operator delete (data, std::align_val_t{alignment});
  munmap(data, static_cast<size_t>(capacity));
}

class CpuCache final {
 public:
  std::byte* allocate(int64_t bytes, int64_t& capacity) {
    capacity = size_class(bytes);
    std::byte* data = nullptr;
    {
      const std::lock_guard lock(mutex_);
      auto& blocks = free_[capacity];
      if (!blocks.empty()) {
        data = blocks.back();
        blocks.pop_back();
      }
      statistics_.live_bytes += capacity;
      statistics_.peak_bytes = std::max(statistics_.peak_bytes, statistics_.live_bytes);
      if (data == nullptr) {
        statistics_.reserved_bytes += capacity;
        ++statistics_.system_calls;
      }
    }
    if (data == nullptr) data = allocate_or_release(capacity);
    if (poison_) std::memset(data, 0xFF, static_cast<size_t>(capacity));
    return data;
  }

  void free(std::byte* data, int64_t capacity) {
    const std::lock_guard lock(mutex_);
    free_[capacity].push_back(data);
    statistics_.live_bytes -= capacity;
  }

  void release() {
    const std::lock_guard lock(mutex_);
    for (auto& [capacity, blocks] : free_) {
      for (std::byte* block : blocks) system_free(block, capacity);
      statistics_.reserved_bytes -= capacity * static_cast<int64_t>(blocks.size());
      blocks.clear();
    }
  }

  MemoryStatistics statistics() {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    statistics_.peak_bytes = statistics_.live_bytes;
  }
  void set_poison(bool on) { poison_ = on; }
  bool poison() const { return poison_; }

 private:
  std::byte* allocate_or_release(int64_t capacity) {
    try {
      return system_allocate(capacity);
    } catch (const std::bad_alloc&) {
      release();  // cached blocks of other sizes may make room
    }
    try {
      return system_allocate(capacity);
    } catch (const std::bad_alloc&) {
      const std::lock_guard lock(mutex_);
      statistics_.live_bytes -= capacity;
      statistics_.reserved_bytes -= capacity;
      throw;
    }
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<std::byte*>> free_;
  MemoryStatistics statistics_;
  bool poison_ = false;
};

// Never destroyed: arrays in static variables may outlive any order of destruction.
CpuCache& cache() {
  static CpuCache& instance = *new CpuCache;
  return instance;
}

}  // namespace

Storage::Storage(int64_t bytes, Device device) : bytes_(bytes), device_(device) {
  if (device.is_cpu()) {
    if (bytes > 0) data_ = cache().allocate(bytes, capacity_);
    return;
  }
#ifdef MOXIE_CUDA
  if (bytes == 0) return;
  capacity_ = round_up(bytes, cuda_alignment);
  data_ = cuda::allocate(device.index, capacity_);
  if (cache().poison()) cuda::set_bytes(device.index, data_, 0xFF, capacity_);
#else
  throw_built_without_cuda();
#endif
}

Storage::~Storage() {
  if (data_ == nullptr) return;
  if (device_.is_cpu()) cache().free(data_, capacity_);
#ifdef MOXIE_CUDA
  if (device_.is_cuda()) cuda::free(device_.index, data_, capacity_);
#endif
}

MemoryStatistics cpu_memory() { return cache().statistics(); }
MemoryStatistics memory_of(Device device) {
  if (device.is_cpu()) return cpu_memory();
#ifdef MOXIE_CUDA
  const cuda::Memory memory = cuda::memory(device.index);
  return {memory.live_bytes, memory.peak_bytes, memory.reserved_bytes, 0};
#else
  throw_built_without_cuda();
#endif
}
void reset_peak_memory() {
  cache().reset_peak();
#ifdef MOXIE_CUDA
  cuda::reset_peak_memory();
#endif
}
void release_cached_memory() {
  cache().release();
#ifdef MOXIE_CUDA
  cuda::release_cached_memory();
#endif
}
void poison_new_memory(bool on) { cache().set_poison(on); }

}  // namespace moxie
