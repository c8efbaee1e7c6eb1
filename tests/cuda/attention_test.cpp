// SPDX-License-Identifier: Apache-2.0
// The very source of the attention kernels, run by the block emulator against plain loops.
#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "cuda/attention_backward.cuh"
#include "cuda/attention_backward_warpgroup.cuh"
#include "cuda/attention_forward.cuh"
#include "cuda/attention_forward_warpgroup.cuh"
#include "cuda/attention_plain_backward.cuh"
#include "cuda/attention_plain_forward.cuh"
#include "tests/core/attention_case.h"
#include "tests/cuda/block_emulator.h"
#include "tests/device.h"

using namespace moxie;
using namespace moxie::cuda;
using namespace moxie::testing;

namespace {

// How the emulator runs a case's kernels.
struct Run {
  Emulation::Order order = Emulation::Order::forward;
  bool late = true;

  void operator()(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& kernel) const {
    if (blocks == 0) return;
    emulate({.blocks = static_cast<int>(blocks),
             .threads = threads,
             .shared_bytes = shared_bytes,
             .order = order,
             .late = late},
            kernel);
  }
};

template <class T>
std::vector<RowStatistics<Accumulator<T>>> statistics_of(const AttentionBackward& p, int64_t rows,
                                                         Accumulator<T> lse_factor, const Run& run) {
  using C = Accumulator<T>;
  const Attention& f = p.forward;
  std::vector<RowStatistics<C>> statistics(static_cast<size_t>(f.batch * f.heads * rows));
  const StatisticsProblem<T> problem = statistics_problem<T>(p, rows, statistics.data(), lse_factor);
  run(statistics_blocks(problem), statistics_threads, 0, [&] { attention_statistics(problem, block_index()); });
  return statistics;
}

template <int D> void forward_on_tensor_cores(AttentionCase<bf16>& c, const Run& run) {
  const ForwardProblem p = forward_problem(c.problem().forward);
  run(forward_blocks<D>(p), attention_threads, forward_shared_bytes<D>(),
      [&] { attention_forward<D>(p, block_index(), shared_address(dynamic_shared_memory())); });
}

template <int D> void forward_on_warpgroups(AttentionCase<bf16>& c, const Run& run) {
  const ForwardProblem p = forward_problem(c.problem().forward);
  run(warpgroup_forward_blocks(p), attention_warpgroup_threads, warpgroup_forward_shared_bytes<D>(),
      [&] { attention_forward_warpgroup<D>(p, block_index(), shared_address(dynamic_shared_memory())); });
}

template <int D> void backward_on_tensor_cores(AttentionCase<bf16>& c, const Run& run) {
  const AttentionBackward problem = c.problem();
  const auto statistics =
      statistics_of<bf16>(problem, statistics_rows(c.shape.q_length), static_cast<float>(log2_e), run);
  const BackwardProblem p = backward_problem(problem, statistics.data());
  run(query_gradient_blocks<D>(p), attention_threads, query_gradient_shared_bytes<D>(),
      [&] { attention_query_gradient<D>(p, block_index(), shared_address(dynamic_shared_memory())); });
  run(key_gradient_blocks<D>(p), attention_threads, key_gradient_shared_bytes<D>(),
      [&] { attention_key_gradient<D>(p, block_index(), shared_address(dynamic_shared_memory())); });
}

template <int D> void backward_on_warpgroups(AttentionCase<bf16>& c, const Run& run) {
  const AttentionBackward problem = c.problem();
  const auto statistics =
      statistics_of<bf16>(problem, statistics_rows(c.shape.q_length), static_cast<float>(log2_e), run);
  const BackwardProblem p = backward_problem(problem, statistics.data());
  run(warpgroup_query_gradient_blocks(p), attention_warpgroup_threads, warpgroup_query_gradient_shared_bytes<D>(),
      [&] { attention_query_gradient_warpgroup<D>(p, block_index(), shared_address(dynamic_shared_memory())); });
  run(warpgroup_key_gradient_blocks(p), attention_warpgroup_threads, warpgroup_key_gradient_shared_bytes<D>(),
      [&] { attention_key_gradient_warpgroup<D>(p, block_index(), shared_address(dynamic_shared_memory())); });
}

template <class T, int Chunks> void forward_plain(AttentionCase<T>& c, const Run& run) {
  const Attention p = c.problem().forward;
  run(plain_blocks<Chunks>(p.q_length, p.batch, p.heads, p.head_dim), plain_threads, PlainMemory<Accumulator<T>>::bytes,
      [&] { attention_plain_forward<T, Chunks>(p, block_index(), dynamic_shared_memory()); });
}

template <class T, int Chunks> void backward_plain(AttentionCase<T>& c, const Run& run) {
  const AttentionBackward p = c.problem();
  const Attention& f = p.forward;
  const auto statistics = statistics_of<T>(p, f.q_length, 1, run);
  constexpr size_t bytes = PlainMemory<Accumulator<T>>::bytes;
  run(plain_blocks<Chunks>(f.q_length, f.batch, f.heads, f.head_dim), plain_threads, bytes,
      [&] { attention_plain_query_gradient<T, Chunks>(p, statistics.data(), block_index(), dynamic_shared_memory()); });
  run(plain_blocks<Chunks>(f.k_length, f.batch, f.kv_heads, f.head_dim), plain_threads, bytes,
      [&] { attention_plain_key_gradient<T, Chunks>(p, statistics.data(), block_index(), dynamic_shared_memory()); });
}

// Where only races are looked for: two of three shapes.
bool left_out() {
  static int shapes = 0;
  return only_races && shapes++ % 3 != 0;
}

template <int D> void check_tensor_cores(AttentionShape shape, const Run& run = {}) {
  if (left_out()) return;
  shape.head_dim = D;
  CAPTURE(describe(shape));
  AttentionCase<bf16> c(shape);
  forward_on_tensor_cores<D>(c, run);
  const AttentionReference r = reference(c);
  CHECK(difference(c.out, r.out) <= 0.02);
  CHECK(difference(c.lse, r.lse) <= 1e-4);
  backward_on_tensor_cores<D>(c, run);
  CHECK(difference(c.gradients, r.gradients) <= 0.1);
}

template <int D> void check_warpgroups(AttentionShape shape, const Run& run = {}) {
  if (left_out()) return;
  shape.head_dim = D;
  CAPTURE(describe(shape));
  AttentionCase<bf16> c(shape);
  forward_on_warpgroups<D>(c, run);
  const AttentionReference r = reference(c);
  CHECK(difference(c.out, r.out) <= 0.02);
  CHECK(difference(c.lse, r.lse) <= 1e-4);
  backward_on_warpgroups<D>(c, run);
  CHECK(difference(c.gradients, r.gradients) <= 0.1);
}

template <class T, int Chunks = 1>
void check_plain(const AttentionShape& shape, double tolerance, double gradient_tolerance, const Run& run = {}) {
  if (left_out()) return;
  CAPTURE(describe(shape));
  AttentionCase<T> c(shape);
  forward_plain<T, Chunks>(c, run);
  const AttentionReference r = reference(c);
  CHECK(difference(c.out, r.out) <= tolerance);
  CHECK(difference(c.lse, r.lse) <= (dtype_of<T> == Dtype::f64 ? tolerance : 4e-6));
  backward_plain<T, Chunks>(c, run);
  CHECK(difference(c.gradients, r.gradients) <= gradient_tolerance);
}

// However the emulator runs the kernels, they give the same bits.
template <class T, class F> void check_same_bits(const AttentionShape& shape, F forward_and_backward) {
  AttentionCase<T> expected(shape);
  forward_and_backward(expected, Run{});
  for (const Emulation& way : every_way({})) {
    AttentionCase<T> c(shape);
    forward_and_backward(c, Run{way.order, way.late});
    CHECK(same_bits(c.out, expected.out));
    CHECK(same_bits(c.lse, expected.lse));
    CHECK(same_bits(c.gradients, expected.gradients));
  }
}

}  // namespace

