// SPDX-License-Identifier: Apache-2.0
#include "cuda/runtime.h"

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "core/device.h"
#include "cuda/device.h"

namespace moxie {
namespace cuda {
namespace {

constexpr int least_capability = 80;

std::string version_name(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

// Why no device can be used, or empty.
std::string reason_without_device(cudaError_t error, int devices) {
  if (error == cudaSuccess && devices > 0) return {};
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (driver == 0) return "cuda: no NVIDIA driver is installed; install one, or use Device::cpu()";
  if (error == cudaErrorInsufficientDriver)
    return fmt::format("cuda: the driver supports CUDA {}, this moxie was built with {}; update the driver",
                       version_name(driver), version_name(runtime));
  if (error == cudaSuccess || error == cudaErrorNoDevice)
    return "cuda: no NVIDIA GPU is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use Device::cpu()";
  return fmt::format("cuda: the driver can't be used, {} ({})", cudaGetErrorString(error), cudaGetErrorName(error));
}

struct Devices {
  int count = 0;
  std::string problem;  // why none can be used
};

const Devices& devices() {
  static const Devices found = [] {
    Devices result;
    const cudaError_t error = cudaGetDeviceCount(&result.count);
    result.problem = reason_without_device(error, result.count);
    if (error != cudaSuccess) result.count = 0;
    cudaGetLastError();  // the error is reported where a device is asked for
    return result;
  }();
  return found;
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  MOXIE_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

int capability_of(int device) {
  return 10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
         attribute(cudaDevAttrComputeCapabilityMinor, device);
}

std::unique_ptr<DeviceState> set_up(int device) {
  auto result = std::make_unique<DeviceState>();
  result->index = device;
  MOXIE_CUDA_CHECK(cudaSetDevice(device));
  cudaDeviceProp properties;
  MOXIE_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  result->name = properties.name;
  result->properties = {properties.multiProcessorCount, 10 * properties.major + properties.minor,
                        static_cast<int>(properties.sharedMemPerBlockOptin)};
  if (result->properties.capability < least_capability)
    throw CudaError(fmt::format("cuda: {} has compute capability {}.{}, moxie needs 8.0 or later", result->name,
                                properties.major, properties.minor));
  MOXIE_CUDA_CHECK(cudaStreamCreateWithFlags(&result->stream, cudaStreamNonBlocking));
  MOXIE_CUDA_CHECK(cudaStreamCreateWithFlags(&result->beside, cudaStreamNonBlocking));
  // A pool of our own kind: pages stay with it, so that a training step in its steady state asks the driver for none.
  MOXIE_CUDA_CHECK(cudaDeviceGetDefaultMemPool(&result->pool, device));
  uint64_t keep_all = UINT64_MAX;
  MOXIE_CUDA_CHECK(cudaMemPoolSetAttribute(result->pool, cudaMemPoolAttrReleaseThreshold, &keep_all));
  return result;
}

struct Registry {
  std::mutex mutex;
  std::vector<std::unique_ptr<DeviceState>> states;
};

// Never destroyed: arrays in static variables may outlive any order of destruction.
Registry& registry() {
  static Registry& instance = *new Registry;
  return instance;
}

bool synchronous_launches() {
  static const bool on = [] {
    const char* value = std::getenv("MOXIE_CUDA_SYNC");
    return value != nullptr && std::string_view(value) == "1";
  }();
  return on;
}

}  // namespace

DeviceState& state(int device) {
  thread_local int current = -1;
  thread_local DeviceState* known = nullptr;
  if (current == device) return *known;
  if (!devices().problem.empty()) throw CudaError(devices().problem);
  moxie::check(device >= 0 && device < devices().count, "device: cuda:{} doesn't exist, there are {} (cuda:0 first)",
               device, devices().count);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if (all.states.size() <= static_cast<size_t>(device)) all.states.resize(static_cast<size_t>(device) + 1);
  auto& slot = all.states[static_cast<size_t>(device)];
  if (slot == nullptr) slot = set_up(device);
  MOXIE_CUDA_CHECK(cudaSetDevice(device));
  current = device;
  known = slot.get();
  return *known;
}

std::vector<DeviceState*> states() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::vector<DeviceState*> result;
  for (const auto& slot : all.states)
    if (slot != nullptr) result.push_back(slot.get());
  return result;
}

cudaStream_t stream(int device) { return state(device).stream; }
const Properties& properties(int device) { return state(device).properties; }

void throw_error(cudaError_t error, const char* call) {
  throw_if_index_out_of_range();
  const std::string_view text(call);
  throw CudaError(fmt::format("cuda: {} failed, {} ({})", text.substr(0, text.find('(')), cudaGetErrorString(error),
                              cudaGetErrorName(error)));
}

void check_launch(cudaError_t error, int device, const char* kernel, const LaunchShape& shape) {
  const char* what = "could not be launched";
  if (error == cudaSuccess && synchronous_launches() && !state(device).recording) {
    what = "failed";
    error = cudaStreamSynchronize(stream(device));
  }
  if (error == cudaSuccess) return;
  throw_if_index_out_of_range();
  throw CudaError(
      fmt::format("cuda: kernel {} {}, {} ({}); grid {} x {} x {}, block {} x {} x {}, {} bytes of shared memory",
                  kernel, what, cudaGetErrorString(error), cudaGetErrorName(error), shape.grid[0], shape.grid[1],
                  shape.grid[2], shape.block[0], shape.block[1], shape.block[2], shape.shared_memory));
}

void synchronize(int device) {
  refuse_recording(state(device), "a wait for the device");
  MOXIE_CUDA_CHECK(cudaStreamSynchronize(stream(device)));
  throw_if_index_out_of_range();
}

}  // namespace cuda

bool Device::has_cuda() {
  static const bool usable = cuda::devices().problem.empty() && cuda::capability_of(0) >= cuda::least_capability;
  return usable;
}

}  // namespace moxie
