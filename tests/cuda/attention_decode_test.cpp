// SPDX-License-Identifier: Apache-2.0
// The kernels for one query per head, run by the block emulator against plain loops.
#include "cuda/attention_decode.cuh"

#include "tests/core/attention_case.h"
#include "tests/cuda/block_emulator.h"

using namespace moxie;
using namespace moxie::cuda;
using namespace moxie::testing;

namespace {

template <class T, int Lanes, int Heads> int check_decode(const AttentionShape& shape, double tolerance) {
  CAPTURE(describe(shape));
  AttentionCase<T> c(shape);
  const AttentionReference r = reference(c);
  DecodeProblem p = decode_problem<Heads>(c.problem().forward);
  std::vector<float> partial(static_cast<size_t>(decode_partial_size(p)));
  p.partial = partial.data();
  for (const Emulation::Order order :
       {Emulation::Order::forward, Emulation::Order::backward, Emulation::Order::shuffled}) {
    c.poison();
    std::fill(partial.begin(), partial.end(), std::numeric_limits<float>::quiet_NaN());
    emulate({.blocks = static_cast<int>(p.blocks),
             .threads = decode_threads,
             .shared_bytes = decode_shared_bytes<T, Lanes, Heads>(),
             .order = order},
            [&] {
              attention_decode_part<T, Lanes, Heads>(p, block_index(),
                                                     reinterpret_cast<float*>(dynamic_shared_memory()));
            });
    emulate({.blocks = static_cast<int>(shape.batch * shape.heads), .threads = decode_threads, .order = order},
            [&] { attention_decode_sum<T>(p, block_index()); });
    CHECK(difference(c.out, r.out) <= tolerance);
    CHECK(difference(c.lse, r.lse) <= (dtype_of<T> == Dtype::f32 ? 4e-6 : 1e-4));
  }
  return p.parts;
}

}  // namespace

TEST_CASE("decode kernels: every width, with lanes that have no column") {
  for (const int64_t keys : {1, 33, 517}) {
    check_decode<bf16, 4, 1>({.k_length = keys, .head_dim = 32}, 0.02);
    check_decode<bf16, 8, 1>({.k_length = keys, .head_dim = 64}, 0.02);
    check_decode<bf16, 16, 1>({.k_length = keys, .head_dim = 96}, 0.02);
    check_decode<bf16, 16, 1>({.k_length = keys, .head_dim = 128}, 0.02);
    check_decode<bf16, 32, 1>({.k_length = keys, .head_dim = 200}, 0.02);
    check_decode<float, 4, 1>({.k_length = keys, .head_dim = 4}, 4e-6);
    check_decode<float, 8, 1>({.k_length = keys, .head_dim = 32}, 4e-6);
    check_decode<float, 16, 1>({.k_length = keys, .head_dim = 60}, 4e-6);
    check_decode<float, 32, 1>({.k_length = keys, .head_dim = 128}, 4e-6);
  }
}

TEST_CASE("decode kernels: heads that share keys, batches, packed rows") {
  for (const int64_t group : {1, 2, 3, 4, 7, 8}) {
    check_decode<bf16, 8, 4>({.batch = 2, .heads = 2 * group, .kv_heads = 2, .k_length = 70, .head_dim = 64}, 0.02);
    check_decode<float, 16, 4>({.batch = 2, .heads = 2 * group, .kv_heads = 2, .k_length = 70, .head_dim = 64}, 4e-6);
  }
  check_decode<bf16, 8, 4>({.batch = 3, .heads = 4, .kv_heads = 1, .k_length = 1, .head_dim = 64, .packed = true},
                           0.02);
}

TEST_CASE("decode kernels: keys divided among blocks, of which the last has fewer") {
  CHECK(check_decode<float, 4, 1>({.k_length = 255, .head_dim = 8}, 4e-6) == 1);
  CHECK(check_decode<float, 4, 1>({.k_length = 512, .head_dim = 8}, 4e-6) == 2);
  CHECK(check_decode<float, 4, 1>({.k_length = 1027, .head_dim = 8}, 4e-6) == 4);
  CHECK(check_decode<bf16, 4, 4>({.batch = 2, .heads = 6, .kv_heads = 2, .k_length = 901, .head_dim = 32}, 0.02) == 3);
  // Many heads are parts enough.
  CHECK(decode_problem<4>(AttentionCase<bf16>({.batch = 8, .heads = 32, .kv_heads = 8, .k_length = 8192, .head_dim = 8})
                              .problem()
                              .forward)
            .parts == 8);
  CHECK(
      decode_problem<1>(AttentionCase<bf16>({.batch = 64, .heads = 16, .kv_heads = 16, .k_length = 1024, .head_dim = 8})
                            .problem()
                            .forward)
          .parts == 1);
}

TEST_CASE("decode kernels: windows, and keys beyond them that hold NaN") {
  for (const int64_t window : {1, 100, 300, 700}) {
    const AttentionShape shape{.k_length = 601, .head_dim = 32, .window = window};
    check_decode<float, 8, 1>(shape, 4e-6);
    check_decode<bf16, 4, 1>(shape, 0.02);
  }
  AttentionCase<float> c({.k_length = 700, .head_dim = 32, .window = 600});
  const AttentionReference r = reference(c);
  for (int64_t key = 0; key < 100; ++key)
    for (int64_t i = 0; i < 32; ++i)
      c.qkv[static_cast<size_t>(c.k_index(0, key, 0, i))] = c.qkv[static_cast<size_t>(c.v_index(0, key, 0, i))] =
          std::numeric_limits<float>::quiet_NaN();
  DecodeProblem p = decode_problem<1>(c.problem().forward);
  std::vector<float> partial(static_cast<size_t>(decode_partial_size(p)));
  p.partial = partial.data();
  emulate(
      {.blocks = static_cast<int>(p.blocks),
       .threads = decode_threads,
       .shared_bytes = decode_shared_bytes<float, 8, 1>()},
      [&] { attention_decode_part<float, 8, 1>(p, block_index(), reinterpret_cast<float*>(dynamic_shared_memory())); });
  emulate({.blocks = 1, .threads = decode_threads}, [&] { attention_decode_sum<float>(p, block_index()); });
  CHECK(difference(c.out, r.out) <= 4e-6);
}
