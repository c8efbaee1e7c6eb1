// SPDX-License-Identifier: Apache-2.0
// The attention seam on a GPU, against plain loops.
#ifdef MOXIE_CUDA
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "core/array.h"
#include "core/attention.h"
#include "tests/core/attention_case.h"
#include "tests/device.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

template <class T> Array on_device(const std::vector<T>& values) {
  return Array::from(values, {static_cast<int64_t>(values.size())}).to(Device::cuda());
}

template <class T> void to_host(const Array& array, std::vector<T>& values) {
  const Array host = array.to(Device::cpu());
  std::copy_n(host.data<T>(), values.size(), values.begin());
}

// Runs forward, and backward where asked, on the GPU; what a kernel doesn't write stays the NaN that it is in `c`.
template <class T> void run_on_gpu(AttentionCase<T>& c, bool backward) {
  const Array qkv = on_device(c.qkv), out = on_device(c.out), dout = on_device(c.dout), lse = on_device(c.lse);
  const Array gradients = on_device(c.gradients), mask = on_device(c.mask);
  AttentionBackward p = c.problem();
  Attention& f = p.forward;
  const auto moved = [](const T* host, const std::vector<T>& from, const Array& to) {
    return to.data<T>() + (host - from.data());
  };
  f.q = moved(static_cast<const T*>(f.q), c.qkv, qkv);
  f.k = moved(static_cast<const T*>(f.k), c.qkv, qkv);
  f.v = moved(static_cast<const T*>(f.v), c.qkv, qkv);
  f.out = out.data<T>();
  f.lse = lse.data<Accumulator<T>>();
  if (f.mask != nullptr) f.mask = mask.data<uint8_t>();
  attention(Device::cuda(), f);
  to_host(out, c.out);
  to_host(lse, c.lse);
  if (!backward) return;
  p.dout = dout.data<T>();
  p.dq = moved(static_cast<const T*>(p.dq), c.gradients, gradients);
  p.dk = moved(static_cast<const T*>(p.dk), c.gradients, gradients);
  p.dv = moved(static_cast<const T*>(p.dv), c.gradients, gradients);
  attention_backward(Device::cuda(), p);
  to_host(gradients, c.gradients);
}

template <class T> void compare_on_gpu(const AttentionShape& shape, double tolerance, double gradient_tolerance) {
  CAPTURE(describe(shape));
  AttentionCase<T> c(shape);
  const bool backward = !shape.packed || shape.q_length == shape.k_length;
  run_on_gpu(c, backward);
  if (!small_only()) {
    AttentionCase<T> again(shape);
    run_on_gpu(again, backward);
    CHECK(same_bits(c.out, again.out));
    CHECK(same_bits(c.lse, again.lse));
    CHECK(same_bits(c.gradients, again.gradients));
  }
  const AttentionReference r = reference(c);
  CHECK(difference(c.out, r.out) <= tolerance);
  CHECK(difference(c.lse, r.lse) <= (dtype_of<T> == Dtype::f64 ? tolerance : dtype_of<T> == Dtype::f32 ? 4e-6 : 1e-4));
  if (backward) CHECK(difference(c.gradients, r.gradients) <= gradient_tolerance);
}

void compare_all_on_gpu(const AttentionShape& shape) {
  compare_on_gpu<double>(shape, 1e-13, 1e-12);
  compare_on_gpu<float>(shape, 4e-6, 4e-5);
  compare_on_gpu<bf16>(shape, 0.02, 0.15);
}

}  // namespace

TEST_CASE("attention on a GPU: small problems") {
  MOXIE_NEEDS_CUDA()
  for (const int64_t dim : {20, 32, 64, 96, 128}) compare_all_on_gpu({1, 2, 1, 70, 140, dim, true, false, 50});
  compare_all_on_gpu({1, 1, 1, 20, 70, 20, true, false, 0, 2, AttentionShape::full_mask});
}

TEST_CASE("attention on a GPU: lengths and head dimensions") {
  MOXIE_NEEDS_CUDA()
  if (small_only()) return;
  for (const int64_t length : {1, 2, 17, 63, 64, 65, 127, 128, 129, 300}) {
    for (const int64_t dim : {8, 32, 64, 96, 128}) {
      compare_all_on_gpu({.heads = 2, .kv_heads = 2, .q_length = length, .k_length = length, .head_dim = dim});
    }
  }
  for (const int64_t dim : {1, 3, 16, 33, 80, 100, 256, 300}) {
    compare_all_on_gpu({.q_length = 70, .k_length = 70, .head_dim = dim});
  }
}

TEST_CASE("attention on a GPU: grouped heads, batches, packed rows") {
  MOXIE_NEEDS_CUDA()
  if (small_only()) return;
  for (const int64_t kv_heads : {1, 2, 4}) {
    for (const bool packed : {false, true}) {
      for (const int64_t dim : {20, 64, 128}) {
        compare_all_on_gpu({2, 4, kv_heads, 150, 150, dim, true, packed});
        compare_all_on_gpu({2, 4, kv_heads, 70, 70, dim, false, packed});
      }
    }
  }
}

