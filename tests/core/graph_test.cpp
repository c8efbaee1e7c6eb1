// SPDX-License-Identifier: Apache-2.0
// Recordings of a GPU's work, and whose their memory is.
#include "core/graph.h"

#include <doctest/doctest.h>

#include <cmath>
#include <optional>

#include "core/array.h"
#include "core/kernels/elementwise/affine.h"
#include "core/launch.h"
#include "tests/device.h"

using namespace moxie;

namespace {

constexpr int64_t n = 5000;

// x + 1
Array incremented(const Array& x) {
  const Array y = Array::empty(x.shape(), x.options());
  for_rows(x.device(), Affine<float>{x.data<float>(), y.data<float>(), 1, 1, n, false}, elementwise_rows(n),
           elementwise_row);
  return y;
}
bool is_all(const Array& x, float value) {
  for (const float number : x.to_vector<float>())
    if (number != value) return false;
  return true;
}

}  // namespace

TEST_CASE("only a GPU records, and only what was recorded is launched") {
  CHECK_THROWS_WITH(Graph::record(Device::cpu(), [] {}), "Graph: only a GPU records, got cpu");
  CHECK_THROWS_WITH(Graph().launch(), "Graph: nothing was recorded yet");
  CHECK_THROWS_WITH(
      throw_not_recordable("a test"),
      "Graph: a recording can't have a test, since it would not be repeated with the rest; do that before "
      "or after");
  CHECK(!is_recording(Device::cpu()));
}

TEST_CASE("a GPU that records does nothing until it is launched, and then what is in its arrays") {
  MOXIE_NEEDS_CUDA();
  const Options options{Dtype::f32, Device::cuda()};
  const Array x = Array::full({n}, 1, options), y = Array::full({n}, -1, options);
  Graph graph = Graph::record(options.device, [&] {
    CHECK(is_recording(options.device));
    Array z = x;
    for (int i = 0; i < 10; ++i) z = incremented(z);  // memory that is used again in the recording
    y.copy_from(z);
  });
  CHECK(!is_recording(options.device));
  CHECK(is_all(y, -1));
  graph.launch();
  CHECK(is_all(y, 11));
  x.fill(5);
  const Array other = Array::full({n}, 7, options);  // must not lie in the graph's memory
  graph.launch();
  CHECK(is_all(y, 15));
  CHECK(is_all(other, 7));
}

TEST_CASE("arrays of a GPU's recording outlive it, and its memory is given back") {
  MOXIE_NEEDS_CUDA();
  const Options options{Dtype::f32, Device::cuda()};
  const int64_t before = memory_of(options.device).live_bytes;
  {
    std::optional<Array> freed = Array::full({n}, 3, options);  // given up while recording, and still read
    Array y, gone;
    {
      const Graph graph = Graph::record(options.device, [&] {
        y = incremented(*freed);
        freed.reset();
        gone = incremented(y);
      });
      std::vector<Array> others;
      for (int i = 0; i < 4; ++i) others.push_back(Array::full({n}, 100 + i, options));
      graph.launch();
      CHECK(is_all(y, 4));
      gone = {};
      graph.launch();
      CHECK(is_all(y, 4));
      for (size_t i = 0; i < others.size(); ++i) CHECK(is_all(others[i], 100 + static_cast<float>(i)));
    }
    std::vector<Array> others;
    for (int i = 0; i < 4; ++i) others.push_back(Array::full({n}, 100 + i, options));
    CHECK(is_all(y, 4));
    for (size_t i = 0; i < others.size(); ++i) CHECK(is_all(others[i], 100 + static_cast<float>(i)));
  }
  CHECK(memory_of(options.device).live_bytes == before);
}

TEST_CASE("recordings of a GPU don't nest, and one that fails leaves it as it was") {
  MOXIE_NEEDS_CUDA();
  const Options options{Dtype::f32, Device::cuda()};
  const Array x = Array::full({n}, 1, options);
  CHECK_THROWS_WITH(Graph::record(options.device, [&] { Graph::record(options.device, [] {}); }),
                    "Graph: cuda:0 is recording already");
  const Graph nothing = Graph::record(options.device, [] {});
  CHECK_THROWS_WITH(Graph::record(options.device, [&] { nothing.launch(); }),
                    doctest::Contains("can't have another graph's launch"));
  CHECK_THROWS_WITH(Graph::record(options.device, [&] { incremented(x).to_vector<float>(); }),
                    doctest::Contains("can't have a copy to the host, such as item or to_vector"));
  nothing.launch();
  CHECK(!is_recording(options.device));
  CHECK(is_all(incremented(x), 2));
}
