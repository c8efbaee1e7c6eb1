// SPDX-License-Identifier: Apache-2.0
// core/attention.h: nothing beyond the ends of its buffers is read or written.
#include <doctest/doctest.h>

#include <span>
#include <vector>

#include "tests/core/attention_case.h"
#include "tests/guarded.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

template <class T> void run_between_guards(const AttentionShape& shape, Edge edge) {
  CAPTURE(describe(shape));
  using C = Accumulator<T>;
  AttentionCase<T> c(shape);
  AttentionBackward p = c.problem();
  const auto q_size = static_cast<size_t>(shape.batch * c.q_batch()),
             k_size = static_cast<size_t>(shape.batch * c.k_batch());
  const auto part = [&](const std::vector<T>& all, int64_t at, size_t size) {
    return std::span<const T>(all).subspan(static_cast<size_t>(at), size);
  };
  const Guarded<T> q(part(c.qkv, 0, q_size), edge), k(part(c.qkv, c.k_at(), k_size), edge),
      v(part(c.qkv, c.v_at(), k_size), edge), out(c.out, edge), dout(c.dout, edge),
      dq(part(c.gradients, 0, q_size), edge), dk(part(c.gradients, c.k_at(), k_size), edge),
      dv(part(c.gradients, c.v_at(), k_size), edge);
  const Guarded<C> lse(c.lse, edge);
  const Guarded<uint8_t> mask(c.mask, edge);
  p.forward.q = q.data(), p.forward.k = k.data(), p.forward.v = v.data();
  p.forward.out = out.data(), p.forward.lse = lse.data(), p.forward.mask = mask.data();
  p.dout = dout.data(), p.dq = dq.data(), p.dk = dk.data(), p.dv = dv.data();
  attention(Device::cpu(), p.forward);
  attention_backward(Device::cpu(), p);
  const AttentionReference<T> r = reference(c);
  std::vector<T> gradients;
  for (const Guarded<T>* gradient : {&dq, &dk, &dv})
    gradients.insert(gradients.end(), gradient->values().begin(), gradient->values().end());
  CHECK(difference(gradients, r.gradients) <= (dtype_of<T> == Dtype::f64   ? 1e-12
                                               : dtype_of<T> == Dtype::f32 ? 4e-5
                                                                           : 0.15));
}

}  // namespace

TEST_CASE("attention: stays within its buffers") {
  for (const int64_t head_dim : {16, 20})
    for (const auto& [queries, keys] : {std::pair{1, 70}, {2, 33}, {40, 40}, {64, 64}, {67, 67}, {130, 70}})
      for (const int64_t window : {0, 40}) {
        const AttentionShape shape{1, 2, 1, queries, keys, head_dim, true, false, window, 0, AttentionShape::head_mask};
        run_between_guards<double>(shape, Edge::end);
        run_between_guards<float>(shape, Edge::end);
        run_between_guards<bf16>(shape, Edge::end);
        run_between_guards<float>(shape, Edge::begin);
      }
}
