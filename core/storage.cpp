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
// Blocks from here up are whole pages (of 16 KiB or less) of a region.
constexpr int64_t mapped_from = int64_t{1} << 18;
constexpr int64_t region_bytes = int64_t{1} << 26;
constexpr int64_t huge_page = int64_t{1} << 21;
[[maybe_unused]] constexpr int64_t cuda_alignment = 256;

int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

// Sizes are rounded so that slightly different requests meet the same cached block: at most an eighth is lost.
int64_t size_class(int64_t bytes) {
  int64_t unit = alignment;
  while (unit * 16 <= bytes) unit *= 2;
  return round_up(std::max(bytes, alignment), unit);
}

// Hands out blocks one after the other from regions of huge pages. Blocks of a few MiB that were mapped on their own
// had small pages for the most part, since few began where a huge page may; translating addresses took 2% of a step of
// `tiny`.
class Regions final {
 public:
  std::byte* allocate(int64_t capacity) {
    const std::lock_guard lock(mutex_);
    if (left_ < capacity) begin(round_up(std::max(capacity, region_bytes), huge_page));
    std::byte* block = next_;
    next_ += capacity;
    left_ -= capacity;
    return block;
  }

 private:
  // Gives back what is left of the region before, in which there is no block.
  void begin(int64_t bytes) {
    void* memory = mmap(nullptr, static_cast<size_t>(bytes + huge_page), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    if (left_ > 0) munmap(next_, static_cast<size_t>(left_));
    const int64_t skipped = -static_cast<int64_t>(reinterpret_cast<uintptr_t>(memory)) & (huge_page - 1);
    next_ = static_cast<std::byte*>(memory) + skipped;
    left_ = bytes;
    if (skipped > 0) munmap(memory, static_cast<size_t>(skipped));
    if (skipped < huge_page) munmap(next_ + left_, static_cast<size_t>(huge_page - skipped));
    madvise(next_, static_cast<size_t>(left_), MADV_HUGEPAGE);
  }

  std::mutex mutex_;
  std::byte* next_ = nullptr;
  int64_t left_ = 0;
};

std::byte* system_allocate(int64_t capacity) {
  if (capacity < mapped_from)
    return static_cast<std::byte*>(::operator new (static_cast<size_t>(capacity), std::align_val_t{alignment}));
  static Regions& regions = *new Regions;
  return regions.allocate(capacity);
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
