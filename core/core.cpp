// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cstdlib>

#include "core/check.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"
#include "core/parallel.h"

namespace moxie {

void throw_invalid_argument(const std::string& message) { throw std::invalid_argument(message); }
void throw_logic_error(const std::string& message) { throw std::logic_error(message); }
void throw_built_without_cuda() {
  throw std::invalid_argument(
      "device: this moxie was built without CUDA; configure with the preset 'cuda', or use Device::cpu()");
}

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64: return "f64";
    case Dtype::f32: return "f32";
    case Dtype::bf16: return "bf16";
    case Dtype::i32: return "i32";
    case Dtype::u8: return "u8";
  }
  return "?";
}

#ifndef MOXIE_CUDA
bool Device::has_cuda() { return false; }
#endif

#ifdef _OPENMP
int threads() { return omp_get_max_threads(); }
void set_threads(int count) {
  check(count >= 1, "set_threads: count must be at least 1, got {}", count);
  omp_set_num_threads(count);
}
#elif defined(MOXIE_THREAD_TEAM)
namespace {
std::atomic<int> thread_count{2};
}
int threads() { return thread_count; }
void set_threads(int count) {
  check(count >= 1, "set_threads: count must be at least 1, got {}", count);
  thread_count = count;
}
#else
int threads() { return 1; }
void set_threads(int count) { check(count >= 1, "set_threads: count must be at least 1, got {}", count); }
#endif

}  // namespace moxie
