// SPDX-License-Identifier: Apache-2.0
// Arrays, memory, sorting, sums and random numbers on a GPU, against the CPU.
#ifdef MOXIE_CUDA
#include "core/cuda.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "core/array.h"
#include "core/kernels/random/fill.h"
#include "core/launch.h"
#include "core/reduce.h"
#include "core/sort.h"
#include "tests/device.h"

using namespace moxie;

namespace {

const Device gpu = Device::cuda();

template <class T> std::vector<T> numbers(int64_t n) {
  std::vector<T> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(static_cast<float>(random_bits({.seed = 3}, i) % 200));
  return values;
}

bool same_bits(const Array& a, const Array& b) {
  const Array x = a.to(Device::cpu()), y = b.to(Device::cpu());
  return x.shape() == y.shape() && x.dtype() == y.dtype() &&
         (x.bytes() == 0 || std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.bytes())) == 0);
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_CASE_TEMPLATE("Array on a GPU: there and back, copies, zeros, fill, slices", T, double, float, bf16, int32_t,
                   uint8_t) {
  MOXIE_NEEDS_CUDA();
  // the last ones pass through several pieces of page-locked memory
  for (const int64_t n : {0, 1, 33, 1000003, 5 << 20}) {
    if (testing::small_only() && n > 33) continue;
    CAPTURE(n);
    const std::vector<T> values = numbers<T>(n);
    const Array host = Array::from(values, {n}), there = Array::from(values, {n}, gpu);
    CHECK(there.device() == gpu);
    CHECK(there.to_vector<T>() == values);
    CHECK(same_bits(host.to(gpu), there));
    CHECK(same_bits(there.to(Device::cpu()), host));
    CHECK(there.to(gpu).shares_storage_with(there));
    const Array copy = there.clone();
    CHECK_FALSE(copy.shares_storage_with(there));
    CHECK(same_bits(copy, host));
    const Array zeros = Array::zeros({n}, there.options());
    CHECK(zeros.to_vector<T>() == std::vector<T>(values.size(), T(0.0f)));
    zeros.copy_from(there);
    CHECK(same_bits(zeros, host));
    copy.fill(7);
    CHECK(copy.to_vector<T>() == std::vector<T>(values.size(), T(7.0f)));
    if (n > 2) {
      copy.rows(1, n - 2).fill(3);
      CHECK(same_bits(copy.rows(1, n - 2), Array::full({n - 2}, 3, {dtype_of<T>})));
      CHECK(copy.rows(0, 1).item() == 7);
      CHECK(copy.rows(n - 1, 1).item() == 7);
      CHECK(same_bits(there.rows(2, n - 2), host.rows(2, n - 2)));
    }
    for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16, Dtype::i32, Dtype::u8})
      CHECK(same_bits(there.to(dtype), host.to(dtype)));
  }
}

TEST_CASE("Array on a GPU: what is copied to it may change on the host at once") {
  MOXIE_NEEDS_CUDA();
  std::vector<int32_t> values(3 << 20);
  std::vector<Array> copies;
  for (int round = 0; round < 5; ++round) {
    std::fill(values.begin(), values.end(), round);
    copies.push_back(Array::from(values, {static_cast<int64_t>(values.size())}, gpu));
  }
  for (int round = 0; round < 5; ++round) {
    const std::vector<int32_t> back = copies[static_cast<size_t>(round)].to_vector<int32_t>();
    CHECK(back == std::vector<int32_t>(values.size(), round));
  }
}

TEST_CASE("bf16 on a GPU: rounds like the CPU") {
  MOXIE_NEEDS_CUDA();
  std::vector<float> values;
  for (uint32_t upper = 0; upper < 1 << 16; upper += 7)
    for (const uint32_t lower : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const float value = std::bit_cast<float>(upper << 16 | lower);
      if (value == value) values.push_back(value);
    }
  const Array x = Array::from(values, {static_cast<int64_t>(values.size())});
  CHECK(same_bits(x.to(gpu).to(Dtype::bf16), x.to(Dtype::bf16)));
  const Array nan = Array::full({3}, std::numeric_limits<double>::quiet_NaN(), {Dtype::f32, gpu});
  CHECK(std::isnan(nan.to(Dtype::bf16).to(Dtype::f32).rows(1, 1).item()));
}

