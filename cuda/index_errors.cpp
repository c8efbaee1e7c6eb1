// SPDX-License-Identifier: Apache-2.0
#include "cuda/index_errors.h"

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "core/check.h"
#include "cuda/runtime.h"

namespace moxie::cuda {
namespace {

struct Known {
  int device;
  std::string op;
  int64_t limit;
};

// Records are few: one for each op and limit.
struct Records {
  static constexpr size_t most = 1024;
  std::mutex mutex;
  volatile IndexRecord* memory = nullptr;
  std::vector<Known> known;
  std::atomic<size_t> count{0};  // known.size(), to be read without the mutex
};

Records& records() {
  static Records& instance = *new Records;
  return instance;
}

}  // namespace

IndexRecord* index_record(int device, const char* op, int64_t limit) {
  Records& all = records();
  const std::lock_guard lock(all.mutex);
  if (all.memory == nullptr) {
    void* memory = nullptr;
    MOXIE_CUDA_CHECK(
        cudaHostAlloc(&memory, sizeof(IndexRecord) * Records::most, cudaHostAllocPortable | cudaHostAllocMapped));
    all.memory = static_cast<IndexRecord*>(memory);
    for (size_t i = 0; i < Records::most; ++i) all.memory[i].position = -1;
  }
  size_t i = 0;
  while (i < all.known.size() &&
         !(all.known[i].device == device && all.known[i].limit == limit && all.known[i].op == op))
    ++i;
  if (i == all.known.size()) {
    check_internal(i < Records::most, "check_indices: more than {} different checks", Records::most);
    all.known.push_back({device, op, limit});
    all.count = all.known.size();
  }
  return const_cast<IndexRecord*>(all.memory + i);
}

void throw_if_index_out_of_range() {
  Records& all = records();
  if (all.count == 0) return;
  std::string message;
  {
    const std::lock_guard lock(all.mutex);
    for (size_t i = 0; i < all.known.size(); ++i) {
      volatile IndexRecord& record = all.memory[i];
      if (record.position < 0) continue;
      if (message.empty())
        message = fmt::format("{}: index {} at position {} is out of range [0, {})", all.known[i].op,
                              int32_t{record.value}, int64_t{record.position}, all.known[i].limit);
      record.position = -1;
    }
  }
  if (!message.empty()) throw_invalid_argument(message);
}

}  // namespace moxie::cuda
