// SPDX-License-Identifier: Apache-2.0
// Stream-ordered memory and copies.
#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "cuda/device.h"

namespace moxie::cuda {
namespace {

constexpr double mebibyte = 1048576.0;
// Blocks up to this size are kept here when they are free: asking the pool takes as long as a launch, and a step has
// hundreds of them. What is on the stream is in order, so a block may be used again at once.
constexpr int64_t small_block = 1 << 20;

[[noreturn]] void throw_out_of_memory(const DeviceState& s, int64_t bytes) {
  size_t free = 0, total = 0;
  MOXIE_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  throw CudaError(fmt::format(
      "cuda: {:.1f} MiB more don't fit on cuda:{} ({}), arrays hold {:.1f} MiB, {:.1f} of {:.1f} MiB are free; smaller "
      "batches or shorter sequences, bf16, and recompute() need less",
      static_cast<double>(bytes) / mebibyte, s.index, s.name, static_cast<double>(s.live_bytes.load()) / mebibyte,
      static_cast<double>(free) / mebibyte, static_cast<double>(total) / mebibyte));
}

std::byte* take_small_block(DeviceState& s, int64_t bytes) {
  const std::lock_guard lock(s.caching);
  const auto found = s.small_blocks.find(bytes);
  if (found == s.small_blocks.end() || found->second.empty()) return nullptr;
  std::byte* const data = found->second.back();
  found->second.pop_back();
  return data;
}

void count_as_live(DeviceState& s, int64_t bytes) {
  const int64_t live = s.live_bytes.fetch_add(bytes) + bytes;
  for (int64_t peak = s.peak_bytes.load(); live > peak && !s.peak_bytes.compare_exchange_weak(peak, live);) {
  }
}

void release(DeviceState& s) {
  MOXIE_CUDA_CHECK(cudaSetDevice(s.index));
  {
    const std::lock_guard lock(s.caching);
    for (auto& [bytes, blocks] : s.small_blocks)
      for (std::byte* block : blocks) MOXIE_CUDA_CHECK(cudaFreeAsync(block, s.stream));
    s.small_blocks.clear();
  }
  MOXIE_CUDA_CHECK(cudaStreamSynchronize(s.stream));
  MOXIE_CUDA_CHECK(cudaMemPoolTrimTo(s.pool, 0));
}

// Memory for the graph that is being recorded. It comes from the pool by another stream, since what the recording
// stream is asked for would become a part of the graph; end_recording() waits for that one.
std::byte* allocate_for_recording(DeviceState& s, int64_t bytes, bool constant) {
  const std::lock_guard lock(s.caching);
  if (!constant) {
    if (std::byte* const block = s.recorded.take(bytes)) return block;
  }
  void* data = nullptr;
  const cudaError_t error = cudaMallocFromPoolAsync(&data, static_cast<size_t>(bytes), s.pool, s.beside);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw_out_of_memory(s, bytes);
  }
  check(error, "cudaMallocFromPoolAsync");
  s.recorded.add(static_cast<std::byte*>(data), bytes, constant);
  return static_cast<std::byte*>(data);
}

}  // namespace

std::byte* allocate(int device, int64_t bytes) {
  DeviceState& s = state(device);
  if (s.recording) {
    std::byte* const block = allocate_for_recording(s, bytes, false);
    count_as_live(s, bytes);
    return block;
  }
  if (bytes <= small_block) {
    if (std::byte* const block = take_small_block(s, bytes)) {
      count_as_live(s, bytes);
      return block;
    }
  }
  void* data = nullptr;
  cudaError_t error = cudaMallocFromPoolAsync(&data, static_cast<size_t>(bytes), s.pool, s.stream);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    release(s);  // free blocks of other sizes may make room
    error = cudaMallocFromPoolAsync(&data, static_cast<size_t>(bytes), s.pool, s.stream);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw_out_of_memory(s, bytes);
    }
  }
  check(error, "cudaMallocFromPoolAsync");
  count_as_live(s, bytes);
  return static_cast<std::byte*>(data);
}

// Fails only where the device has failed before, which another call reports, or when the program ends.
void free(int device, std::byte* data, int64_t bytes) noexcept {
  try {
    DeviceState& s = state(device);
    s.live_bytes.fetch_sub(bytes);
    {
      const std::lock_guard lock(s.caching);
      if (s.recorded.give_back(data, bytes)) return;
      if (bytes <= small_block) {
        s.small_blocks[bytes].push_back(data);
        return;
      }
    }
    if (cudaFreeAsync(data, s.stream) != cudaSuccess) cudaGetLastError();
  } catch (...) {
  }
}

void release_cached_memory() {
  for (DeviceState* s : states()) {
    refuse_recording(*s, "release_cached_memory");
    state(s->index);
    release(*s);
  }
}