TEST_CASE("memory on a GPU: counted, poisoned, and refused with what to do") {
  MOXIE_NEEDS_CUDA();
  const MemoryStatistics before = memory_of(gpu);
  reset_peak_memory();
  {
    const Array a = Array::empty({1000}, {Dtype::f32, gpu});
    CHECK(a.storage()->capacity() == 4096);
    CHECK(memory_of(gpu).live_bytes == before.live_bytes + 4096);
    const Array none = Array::empty({0}, {Dtype::f32, gpu});
    CHECK(memory_of(gpu).live_bytes == before.live_bytes + 4096);
  }
  CHECK(memory_of(gpu).live_bytes == before.live_bytes);
  CHECK(memory_of(gpu).peak_bytes == before.live_bytes + 4096);
  CHECK(memory_of(gpu).reserved_bytes > 0);
  release_cached_memory();

  poison_new_memory(true);
  const Array poisoned = Array::empty({777}, {Dtype::f32, gpu});
  poison_new_memory(false);
  for (const float value : poisoned.to_vector<float>()) CHECK(std::isnan(value));

  const auto ask_too_much = [] { Array::empty({int64_t{1} << 42}, {Dtype::u8, gpu}); };
  CHECK_THROWS_AS(ask_too_much(), CudaError);
  const std::string message = message_of(ask_too_much);
  CHECK_MESSAGE(message.starts_with("cuda: 4194304.0 MiB more don't fit on cuda:0 ("), message);
  CHECK_MESSAGE(message.ends_with("smaller batches or shorter sequences, bf16, and recompute() need less"), message);
  CHECK(memory_of(gpu).live_bytes == before.live_bytes + 3328);
  CHECK(message_of([] {
          Array::empty({1}, {Dtype::f32, Device::cuda(999)});
        }).starts_with("device: cuda:999 doesn't exist, there are "));
  CHECK_THROWS_AS(Array::empty({1}, {Dtype::f32, Device::cuda(-1)}), std::invalid_argument);
}

TEST_CASE("check_indices on a GPU: the first bad index is told when the device is waited for") {
  MOXIE_NEEDS_CUDA();
  std::vector<int32_t> values(100000, 5);
  const auto look = [&](const int32_t* ignored) {
    const Array index = Array::from(values, {static_cast<int64_t>(values.size())}, gpu);
    cuda::check_indices(0, "embedding", index.data<int32_t>(), index.numel(), 6, ignored);
    cuda::synchronize(0);
  };
  CHECK_NOTHROW(look(nullptr));
  values[77777] = 6;
  values[99999] = -1;
  const char* wanted = "embedding: index 6 at position 77777 is out of range [0, 6)";
  CHECK_THROWS_WITH_AS(look(nullptr), wanted, std::invalid_argument);
  values[0] = -3;
  CHECK_THROWS_WITH_AS(look(nullptr), "embedding: index -3 at position 0 is out of range [0, 6)",
                       std::invalid_argument);
  values[0] = 0;
  const int32_t ignored = 6;
  CHECK_THROWS_WITH_AS(look(&ignored), "embedding: index -1 at position 99999 is out of range [0, 6)",
                       std::invalid_argument);
  values[99999] = 6;
  CHECK_NOTHROW(look(&ignored));
  CHECK_NOTHROW(cuda::synchronize(0));  // nothing is told twice
}