TEST_CASE("attention on a GPU: caches, full attention, more queries than keys, empty sizes") {
  MOXIE_NEEDS_CUDA()
  if (small_only()) return;
  for (const bool causal : {true, false}) {
    for (const int64_t dim : {20, 64, 128}) {
      for (const auto& [q, k] : {std::pair{1, 1},
                                 {1, 130},
                                 {1, 2000},
                                 {2, 77},
                                 {5, 700},
                                 {33, 200},
                                 {129, 290},
                                 {65, 64},
                                 {70, 3},
                                 {200, 70},
                                 {150, 1},
                                 {5, 0},
                                 {0, 5}}) {
        compare_all_on_gpu({2, 4, 2, q, k, dim, causal, false});
      }
    }
  }
  compare_all_on_gpu({0, 2, 2, 5, 5, 64});
}

TEST_CASE("attention on a GPU: windows, soft caps and masks") {
  MOXIE_NEEDS_CUDA()
  if (small_only()) return;
  for (const int64_t dim : {20, 64, 128}) {
    for (const int64_t window : {1, 64, 100, 1000}) {
      compare_all_on_gpu({1, 2, 1, 300, 300, dim, true, false, window});
      compare_all_on_gpu({1, 2, 2, 100, 300, dim, true, false, window});
    }
    compare_all_on_gpu({1, 2, 1, 130, 130, dim, true, false, 0, 1.5});
    for (const auto mask : {AttentionShape::shared_mask, AttentionShape::batch_mask, AttentionShape::head_mask,
                            AttentionShape::full_mask}) {
      compare_all_on_gpu({2, 4, 2, 70, 90, dim, false, false, 0, 0, mask});
      compare_all_on_gpu({2, 4, 2, 90, 90, dim, true, true, 40, 2, mask});
    }
  }
}

TEST_CASE("attention on a GPU: rows that 16-byte copies can't read") {
  MOXIE_NEEDS_CUDA()
  // Heads of 32 in rows of 3 * 32 elements and a piece of the next, so that rows begin at odd places.
  AttentionCase<bf16> c({1, 1, 1, 70, 70, 32, true, true});
  const AttentionReference r = reference(c);
  const Array qkv = Array::empty({70 * 97}, {Dtype::bf16, Device::cpu()});
  for (int64_t t = 0; t < 70; ++t) std::copy_n(c.qkv.data() + t * 96, 96, qkv.data<bf16>() + t * 97);
  const Array device = qkv.to(Device::cuda()), out = on_device(c.out), lse = on_device(c.lse);
  Attention p = c.problem().forward;
  p.q = device.data<bf16>();
  p.k = device.data<bf16>() + 32;
  p.v = device.data<bf16>() + 64;
  p.q_stride = p.k_stride = p.v_stride = 97;
  p.out = out.data<bf16>();
  p.lse = lse.data<float>();
  attention(Device::cuda(), p);
  to_host(out, c.out);
  CHECK(difference(c.out, r.out) <= 0.02);
}

TEST_CASE("attention on a GPU: large scores don't overflow") {
  MOXIE_NEEDS_CUDA()
  for (const int64_t dim : {8, 64}) {
    AttentionCase<bf16> c({1, 2, 2, 140, 140, dim, true, false}, 1, 100);
    run_on_gpu(c, true);
    for (const bf16 x : c.out) CHECK(std::isfinite(static_cast<float>(x)));
    for (const bf16 x : c.gradients) CHECK(std::isfinite(static_cast<float>(x)));
  }
}

TEST_CASE("attention on a GPU: NaN and inf reach whoever sees them, and nobody else") {
  MOXIE_NEEDS_CUDA()
  const AttentionShape shape{1, 2, 1, 100, 100, 8, true, false};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const int64_t at : {0, 37, 99}) {
      AttentionCase<float> c(shape);
      c.qkv[static_cast<size_t>(c.v_index(0, at, 0, 3))] = bad;
      run_on_gpu(c, true);
      for (int64_t t = 0; t < 100; ++t) {
        CHECK(std::isfinite(c.out[static_cast<size_t>(c.out_index(0, t, 0, 3))]) == (t < at));
        CHECK(std::isfinite(c.gradients[static_cast<size_t>(c.q_index(0, t, 0, 0))]) == (t < at));
      }
    }
  }
}

TEST_CASE("attention on a GPU: messages") {
  MOXIE_NEEDS_CUDA()
  AttentionCase<float> c({1, 1, 1, 3, 3, 4});
  Attention p = c.problem().forward;
  p.k_length = int64_t{1} << 40;
  p.causal = false;
  CHECK_THROWS_WITH(attention(Device::cuda(), p),
                    "attention: on CUDA lengths must be below 536870912, got q 3, k 1099511627776");
  p = c.problem().forward;
  p.batch = int64_t{1} << 40;
  CHECK_THROWS_WITH(attention(Device::cuda(), p),
                    "attention: on CUDA batch * heads and head_dim must be below 536870912, got batch 1099511627776, "
                    "heads 1, head_dim 4");
}

#endif
