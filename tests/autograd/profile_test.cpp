// SPDX-License-Identifier: Apache-2.0
#include "autograd/profile.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "autograd/ops.h"
#include "tests/device.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

const Profiler::Row& row_of(const std::vector<Profiler::Row>& rows, const std::string& name) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const auto& row) { return row.name == name; });
  REQUIRE_MESSAGE(found != rows.end(), name);
  return *found;
}

// Ops that call no others, forward and backward.
void work() {
  const Tensor x = Tensor::full({64, 64}, 0.5, {Dtype::f32, current_device()}).set_requires_grad();
  for (int i = 0; i < 3; ++i) softmax(x).backward(Array::full({64, 64}, 1, x.options()));
  const NoGrad guard;
  silu(x);
}

}  // namespace

DEVICE_TEST_CASE("a profile counts every op, forward and backward, recorded or not") {
  const Profiler profiler(current_device());
  work();
  Profiler::mark("rest");
  const std::vector<Profiler::Row> rows = profiler.rows();
  CHECK(row_of(rows, "softmax").calls == 3);
  CHECK(row_of(rows, "softmax, backward").calls == 3);
  CHECK(row_of(rows, "silu").calls == 1);
  CHECK(row_of(rows, "rest").calls == 1);
  CHECK(rows.size() == 4);
  CHECK(std::is_sorted(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.milliseconds > b.milliseconds; }));
  for (const char* word : {"op", "calls", "share", "softmax, backward", "all", "100.0%"})
    CHECK(profiler.table().find(word) != std::string::npos);
}

TEST_CASE("a profile gives time to the op that took it, and to nobody after it is gone") {
  work();
  Profiler outer;
  {
    const Profiler inner;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    Profiler::mark("sleep");
    CHECK(row_of(inner.rows(), "sleep").milliseconds >= 20);
  }
  Profiler::mark("later");
  const std::vector<Profiler::Row> rows = outer.rows();
  CHECK(rows.size() == 1);
  CHECK(row_of(rows, "later").milliseconds >= 20);  // all since the profile began
}

DEVICE_TEST_CASE("the trace is JSON with an event for every call, one after the other") {
  const Profiler profiler(current_device());
  work();
  const nlohmann::json trace = nlohmann::json::parse(profiler.trace());
  double last = 0;
  int64_t calls = 0;
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event["ph"] != "X" || event["tid"] != 1) continue;
    ++calls;
    CHECK(event["ts"].get<double>() == doctest::Approx(last).epsilon(1e-6));
    last = event["ts"].get<double>() + event["dur"].get<double>();
  }
  CHECK(calls == 7);
  CHECK(nlohmann::json::parse(profiler.trace(2))["traceEvents"].size() == (current_device().is_cpu() ? 3 : 6));
}