TEST_CASE("counting_sort on a GPU: as on the CPU") {
  MOXIE_NEEDS_CUDA();
  for (const int64_t n : {0, 1, 5, 1000, 99999})
    for (const int64_t values : {1, 2, 7, 128, 512, 1000}) {
      if (testing::small_only() && (n > 1000 || values > 7)) continue;
      std::vector<int32_t> keys(static_cast<size_t>(n));
      for (size_t i = 0; i < keys.size(); ++i)
        keys[i] = static_cast<int32_t>(random_bits({.seed = 4}, i) % static_cast<uint32_t>(values));
      for (const int64_t group : {1, 3}) {
        const CountingSort cpu = counting_sort(Array::from(keys, {n}), values, group);
        const CountingSort there = counting_sort(Array::from(keys, {n}, gpu), values, group);
        CHECK(same_bits(there.offsets, cpu.offsets));
        CHECK(same_bits(there.order, cpu.order));
        CHECK(same_bits(there.place, cpu.place));
      }
    }
}

TEST_CASE_TEMPLATE("sort_rows on a GPU: as on the CPU, ties, zeros, infinities and NaN included", T, double, float,
                   bf16) {
  MOXIE_NEEDS_CUDA();
  const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f};
  for (const int64_t rows : {0, 1, 3, 70})
    for (const int64_t n : {1, 2, 33, 1025}) {
      if (testing::small_only() && rows * n > 100) continue;
      std::vector<T> values = numbers<T>(rows * n);
      for (size_t i = 0; i < values.size(); i += 5) values[i] = T(special[i / 5 % 6]);
      for (const bool descending : {false, true}) {
        const Array x = Array::from(values, {rows, n});
        const Array sorted = Array::empty({rows, n}, x.options()), places = Array::empty({rows, n}, {Dtype::i32});
        sort_rows(x, descending, sorted, places);
        const Array sorted_there = Array::empty({rows, n}, {x.dtype(), gpu});
        const Array places_there = Array::empty({rows, n}, {Dtype::i32, gpu});
        sort_rows(x.to(gpu), descending, sorted_there, places_there);
        CHECK(same_bits(places_there, places));
        CHECK(same_bits(sorted_there, sorted));
      }
    }
}

TEST_CASE_TEMPLATE("reduce_sum on a GPU: near the CPU's, twice the same", T, double, float, bf16) {
  MOXIE_NEEDS_CUDA();
  struct Case {
    int64_t outer, n, inner;
  };
  for (const Case& c : {Case{1, 1, 1}, Case{3, 5, 1}, Case{2, 100000, 1}, Case{1, 1000, 33}, Case{3, 129, 1025},
                        Case{2, 3, 5}, Case{1, 0, 4}, Case{4, 4097, 2}}) {
    const Array x = Array::from(numbers<T>(c.outer * c.n * c.inner), {c.outer, c.n, c.inner});
    const Array wanted = reduce_sum(x, c.outer, c.n, c.inner);
    const Array got = reduce_sum(x.to(gpu), c.outer, c.n, c.inner);
    CHECK(same_bits(got, reduce_sum(x.to(gpu), c.outer, c.n, c.inner)));
    const std::vector<double> a = got.to_vector<double>(), b = wanted.to_vector<double>();
    REQUIRE(a.size() == b.size());
    for (size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-6));
  }
}

TEST_CASE("random numbers on a GPU: cuRAND's Philox draws the CPU's words; normal numbers agree within rounding") {
  MOXIE_NEEDS_CUDA();
  for (const int64_t n : {1, 5, 4096, 100003}) {
    const RandomKey key{.seed = 0x123456789ABCDEFu, .stream = 17, .step = 5};
    const Array cpu = Array::empty({n}), there = Array::empty({n}, {Dtype::f32, gpu});
    for_rows(Device::cpu(), FillUniform{cpu.data<float>(), n, 1, key}, elementwise_rows(n), elementwise_row);
    for_rows(gpu, FillUniform{there.data<float>(), n, 1, key}, elementwise_rows(n), elementwise_row);
    CHECK(same_bits(there, cpu));
    for_rows(Device::cpu(), FillNormal{cpu.data<float>(), n, 1, key}, elementwise_rows(n), elementwise_row);
    for_rows(gpu, FillNormal{there.data<float>(), n, 1, key}, elementwise_rows(n), elementwise_row);
    const std::vector<float> a = there.to_vector<float>(), b = cpu.to_vector<float>();
    float worst = 0;
    for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
    CHECK(worst <= 4e-6f);
  }
}
#endif
