// SPDX-License-Identifier: Apache-2.0
// The memory of recordings: who owns which block. A recorded kernel keeps its addresses, so blocks that were taken
// while a graph was recorded stay its own until it is destroyed, whatever becomes of the arrays that held them. Inside
// the recording a block that was given back may be taken again, since its launches are in order too. Without CUDA's
// headers, so that tests without a GPU use the same.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

namespace moxie::cuda {

// Of one device. Not safe to use from several threads at once.
class RecordedMemory final {
 public:
  // Begins the recording of `graph`, any pointer that names it; ended by end().
  void begin(const void* graph) { recording_ = graph; }
  void end() {
    free_.clear();
    recording_ = nullptr;
  }
  bool is_recording() const { return recording_ != nullptr; }

  // A block of at least `bytes` that was given back in this recording, and is at most a quarter larger; or null.
  std::byte* take(int64_t bytes) {
    const auto found = free_.lower_bound(bytes);
    if (found == free_.end() || found->first > bytes + bytes / 4) return nullptr;
    std::byte* const data = found->second;
    free_.erase(found);
    blocks_[data].in_use = true;
    return data;
  }
  // A new block, in use by an array; or, as a constant, by the graph alone.
  void add(std::byte* data, int64_t bytes, bool constant = false) { blocks_[data] = {recording_, bytes, !constant}; }
  // An array gives a block back. True: it stays with a graph; false: it is the caller's to free.
  bool give_back(std::byte* data, int64_t bytes) {
    const auto found = blocks_.find(data);
    if (found == blocks_.end()) {
      if (!is_recording()) return false;
      blocks_[data] = {recording_, bytes, false};  // from before, and perhaps used in the recording
      return true;
    }
    found->second.in_use = false;
    if (is_recording() && found->second.graph == recording_) free_.emplace(found->second.bytes, data);
    return true;
  }
  // Forgets a graph's blocks, and returns those that no array holds, to be freed. The others are from now on like any
  // other memory.
  std::vector<std::pair<std::byte*, int64_t>> forget(const void* graph) {
    std::vector<std::pair<std::byte*, int64_t>> unused;
    for (auto at = blocks_.begin(); at != blocks_.end();) {
      if (at->second.graph != graph) {
        ++at;
        continue;
      }
      if (!at->second.in_use) unused.emplace_back(at->first, at->second.bytes);
      at = blocks_.erase(at);
    }
    return unused;
  }

 private:
  struct Block {
    const void* graph;
    int64_t bytes;
    bool in_use;
  };
  const void* recording_ = nullptr;
  std::unordered_map<std::byte*, Block> blocks_;
  std::multimap<int64_t, std::byte*> free_;  // of the recording under way
};

}  // namespace moxie::cuda
