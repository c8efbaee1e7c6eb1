// SPDX-License-Identifier: Apache-2.0
// Which devices a test runs on.
#pragma once
#include <doctest/doctest.h>

#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/device.h"

namespace moxie::testing {

// True where a GPU can be used. Where MOXIE_REQUIRE_CUDA=1 says that there is one, anything else is a failure: a test
// of the GPU can't be left out without a word.
inline bool has_cuda() {
  if (Device::has_cuda()) return true;
  const char* required = std::getenv("MOXIE_REQUIRE_CUDA");
  REQUIRE_MESSAGE((required == nullptr || std::string_view(required) != "1"),
                  "MOXIE_REQUIRE_CUDA is 1, and no GPU can be used");
  return false;
}

// MOXIE_TEST_SMALL=1 asks for little work, for tools that slow it down a hundredfold.
inline bool small_only() {
  const char* small = std::getenv("MOXIE_TEST_SMALL");
  return small != nullptr && std::string_view(small) == "1";
}

// ThreadSanitizer takes a hundred times as long and looks for races, which the same kernels have in any dtype, for any
// number of threads and with any tile: tests leave the rest out.
#ifdef __SANITIZE_THREAD__
inline constexpr bool only_races = true;
#else
inline constexpr bool only_races = false;
#endif

// For the first line of a test case that needs a GPU: says that it is skipped, where there is none.
#define MOXIE_NEEDS_CUDA()                  \
  if (!::moxie::testing::has_cuda()) {      \
    MESSAGE("skipped: no GPU can be used"); \
    return;                                 \
  }

// The CPU, and a GPU where there is one.
inline std::vector<Device> devices() {
  std::vector<Device> all{Device::cpu()};
  if (has_cuda()) all.push_back(Device::cuda());
  return all;
}

// The device that a DEVICE_TEST_CASE runs on; elsewhere the CPU.
inline Device& current_device_reference() {
  static Device device;
  return device;
}
inline Device current_device() { return current_device_reference(); }

class OnDevice final {
 public:
  explicit OnDevice(Device device) { current_device_reference() = device; }
  ~OnDevice() { current_device_reference() = Device::cpu(); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
};

// A test case that runs once on the CPU, and once on a GPU where there is one: what it makes lies on current_device().
#define MOXIE_DEVICE_TEST_CASE(function, title)                        \
  static void function();                                              \
  TEST_CASE(title) {                                                   \
    for (const ::moxie::Device device : ::moxie::testing::devices()) { \
      const ::moxie::testing::OnDevice guard(device);                  \
      INFO("on ", device.name());                                      \
      function();                                                      \
    }                                                                  \
  }                                                                    \
  static void function()
#define DEVICE_TEST_CASE(title) MOXIE_DEVICE_TEST_CASE(DOCTEST_ANONYMOUS(moxie_device_test_), title)

}  // namespace moxie::testing