TEST_CASE("attention on CUDA, tensor cores: lengths around the block sizes") {
  for (const int64_t length : {1, 17, 63, 64, 65, 130}) {
    check_tensor_cores<32>({.heads = 1, .kv_heads = 1, .q_length = length, .k_length = length});
    check_tensor_cores<64>({.heads = 1, .kv_heads = 1, .q_length = length, .k_length = length});
  }
}

TEST_CASE("attention on CUDA, tensor cores: large head dimensions") {
  check_tensor_cores<96>({.heads = 1, .kv_heads = 1, .q_length = 70, .k_length = 150});
  check_tensor_cores<128>({.heads = 1, .kv_heads = 1, .q_length = 70, .k_length = 150});
}

TEST_CASE("attention on CUDA, tensor cores: caches, more queries than keys, full attention, no keys") {
  for (const bool causal : {true, false}) {
    for (const auto& [q, k] : {std::pair{1, 130}, {33, 200}, {140, 65}, {150, 1}, {20, 0}, {0, 20}}) {
      check_tensor_cores<32>({.heads = 2, .kv_heads = 2, .q_length = q, .k_length = k, .causal = causal});
    }
  }
}

TEST_CASE("attention on CUDA, tensor cores: windows") {
  for (const int64_t window : {1, 64, 100, 1000}) {
    check_tensor_cores<32>({.heads = 1, .kv_heads = 1, .q_length = 200, .k_length = 260, .window = window});
  }
  check_tensor_cores<64>({.heads = 1, .kv_heads = 1, .q_length = 150, .k_length = 140, .window = 30});
}

