// SPDX-License-Identifier: Apache-2.0
#include "cuda/device.h"

namespace moxie::cuda {

struct Event {
  cudaEvent_t handle;
};

Event* record_event(int device) {
  const cudaStream_t on = stream(device);
  refuse_recording(state(device), "a Profiler's marks");
  Event* const event = new Event;
  try {
    MOXIE_CUDA_CHECK(cudaEventCreate(&event->handle));
  } catch (...) {
    delete event;
    throw;
  }
  MOXIE_CUDA_CHECK(cudaEventRecord(event->handle, on));
  return event;
}

double milliseconds_between(const Event* earlier, const Event* later) {
  float milliseconds = 0;
  MOXIE_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, earlier->handle, later->handle));
  return static_cast<double>(milliseconds);
}

void destroy(Event* event) noexcept {
  cudaEventDestroy(event->handle);
  delete event;
}

}  // namespace moxie::cuda
