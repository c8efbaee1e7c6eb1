// SPDX-License-Identifier: Apache-2.0
#include "core/graph.h"

#include "core/check.h"
#include "core/cuda.h"
#include "core/launch.h"

namespace moxie {

Graph Graph::record(Device device, [[maybe_unused]] const std::function<void()>& work) {
  check(device.is_cuda(), "Graph: only a GPU records, got {}", device.name());
  Graph graph;
#ifdef MOXIE_CUDA
  check(!cuda::is_recording(device.index), "Graph: {} is recording already", device.name());
  cuda::begin_recording(device.index);
  try {
    work();
  } catch (...) {
    cuda::abandon_recording(device.index);
    throw;
  }
  graph.graph_ = {cuda::end_recording(device.index), [](cuda::Graph* recorded) { cuda::destroy(recorded); }};
#else
  throw_built_without_cuda();
#endif
  return graph;
}

void Graph::launch() const {
  check(defined(), "Graph: nothing was recorded yet");
#ifdef MOXIE_CUDA
  cuda::launch(*graph_);
#endif
}

bool is_recording([[maybe_unused]] Device device) {
#ifdef MOXIE_CUDA
  return device.is_cuda() && cuda::is_recording(device.index);
#else
  return false;
#endif
}

void throw_not_recordable(const char* what) {
  throw_invalid_argument(fmt::format(
      "Graph: a recording can't have {}, since it would not be repeated with the rest; do that before or after", what));
}

}  // namespace moxie