TEST_CASE("attention on CUDA, tensor cores: grouped heads, batches, packed rows") {
  check_tensor_cores<32>({2, 4, 1, 70, 70, 32, true, true});
  check_tensor_cores<32>({2, 4, 2, 70, 70, 32, true, false});
  check_tensor_cores<64>({1, 4, 4, 70, 70, 64, false, true});
}

TEST_CASE("attention on CUDA, tensor cores: the same bits whenever threads run and copies arrive") {
  const AttentionShape shape{.heads = 2, .kv_heads = 1, .q_length = 70, .k_length = 140, .head_dim = 64};
  check_same_bits<bf16>(shape, [](AttentionCase<bf16>& c, const Run& run) {
    forward_on_tensor_cores<64>(c, run);
    backward_on_tensor_cores<64>(c, run);
  });
}

TEST_CASE("attention on CUDA, warpgroups: lengths, head dimensions, caches, windows, grouped heads") {
  for (const int64_t length : {1, 64, 127, 130, 300}) {
    check_warpgroups<64>({.heads = 1, .kv_heads = 1, .q_length = length, .k_length = length});
  }
  check_warpgroups<128>({.heads = 1, .kv_heads = 1, .q_length = 70, .k_length = 300});
  for (const bool causal : {true, false}) {
    for (const auto& [q, k] : {std::pair{1, 130}, {33, 300}, {140, 65}, {150, 1}, {20, 0}, {0, 20}}) {
      check_warpgroups<64>({.heads = 1, .kv_heads = 1, .q_length = q, .k_length = k, .causal = causal});
    }
  }
  for (const int64_t window : {1, 100, 128}) {
    check_warpgroups<64>({.heads = 1, .kv_heads = 1, .q_length = 200, .k_length = 460, .window = window});
  }
  check_warpgroups<64>({2, 4, 2, 70, 70, 64, true, true});
}

