// SPDX-License-Identifier: Apache-2.0
// A GPU that isn't there: its memory is a part of the host's that nobody may touch but kernels and copies, which run on
// the CPU. Whoever reads or writes an array of Device::cuda() on the host meets a segmentation fault, as with a real
// one. The preset `pretend` builds the library and all tests with it.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <vector>

#include "core/attention.h"
#include "core/cuda.h"
#include "core/gemm.h"
#include "core/launch.h"
#include "core/sort.h"

namespace moxie {

bool Device::has_cuda() { return true; }

namespace cuda {
namespace {

constexpr int64_t capacity = int64_t{16} << 30, page = int64_t{1} << 21;

class Arena final {
 public:
  Arena()
      : data_(static_cast<std::byte*>(
            mmap(nullptr, size_t{capacity}, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    if (data_ == MAP_FAILED) throw std::bad_alloc();
  }

  std::byte* allocate(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    memory_.live_bytes += bytes;
    memory_.peak_bytes = std::max(memory_.peak_bytes, memory_.live_bytes);
    std::vector<std::byte*>& same = free_[bytes];
    if (!same.empty()) {
      std::byte* const data = same.back();
      same.pop_back();
      return data;
    }
    if (memory_.reserved_bytes + bytes > capacity) throw CudaError("pretend_cuda: the arena is full");
    std::byte* const data = data_ + memory_.reserved_bytes;
    memory_.reserved_bytes += bytes;
    if (open_ > 0) protect(PROT_READ | PROT_WRITE);
    return data;
  }
  void free(std::byte* data, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    memory_.live_bytes -= bytes;
    free_[bytes].push_back(data);
  }

  void open() {
    const std::lock_guard lock(mutex_);
    if (open_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    const std::lock_guard lock(mutex_);
    if (--open_ == 0) protect(PROT_NONE);
  }
  Memory& memory() { return memory_; }

 private:
  void protect(int how) {
    const int64_t used = (memory_.reserved_bytes + page - 1) / page * page;
    if (used > 0) mprotect(data_, static_cast<size_t>(std::min(used, capacity)), how);
  }

  std::mutex mutex_;
  std::byte* data_;
  std::map<int64_t, std::vector<std::byte*>> free_;
  Memory memory_;
  int open_ = 0;
};

Arena& arena() {
  static Arena& instance = *new Arena;
  return instance;
}

// What check_indices found, until somebody waits.
std::string& index_error() {
  static std::string message;
  return message;
}

void throw_index_error() {
  if (index_error().empty()) return;
  throw_invalid_argument(std::exchange(index_error(), {}));
}

}  // namespace

Opened::Opened() { arena().open(); }
Opened::~Opened() { arena().close(); }

std::byte* allocate(int, int64_t bytes) { return arena().allocate(bytes); }
void free(int, std::byte* data, int64_t bytes) noexcept { arena().free(data, bytes); }
void release_cached_memory() {}
Memory memory(int) { return arena().memory(); }
void reset_peak_memory() { arena().memory().peak_bytes = arena().memory().live_bytes; }

void set_bytes(int, void* data, uint8_t value, int64_t bytes) {
  const Opened opened;
  std::memset(data, value, static_cast<size_t>(bytes));
}
void copy_to_device(int, void* into, const void* from, int64_t bytes) {
  const Opened opened;
  std::memcpy(into, from, static_cast<size_t>(bytes));
}
void copy_to_host(int, void* into, const void* from, int64_t bytes) {
  const Opened opened;
  std::memcpy(into, from, static_cast<size_t>(bytes));
  throw_index_error();
}
void copy_within(int, void* into, const void* from, int64_t bytes) {
  const Opened opened;
  std::memmove(into, from, static_cast<size_t>(bytes));
}
void copy_between(int, void* into, int, const void* from, int64_t bytes) { copy_within(0, into, from, bytes); }
void synchronize(int) { throw_index_error(); }

struct Event {
  std::chrono::steady_clock::time_point at;
};
Event* record_event(int) { return new Event{std::chrono::steady_clock::now()}; }
double milliseconds_between(const Event* earlier, const Event* later) {
  return std::chrono::duration<double, std::milli>(later->at - earlier->at).count();
}
void destroy(Event* event) noexcept { delete event; }

void check_indices(int, const char* op, const int32_t* index, int64_t n, int64_t limit, const int32_t* ignored) {
  const Opened opened;
  for (int64_t i = 0; i < n; ++i) {
    if ((index[i] >= 0 && index[i] < limit) || (ignored && index[i] == *ignored) || !index_error().empty()) continue;
    index_error() = fmt::format("{}: index {} at position {} is out of range [0, {})", op, index[i], i, limit);
  }
}

void counting_sort(int, const int32_t* keys, int64_t n, int64_t values, int32_t* offsets, int32_t* order) {
  const Opened opened;
  const CountingSort sorted = moxie::counting_sort(Array::from(std::span(keys, static_cast<size_t>(n)), {n}), values);
  std::copy_n(sorted.offsets.data<int32_t>(), values + 1, offsets);
  std::copy_n(sorted.order.data<int32_t>(), n, order);
}

template <class T> void sort_rows(int, const SortRows<T>& p) {
  const Opened opened;
  const Shape shape{p.rows, p.n};
  const Array x = Array::from(std::span(p.x, static_cast<size_t>(p.rows * p.n)), shape),
              values = Array::empty(shape, x.options()), indices = Array::empty(shape, {Dtype::i32});
  moxie::sort_rows(x, p.descending, values, indices);
  std::copy_n(values.data<T>(), values.numel(), p.values);
  std::copy_n(indices.data<int32_t>(), indices.numel(), p.indices);
}
template void sort_rows(int, const SortRows<double>&);
template void sort_rows(int, const SortRows<float>&);
template void sort_rows(int, const SortRows<bf16>&);

void gemm(int, const Gemm& g) {
  const Opened opened;
  moxie::gemm(Device::cpu(), g);
}
void grouped_gemm(int, const GroupedGemm& g) {
  const Opened opened;
  moxie::grouped_gemm(Device::cpu(), g);
}
void grouped_gemm_weight(int, const GroupedGemmWeight& g) {
  const Opened opened;
  moxie::grouped_gemm_weight(Device::cpu(), g);
}
void attention(int, const Attention& p) {
  const Opened opened;
  moxie::attention(Device::cpu(), p);
}
void attention_backward(int, const AttentionBackward& p) {
  const Opened opened;
  moxie::attention_backward(Device::cpu(), p);
}

}  // namespace cuda
}  // namespace moxie
