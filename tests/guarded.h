// SPDX-License-Identifier: Apache-2.0
// Memory whose ends can't be crossed unseen, for kernels that take plain pointers.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <new>
#include <span>

namespace moxie::testing {

enum class Edge { end, begin };

// Numbers between two pages that nobody may touch: at the edge that they lie at, the first one too many is a
// segmentation fault. At both where they fill whole pages.
template <class T> class Guarded final {
 public:
  explicit Guarded(std::span<const T> values, Edge edge = Edge::end) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE)), bytes = values.size_bytes();
    const size_t inner = (bytes + page - 1) / page * page;
    size_ = inner + 2 * page;
    memory_ = ::mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    std::byte* first = static_cast<std::byte*>(memory_) + page;
    if (inner > 0 && ::mprotect(first, inner, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    values_ = {reinterpret_cast<T*>(edge == Edge::end ? first + inner - bytes : first), values.size()};
    std::copy(values.begin(), values.end(), values_.begin());
  }
  ~Guarded() { ::munmap(memory_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() const { return values_.data(); }
  std::span<T> values() const { return values_; }

 private:
  void* memory_;
  size_t size_;
  std::span<T> values_;
};

}  // namespace moxie::testing