TEST_CASE("attention on CUDA, warpgroups: the same bits whenever threads run and copies and products end") {
  const AttentionShape shape{.heads = 2, .kv_heads = 1, .q_length = 70, .k_length = 300, .head_dim = 64};
  check_same_bits<bf16>(shape, [](AttentionCase<bf16>& c, const Run& run) {
    forward_on_warpgroups<64>(c, run);
    backward_on_warpgroups<64>(c, run);
  });
}

TEST_CASE("attention on CUDA, plain: lengths, head dimensions, caches") {
  for (const int64_t length : {1, 2, 63, 64, 65, 130}) {
    check_plain<double>({.q_length = length, .k_length = length, .head_dim = 20}, 1e-13, 1e-12);
    check_plain<float>({.q_length = length, .k_length = length, .head_dim = 20}, 4e-6, 4e-5);
  }
  for (const int64_t dim : {1, 8, 33, 64}) {
    check_plain<double>({.q_length = 40, .k_length = 70, .head_dim = dim}, 1e-13, 1e-12);
  }
  for (const int64_t dim : {65, 128, 300}) {
    check_plain<double, 2>({.q_length = 40, .k_length = 70, .head_dim = dim}, 1e-13, 1e-12);
  }
  for (const bool causal : {true, false}) {
    for (const auto& [q, k] : {std::pair{1, 130}, {33, 100}, {100, 65}, {80, 1}, {20, 0}, {0, 20}}) {
      check_plain<double>({.heads = 2, .kv_heads = 2, .q_length = q, .k_length = k, .head_dim = 8, .causal = causal},
                          1e-13, 1e-12);
    }
  }
  check_plain<bf16>({.q_length = 70, .k_length = 80, .head_dim = 24}, 0.02, 0.1);
}

TEST_CASE("attention on CUDA, plain: grouped heads, windows, soft caps and masks") {
  for (const int64_t kv_heads : {1, 2, 4}) {
    for (const bool packed : {false, true})
      check_plain<double>({2, 4, kv_heads, 70, 70, 8, true, packed}, 1e-13, 1e-12);
  }
  for (const int64_t window : {1, 64, 70}) {
    check_plain<double>({1, 1, 1, 100, 150, 8, true, false, window}, 1e-13, 1e-12);
  }
  check_plain<double>({1, 2, 2, 70, 70, 8, true, false, 40, 1.5}, 1e-13, 1e-12);
  for (const auto mask : {AttentionShape::shared_mask, AttentionShape::batch_mask, AttentionShape::head_mask,
                          AttentionShape::full_mask}) {
    check_plain<double>({2, 4, 2, 40, 70, 8, false, false, 0, 0, mask}, 1e-13, 1e-12);
  }
  check_plain<float>({2, 4, 2, 70, 70, 16, true, false, 30, 2, AttentionShape::full_mask}, 4e-6, 4e-5);
}

TEST_CASE("attention on CUDA, plain: NaN and inf reach whoever sees them, and nobody else") {
  const AttentionShape shape{1, 2, 1, 70, 70, 8, true, false};
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    for (const int64_t at : {0, 37, 69}) {
      AttentionCase<double> c(shape);
      c.qkv[static_cast<size_t>(c.v_index(0, at, 0, 3))] = bad;
      forward_plain<double, 1>(c, {});
      backward_plain<double, 1>(c, {});
      for (int64_t t = 0; t < 70; ++t) {
        CAPTURE(t);
        CHECK(std::isfinite(c.out[static_cast<size_t>(c.out_index(0, t, 0, 3))]) == (t < at));
        CHECK(std::isfinite(c.gradients[static_cast<size_t>(c.q_index(0, t, 0, 0))]) == (t < at));
      }
    }
  }
}

TEST_CASE("attention on CUDA, plain: the same bits in whatever order threads run") {
  const AttentionShape shape{1, 2, 1, 70, 90, 40, true, false, 0, 3, AttentionShape::head_mask};
  check_same_bits<float>(shape, [](AttentionCase<float>& c, const Run& run) {
    forward_plain<float, 1>(c, run);
    backward_plain<float, 1>(c, run);
  });
}