Memory memory(int device) {
  DeviceState& s = state(device);
  uint64_t reserved = 0;
  MOXIE_CUDA_CHECK(cudaMemPoolGetAttribute(s.pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
  return {s.live_bytes.load(), s.peak_bytes.load(), static_cast<int64_t>(reserved)};
}

void reset_peak_memory() {
  for (DeviceState* s : states()) s->peak_bytes = s->live_bytes.load();
}

void set_bytes(int device, void* data, uint8_t value, int64_t bytes) {
  MOXIE_CUDA_CHECK(cudaMemsetAsync(data, value, static_cast<size_t>(bytes), stream(device)));
}

std::byte* Staging::take() {
  if (memory_ == nullptr) {
    void* memory = nullptr;
    MOXIE_CUDA_CHECK(cudaMallocHost(&memory, static_cast<size_t>(piece_bytes) * pieces));
    memory_ = static_cast<std::byte*>(memory);
    for (cudaEvent_t& event : done_) MOXIE_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  last_ = (last_ + 1) % pieces;
  wait(last_);
  return memory_ + static_cast<int64_t>(last_) * piece_bytes;
}
void Staging::mark_used(cudaStream_t stream) { MOXIE_CUDA_CHECK(cudaEventRecord(done_[last_], stream)); }
void Staging::wait(size_t piece) { MOXIE_CUDA_CHECK(cudaEventSynchronize(done_[piece])); }

void copy_to_device(int device, void* into, const void* from, int64_t bytes) {
  DeviceState& s = state(device);
  refuse_recording(s, "a copy from the host");
  const std::lock_guard lock(s.copying);
  for (int64_t done = 0; done < bytes; done += Staging::piece_bytes) {
    const auto count = static_cast<size_t>(std::min(bytes - done, Staging::piece_bytes));
    std::byte* piece = s.staging.take();
    std::memcpy(piece, static_cast<const std::byte*>(from) + done, count);
    MOXIE_CUDA_CHECK(
        cudaMemcpyAsync(static_cast<std::byte*>(into) + done, piece, count, cudaMemcpyHostToDevice, s.stream));
    s.staging.mark_used(s.stream);
  }
}

// One piece is on its way while the one before is copied out.
void copy_to_host(int device, void* into, const void* from, int64_t bytes) {
  DeviceState& s = state(device);
  refuse_recording(s, "a copy to the host, such as item or to_vector");
  const std::lock_guard lock(s.copying);
  struct Piece {
    const std::byte* data;
    size_t index;
    int64_t first;
  };
  const auto ask = [&](int64_t first) {
    std::byte* piece = s.staging.take();
    const auto count = static_cast<size_t>(std::min(bytes - first, Staging::piece_bytes));
    MOXIE_CUDA_CHECK(
        cudaMemcpyAsync(piece, static_cast<const std::byte*>(from) + first, count, cudaMemcpyDeviceToHost, s.stream));
    s.staging.mark_used(s.stream);
    return Piece{piece, s.staging.last(), first};
  };
  Piece piece = ask(0);
  while (true) {
    const int64_t next = piece.first + Staging::piece_bytes;
    const Piece following = next < bytes ? ask(next) : Piece{};
    s.staging.wait(piece.index);
    std::memcpy(static_cast<std::byte*>(into) + piece.first, piece.data,
                static_cast<size_t>(std::min(bytes - piece.first, Staging::piece_bytes)));
    if (next >= bytes) break;
    piece = following;
  }
  throw_if_index_out_of_range();
}

void copy_within(int device, void* into, const void* from, int64_t bytes) {
  MOXIE_CUDA_CHECK(cudaMemcpyAsync(into, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream(device)));
}

// Both streams stand still meanwhile.
void copy_between(int into_device, void* into, int from_device, const void* from, int64_t bytes) {
  refuse_recording(state(into_device), "a copy from another device");
  synchronize(from_device);
  MOXIE_CUDA_CHECK(
      cudaMemcpyPeerAsync(into, into_device, from, from_device, static_cast<size_t>(bytes), stream(into_device)));
  synchronize(into_device);
}

void copy_to_device_now(int device, void* into, const void* from, int64_t bytes) {
  DeviceState& s = state(device);
  MOXIE_CUDA_CHECK(cudaMemcpyAsync(into, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, s.beside));
  MOXIE_CUDA_CHECK(cudaStreamSynchronize(s.beside));
}

const std::byte* constant_of_recording(int device, const void* from, int64_t bytes) {
  std::byte* const data = allocate_for_recording(state(device), bytes, true);
  copy_to_device_now(device, data, from, bytes);
  return data;
}

}  // namespace moxie::cuda
