// SPDX-License-Identifier: Apache-2.0
#include "nn/train/device.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/temporary_folder.h"

using namespace moxie;
using namespace moxie::train;

TEST_CASE("devices by name") {
  CHECK(device_from_name("cpu") == Device::cpu());
  for (const char* name : {"gpu", "", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "CPU"}) {
    INFO(name);
    CHECK(test::message_of<std::invalid_argument>([&] { device_from_name(name); }) ==
          fmt::format("device: must be cpu, cuda or cuda:N, got '{}'", name));
  }
  if (Device::has_cuda()) {
    CHECK(device_from_name("cuda") == Device::cuda());
    CHECK(device_from_name("cuda:0") == Device::cuda(0));
    return;
  }
  CHECK(test::message_of<std::invalid_argument>([] {
          device_from_name("cuda");
        }).starts_with("device: 'cuda' can't be used: "));
}
