// SPDX-License-Identifier: Apache-2.0
// What is asked of a GPU, recorded once and asked for again with a single call: a CUDA graph.
#pragma once
#include <functional>
#include <memory>

#include "core/device.h"

namespace moxie {

namespace cuda {
struct Graph;
}

// A recording repeats itself with the very same memory and the very same arguments of kernels. So what shall differ
// from time to time lies in arrays that exist before and are overwritten between the launches (Array::copy_from;
// RandomKey:: step_at for random numbers), and results are read, or copied, before the next launch. Arrays that were
// made in the recording live as long as the graph or their last handle, whichever is longer; those from before, which
// the recording uses, the caller keeps alive and where they are. nn/step_graph.h makes a training step of it.
class Graph final {
 public:
  // Calls `work` while `device` records what is asked of it and does none of it. Everything must have been done once
  // before, so that nothing is set up any more. Throws std::invalid_argument on a CPU, inside another recording, and
  // where `work` needs the host's or another device's numbers or waits for the device (to_vector, item, Array::from, a
  // Profiler): those can't be repeated. Records one thread at a time.
  static Graph record(Device device, const std::function<void()>& work);

  Graph() = default;
  // Does everything once more, in the order of the device's other work. Nothing waits.
  void launch() const;
  bool defined() const { return graph_ != nullptr; }

 private:
  std::shared_ptr<cuda::Graph> graph_;
};

// Whether what is asked of the device is being recorded.
bool is_recording(Device device);
// Throws std::invalid_argument: `what` can't be part of a recording.
[[noreturn]] void throw_not_recordable(const char* what);

}  // namespace moxie
