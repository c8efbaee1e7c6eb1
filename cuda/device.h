// SPDX-License-Identifier: Apache-2.0
// What the backend keeps for each device. Internal to cuda/*.cpp.
#pragma once
#include <cuda_runtime_api.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/recorded_memory.h"
#include "cuda/index_errors.h"
#include "cuda/runtime.h"

namespace moxie::cuda {

// Page-locked memory through which copies between host and device pass, cut into pieces that are used in turn.
class Staging final {
 public:
  static constexpr int64_t piece_bytes = int64_t{4} << 20;
  static constexpr size_t pieces = 4;

  // The next piece, after the copies that used it before are done.
  std::byte* take();
  // Says that the work queued on `stream` so far uses the piece taken last.
  void mark_used(cudaStream_t stream);
  // Waits for the piece that was taken `back` pieces ago.
  void wait(size_t piece);
  size_t last() const { return last_; }

 private:
  std::byte* memory_ = nullptr;
  cudaEvent_t done_[pieces] = {};
  size_t last_ = pieces - 1;
};

struct DeviceState {
  int index = 0;
  cudaStream_t stream = nullptr;
  cudaMemPool_t pool = nullptr;
  Properties properties;
  std::string name;
  std::atomic<int64_t> live_bytes{0}, peak_bytes{0};
  std::mutex caching;                                                 // guards small_blocks and recorded
  std::unordered_map<int64_t, std::vector<std::byte*>> small_blocks;  // free ones, by their size
  RecordedMemory recorded;
  std::atomic<bool> recording{false};
  Graph* recording_graph = nullptr;
  cudaStream_t beside = nullptr;  // for what happens at once while `stream` records
  std::mutex copying;             // guards staging
  Staging staging;
};

// Sets the device up at first, and makes it the thread's current one.
DeviceState& state(int device);
// Throws std::invalid_argument where the device records, since `what` can't be part of that.
void refuse_recording(const DeviceState& state, const char* what);
// All devices that were set up.
std::vector<DeviceState*> states();

}  // namespace moxie::cuda
