// SPDX-License-Identifier: Apache-2.0
// core/check.h: exception types and message texts.
#include "core/check.h"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "core/launch.h"

using namespace moxie;

TEST_CASE("check: silent where the condition holds") {
  CHECK_NOTHROW(check(true, "op: rule"));
  CHECK_NOTHROW(check(true, "op: rule, got {}", 3));
  CHECK_NOTHROW(check_internal(true, "op: rule, got {}", 3));
}

TEST_CASE("check: throws std::invalid_argument with the formatted message") {
  CHECK_THROWS_WITH_AS(check(false, "op: rule"), "op: rule", std::invalid_argument);
  CHECK_THROWS_WITH_AS(check(1 > 2, "Router: top_k must be between 1 and experts, got top_k = {}, experts = {}", 9, 8),
                       "Router: top_k must be between 1 and experts, got top_k = 9, experts = 8",
                       std::invalid_argument);
  const std::string name = "w";
  CHECK_THROWS_WITH_AS(check(false, "load: {} has {{}} and {:.2f}", name, 0.5), "load: w has {} and 0.50",
                       std::invalid_argument);
}

TEST_CASE("check_internal: throws std::logic_error, which is no std::invalid_argument") {
  CHECK_THROWS_WITH_AS(check_internal(false, "backward: node {} has no gradient", 4),
                       "backward: node 4 has no gradient", std::logic_error);
  bool caught_as_argument = false;
  try {
    check_internal(false, "promise");
  } catch (const std::invalid_argument&) {
    caught_as_argument = true;
  } catch (const std::logic_error&) {
  }
  CHECK_FALSE(caught_as_argument);
}

TEST_CASE("Device: names and comparison") {
  CHECK(Device::cpu().name() == "cpu");
  CHECK(Device::cuda(1).name() == "cuda:1");
  CHECK(Device{} == Device::cpu());
  CHECK(Device::cuda(0) != Device::cpu());
  CHECK(Device::cuda(0) != Device::cuda(1));
  CHECK(Device::cpu().is_cpu());
  CHECK(Device::cuda().is_cuda());
}

#ifndef MOXIE_CUDA
TEST_CASE("for_rows: a build without CUDA says what to do") {
  const auto kernel = [](auto, int64_t) {};
  CHECK_FALSE(Device::has_cuda());
  CHECK_NOTHROW(for_rows(Device::cuda(), kernel, 0, 8));
  CHECK_THROWS_WITH_AS(
      for_rows(Device::cuda(), kernel, 1, 8),
      "device: this moxie was built without CUDA; configure with the preset 'cuda', or use Device::cpu()",
      std::invalid_argument);
}
#endif
