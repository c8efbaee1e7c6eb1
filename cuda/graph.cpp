// SPDX-License-Identifier: Apache-2.0
// Recording by stream capture. core/graph.h says what it means, core/recorded_memory.h whose the memory is.
#include "core/graph.h"

#include <memory>

#include "cuda/device.h"

namespace moxie::cuda {

struct Graph {
  DeviceState& device;
  cudaGraphExec_t executable = nullptr;
};

namespace {

// Gives back what the graph alone owns; in the order of the stream, behind its launches.
void free_memory_of(DeviceState& s, const void* graph) {
  std::vector<std::pair<std::byte*, int64_t>> unused;
  {
    const std::lock_guard lock(s.caching);
    unused = s.recorded.forget(graph);
  }
  for (const auto& [data, bytes] : unused) {
    s.live_bytes.fetch_add(bytes);  // free() counts it down once more
    free(s.index, data, bytes);
  }
}

// Ends the capture; what was recorded, which the caller destroys.
cudaError_t stop(DeviceState& s, cudaGraph_t& recorded) {
  const cudaError_t error = cudaStreamEndCapture(s.stream, &recorded);
  s.recording = false;
  const std::lock_guard lock(s.caching);
  s.recorded.end();
  return error;
}

}  // namespace

void refuse_recording(const DeviceState& s, const char* what) {
  if (s.recording) [[unlikely]]
    throw_not_recordable(what);
}

bool is_recording(int device) { return state(device).recording; }

// Nothing is under way on the stream then: its memory may be taken from the other one.
void begin_recording(int device) {
  DeviceState& s = state(device);
  synchronize(device);
  auto graph = std::make_unique<Graph>(Graph{s});
  // Relaxed: what the other stream is asked for meanwhile, memory and copies, is wanted.
  MOXIE_CUDA_CHECK(cudaStreamBeginCapture(s.stream, cudaStreamCaptureModeRelaxed));
  const std::lock_guard lock(s.caching);
  s.recorded.begin(graph.get());
  s.recording_graph = graph.release();
  s.recording = true;
}

Graph* end_recording(int device) {
  DeviceState& s = state(device);
  Graph* const graph = s.recording_graph;
  cudaGraph_t recorded = nullptr;
  try {
    MOXIE_CUDA_CHECK(stop(s, recorded));
    MOXIE_CUDA_CHECK(cudaStreamSynchronize(s.beside));
    MOXIE_CUDA_CHECK(cudaGraphInstantiate(&graph->executable, recorded, 0));
    MOXIE_CUDA_CHECK(cudaGraphDestroy(recorded));
    MOXIE_CUDA_CHECK(cudaGraphUpload(graph->executable, s.stream));
  } catch (...) {
    destroy(graph);
    throw;
  }
  return graph;
}

void abandon_recording(int device) noexcept {
  DeviceState& s = state(device);
  cudaGraph_t recorded = nullptr;
  if (stop(s, recorded) != cudaSuccess) cudaGetLastError();
  if (recorded != nullptr && cudaGraphDestroy(recorded) != cudaSuccess) cudaGetLastError();
  destroy(s.recording_graph);
}

void launch(const Graph& graph) {
  refuse_recording(graph.device, "another graph's launch");
  MOXIE_CUDA_CHECK(cudaGraphLaunch(graph.executable, stream(graph.device.index)));
}

void destroy(Graph* graph) noexcept {
  try {
    DeviceState& s = state(graph->device.index);
    if (s.recording_graph == graph) s.recording_graph = nullptr;
    if (!s.recording && cudaStreamSynchronize(s.stream) != cudaSuccess) cudaGetLastError();
    if (graph->executable != nullptr && cudaGraphExecDestroy(graph->executable) != cudaSuccess) cudaGetLastError();
    free_memory_of(s, graph);
  } catch (...) {
  }
  delete graph;
}

}  // namespace moxie::cuda
