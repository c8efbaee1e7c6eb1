// SPDX-License-Identifier: Apache-2.0
// What the layers above ask of the CUDA backend beside the seams for kernels. Defined in cuda/, and only where moxie is
// built with CUDA. `device` counts from 0; everything happens on that device's one stream, in order.
#pragma once
#include <cstddef>
#include <cstdint>

namespace moxie {

// core/sort.h's counting sort of keys [n]: offsets [values + 1], order and place [n].
struct CountingSortProblem {
  const int32_t* keys;
  int64_t n, values, group;
  int32_t* offsets;
  int32_t* order;
  int32_t* place;
};

// Each row of x [rows, n], sorted stably with NaN last; indices say where each value was.
template <class T> struct SortRows {
  const T* x;
  T* values;
  int32_t* indices;
  int64_t rows, n;
  bool descending;
};

namespace cuda {

// Memory of the device, uninitialised. Throws CudaError, with what is free, where it doesn't fit.
std::byte* allocate(int device, int64_t bytes);
// Gives memory back, to be used again by what comes later on the stream.
void free(int device, std::byte* data, int64_t bytes) noexcept;
// Gives what no array uses back to the driver.
void release_cached_memory();

struct Memory {
  int64_t live_bytes = 0, peak_bytes = 0, reserved_bytes = 0;
};
Memory memory(int device);
void reset_peak_memory();

// Sets every byte.
void set_bytes(int device, void* data, uint8_t value, int64_t bytes);
// Copies in host memory's favour: the host's bytes may be changed or read as soon as the call returns.
void copy_to_device(int device, void* into, const void* from, int64_t bytes);
void copy_to_host(int device, void* into, const void* from, int64_t bytes);
// Between arrays of one device, and of two.
void copy_within(int device, void* into, const void* from, int64_t bytes);
void copy_between(int into_device, void* into, int from_device, const void* from, int64_t bytes);

// Waits until everything asked of the device so far is done, and throws what went wrong in it.
void synchronize(int device);

// A point in what was asked of the device, for the time between two of them; wait for the later one's device before
// asking. An event lives until it is destroyed.
struct Event;
Event* record_event(int device);
double milliseconds_between(const Event* earlier, const Event* later);
void destroy(Event* event) noexcept;

// A range of this thread in the timeline of NVIDIA's profilers; ranges are nested.
void begin_range(const char* name);
void end_range();

// What core/graph.h offers. While a device records, what is asked of it is noted and not done, and calls that copy from
// or to the host or wait throw.
struct Graph;
bool is_recording(int device);
void begin_recording(int device);
Graph* end_recording(int device);
void abandon_recording(int device) noexcept;
void launch(const Graph& graph);
void destroy(Graph* graph) noexcept;
// Overwrites memory from before the recording now, when nothing uses it: what the first launch shall find there.
void copy_to_device_now(int device, void* into, const void* from, int64_t bytes);
// A copy of the host's bytes that lives with the graph that is being recorded, for its kernels to read.
const std::byte* constant_of_recording(int device, const void* from, int64_t bytes);

// Says that index [n] should hold numbers in [0, limit), or `ignored` where that isn't null. The check runs behind the
// program: what is wrong is thrown as std::invalid_argument by the next call that waits for the device (synchronize,
// copy_to_host), or by the first that fails.
void check_indices(int device, const char* op, const int32_t* index, int64_t n, int64_t limit, const int32_t* ignored);

// core/sort.h says what they do and what the arrays hold.
void counting_sort(int device, const CountingSortProblem& problem);
template <class T> void sort_rows(int device, const SortRows<T>& problem);

}  // namespace cuda
}  // namespace moxie
