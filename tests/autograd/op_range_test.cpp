// SPDX-License-Identifier: Apache-2.0
#include "autograd/op_range.h"

#include "autograd/ops.h"
#include "tests/device.h"

using namespace moxie;

namespace {

// Writes "name(" where a range begins, and ")" where it ends.
struct Written final : RangeListener {
  std::string text;
  void begin(const std::string& name) override { text.append(name).append("("); }
  void end() override { text.append(")"); }
};

}  // namespace

TEST_CASE("ops are ranges, forward and backward, while somebody listens") {
  const Tensor x = Tensor::full({2, 2}, 0.5).set_requires_grad();
  Written outer, inner;
  {
    const OpRanges guard(outer);
    const Tensor y = silu(x);
    {
      const OpRanges nested(inner);
      softmax(x);
    }
    y.backward(Array::full({2, 2}, 1));
  }
  softmax(x);
  CHECK(outer.text == "silu()silu, backward()");
  CHECK(inner.text == "softmax()");
}

TEST_CASE("a range ends where its op throws") {
  Written written;
  const OpRanges guard(written);
  CHECK_THROWS_AS(slice(Tensor::full({2}, 1), 0, 5, 1), std::invalid_argument);
  CHECK(written.text == "slice()");
}

#ifdef MOXIE_CUDA
TEST_CASE("NVTX takes ranges, with or without a profiler") {
  const OpRanges guard(nvtx());
  softmax(Tensor::full({2, 2}, 0.5));
}
#else
TEST_CASE("NVTX needs CUDA") { CHECK_THROWS_WITH(nvtx(), doctest::Contains("built without CUDA")); }
#endif
