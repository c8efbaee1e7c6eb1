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
#include "core/graph.h"
#include "core/launch.h"
#include "core/recorded_memory.h"
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
    if (recorded_.is_recording()) {
      std::byte* data = recorded_.take(bytes);
      if (data == nullptr) recorded_.add(data = take(bytes), bytes);
      return data;
    }
    return take(bytes);
  }
  void free(std::byte* data, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    memory_.live_bytes -= bytes;
    if (!recorded_.give_back(data, bytes)) free_[bytes].push_back(data);
  }
  // A block of the recording under way that no array holds.
  std::byte* allocate_constant(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    std::byte* const data = take(bytes);
    recorded_.add(data, bytes, true);
    return data;
  }
  void begin_recording(const void* graph) {
    const std::lock_guard lock(mutex_);
    recorded_.begin(graph);
  }
  void end_recording() {
    const std::lock_guard lock(mutex_);
    recorded_.end();
  }
  void free_memory_of(const void* graph) {
    const std::lock_guard lock(mutex_);
    for (const auto& [data, bytes] : recorded_.forget(graph)) free_[bytes].push_back(data);
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
  std::byte* take(int64_t bytes) {
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
  void protect(int how) {
    const int64_t used = (memory_.reserved_bytes + page - 1) / page * page;
    if (used > 0) mprotect(data_, static_cast<size_t>(std::min(used, capacity)), how);
  }

  std::mutex mutex_;
  std::byte* data_;
  std::map<int64_t, std::vector<std::byte*>> free_;
  RecordedMemory recorded_;
  Memory memory_;
  int open_ = 0;
};

Arena& arena() {
  static Arena& instance = *new Arena;
  return instance;
}

// While one lives the memory of the pretended GPU may be touched.
struct Opened {
  Opened() { arena().open(); }
  ~Opened() { arena().close(); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
};

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

struct Graph {
  std::vector<std::shared_ptr<void>> work;
  std::vector<void (*)(void*)> run;
};

namespace {

Graph* recording = nullptr;

void refuse_recording(const char* what) {
  if (recording != nullptr) throw_not_recordable(what);
}

}  // namespace

void do_or_record(void* work, void (*run)(void*), void (*destroy)(void*)) {
  std::shared_ptr<void> owned(work, destroy);
  if (recording != nullptr) {
    recording->work.push_back(std::move(owned));
    return recording->run.push_back(run);
  }
  const Opened opened;
  run(work);
}

bool is_recording(int) { return recording != nullptr; }
void begin_recording(int) {
  recording = new Graph;
  arena().begin_recording(recording);
}
Graph* end_recording(int) {
  arena().end_recording();
  return std::exchange(recording, nullptr);
}
void abandon_recording(int device) noexcept { destroy(end_recording(device)); }
void launch(const Graph& graph) {
  refuse_recording("another graph's launch");
  const Opened opened;
  for (size_t i = 0; i < graph.work.size(); ++i) graph.run[i](graph.work[i].get());
}
void destroy(Graph* graph) noexcept {
  arena().free_memory_of(graph);
  delete graph;
}
void copy_to_device_now(int, void* into, const void* from, int64_t bytes) {
  const Opened opened;
  std::memcpy(into, from, static_cast<size_t>(bytes));
}
const std::byte* constant_of_recording(int device, const void* from, int64_t bytes) {
  std::byte* const data = arena().allocate_constant(bytes);
  copy_to_device_now(device, data, from, bytes);
  return data;
}

std::byte* allocate(int, int64_t bytes) { return arena().allocate(bytes); }
void free(int, std::byte* data, int64_t bytes) noexcept { arena().free(data, bytes); }
void release_cached_memory() {}
Memory memory(int) { return arena().memory(); }
void reset_peak_memory() { arena().memory().peak_bytes = arena().memory().live_bytes; }

void set_bytes(int, void* data, uint8_t value, int64_t bytes) {
  do_or_record([=] { std::memset(data, value, static_cast<size_t>(bytes)); });
}
void copy_to_device(int, void* into, const void* from, int64_t bytes) {
  refuse_recording("a copy from the host");
  const Opened opened;
  std::memcpy(into, from, static_cast<size_t>(bytes));
}
void copy_to_host(int, void* into, const void* from, int64_t bytes) {
  refuse_recording("a copy to the host, such as item or to_vector");
  const Opened opened;
  std::memcpy(into, from, static_cast<size_t>(bytes));
  throw_index_error();
}
void copy_within(int, void* into, const void* from, int64_t bytes) {
  do_or_record([=] { std::memmove(into, from, static_cast<size_t>(bytes)); });
}
void copy_between(int, void* into, int, const void* from, int64_t bytes) { copy_within(0, into, from, bytes); }
void synchronize(int) {
  refuse_recording("a wait for the device");
  throw_index_error();
}

struct Event {
  std::chrono::steady_clock::time_point at;
};
Event* record_event(int) {
  refuse_recording("a Profiler's marks");
  return new Event{std::chrono::steady_clock::now()};
}
double milliseconds_between(const Event* earlier, const Event* later) {
  return std::chrono::duration<double, std::milli>(later->at - earlier->at).count();
}
void begin_range(const char*) {}
void end_range() {}
void destroy(Event* event) noexcept { delete event; }

void check_indices(int, const char* op, const int32_t* index, int64_t n, int64_t limit, const int32_t* ignored) {
  const bool has_ignored = ignored != nullptr;
  do_or_record([=, unseen = has_ignored ? *ignored : 0] {
    for (int64_t i = 0; i < n; ++i) {
      if ((index[i] >= 0 && index[i] < limit) || (has_ignored && index[i] == unseen) || !index_error().empty())
        continue;
      index_error() = fmt::format("{}: index {} at position {} is out of range [0, {})", op, index[i], i, limit);
    }
  });
}

void counting_sort(int, const CountingSortProblem& p) {
  do_or_record([=] {
    const auto keys = Array::from(std::span(p.keys, static_cast<size_t>(p.n)), {p.n});
    const CountingSort sorted = moxie::counting_sort(keys, p.values, p.group);
    std::copy_n(sorted.offsets.data<int32_t>(), p.values + 1, p.offsets);
    std::copy_n(sorted.order.data<int32_t>(), p.n, p.order);
    std::copy_n(sorted.place.data<int32_t>(), p.n, p.place);
  });
}

template <class T> void sort_rows(int, const SortRows<T>& p) {
  do_or_record([=] {
    const Shape shape{p.rows, p.n};
    const Array x = Array::from(std::span(p.x, static_cast<size_t>(p.rows * p.n)), shape),
                values = Array::empty(shape, x.options()), indices = Array::empty(shape, {Dtype::i32});
    moxie::sort_rows(x, p.descending, values, indices);
    std::copy_n(values.data<T>(), values.numel(), p.values);
    std::copy_n(indices.data<int32_t>(), indices.numel(), p.indices);
  });
}
template void sort_rows(int, const SortRows<double>&);
template void sort_rows(int, const SortRows<float>&);
template void sort_rows(int, const SortRows<bf16>&);

void gemm(int, const Gemm& g) {
  do_or_record([=] { moxie::gemm(Device::cpu(), g); });
}
void grouped_gemm(int, const GroupedGemm& g) {
  do_or_record([=] { moxie::grouped_gemm(Device::cpu(), g); });
}
void grouped_gemm_weight(int, const GroupedGemmWeight& g) {
  do_or_record([=] { moxie::grouped_gemm_weight(Device::cpu(), g); });
}
void attention(int, const Attention& p) {
  do_or_record([=] { moxie::attention(Device::cpu(), p); });
}
void attention_backward(int, const AttentionBackward& p) {
  do_or_record([=] { moxie::attention_backward(Device::cpu(), p); });
}

}  // namespace cuda
}  // namespace moxie
