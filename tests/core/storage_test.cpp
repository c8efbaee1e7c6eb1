// SPDX-License-Identifier: Apache-2.0
// core/storage.h: the cache of CPU memory.
#include "core/storage.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "core/array.h"

using namespace moxie;

TEST_CASE("Storage: aligned, writable to the last byte, of every size") {
  for (const int64_t bytes : {1, 63, 64, 65, 1000, 4096, 100000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20}) {
    const Storage storage(bytes, Device::cpu());
    CHECK(reinterpret_cast<uintptr_t>(storage.data()) % 64 == 0);
    CHECK(storage.bytes() == bytes);
    CHECK(storage.device() == Device::cpu());
    std::memset(storage.data(), 1, static_cast<size_t>(bytes));
  }
  const Storage none(0, Device::cpu());
  CHECK(none.data() == nullptr);
}

TEST_CASE("Storage: freed memory is used again, and the books are right") {
  release_cached_memory();
  const MemoryStatistics start = cpu_memory();
  CHECK(start.reserved_bytes == start.live_bytes);
  std::byte* place = nullptr;
  for (const int64_t bytes : {1000, 5 << 20}) {
    const MemoryStatistics before = cpu_memory();
    {
      const Storage storage(bytes, Device::cpu());
      place = storage.data();
      const MemoryStatistics during = cpu_memory();
      CHECK(during.live_bytes >= before.live_bytes + bytes);
      CHECK(during.live_bytes <= before.live_bytes + bytes + bytes / 8 + 64);
      CHECK(during.system_calls == before.system_calls + 1);
    }
    const MemoryStatistics after = cpu_memory();
    CHECK(after.live_bytes == before.live_bytes);
    CHECK(after.reserved_bytes >= before.reserved_bytes + bytes);
    const Storage again(bytes - 10, Device::cpu());  // of the same size class
    CHECK(again.data() == place);
    CHECK(cpu_memory().system_calls == after.system_calls);
  }
  release_cached_memory();
  CHECK(cpu_memory().reserved_bytes == start.reserved_bytes);
  CHECK(cpu_memory().live_bytes == start.live_bytes);
}

TEST_CASE("Storage: the peak") {
  reset_peak_memory();
  const int64_t live = cpu_memory().live_bytes;
  CHECK(cpu_memory().peak_bytes == live);
  constexpr int64_t megabyte = 1 << 20;
  { const Storage a(megabyte, Device::cpu()), b(2 * megabyte, Device::cpu()); }
  { const Storage a(megabyte, Device::cpu()); }
  CHECK(cpu_memory().peak_bytes == live + 3 * megabyte);
  reset_peak_memory();
  CHECK(cpu_memory().peak_bytes == live);
}

TEST_CASE("Storage: poison shows reads before writes") {
  poison_new_memory(true);
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::bf16}) {
    const Array fresh = Array::empty({100}, {dtype});
    CHECK(std::isnan(fresh.to_vector<double>()[0]));
    CHECK(std::isnan(fresh.to_vector<double>()[99]));
  }
  CHECK(Array::empty({1}, {Dtype::u8}).item() == 255);
  CHECK(Array::zeros({1}).item() == 0);
  poison_new_memory(false);
}

TEST_CASE("Storage: from several threads") {
  const int64_t live = cpu_memory().live_bytes;
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t, &wrong] {
      std::vector<Array> held;
      for (int i = 0; i < 2000; ++i) {
        held.push_back(Array::full({1 + i % 50}, t, {Dtype::i32}));
        if (held.size() < 20) continue;
        for (const Array& array : held)
          if (array.data<int32_t>()[array.numel() - 1] != t) ++wrong[static_cast<size_t>(t)];
        held.clear();
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
  CHECK(cpu_memory().live_bytes == live);
}

TEST_CASE("Storage: more than there is throws std::bad_alloc and leaves the books right") {
  release_cached_memory();
  { const Storage cached(1000, Device::cpu()); }
  const MemoryStatistics before = cpu_memory();
  CHECK_THROWS_AS(Storage(int64_t{1} << 55, Device::cpu()), std::bad_alloc);
  CHECK(cpu_memory().live_bytes == before.live_bytes);
  CHECK(cpu_memory().reserved_bytes <= before.reserved_bytes);  // the cache was given back while trying
  CHECK(cpu_memory().reserved_bytes == cpu_memory().live_bytes);
}

#ifndef MOXIE_CUDA
TEST_CASE("Storage: on a device that this build doesn't know") {
  CHECK_THROWS_AS(Storage(8, Device::cuda()), std::invalid_argument);
}
#endif
