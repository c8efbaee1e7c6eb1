// SPDX-License-Identifier: Apache-2.0
// WarpTeam and BlockTeam against SerialTeam.
#if defined(MOXIE_CUDA) && !defined(MOXIE_PRETEND_CUDA)  // verbs.cu needs nvcc
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/array.h"
#include "core/launch.h"
#include "core/philox.h"
#include "tests/core/verbs.h"
#include "tests/device.h"

using namespace moxie;
using moxie::testing::AllVerbs, moxie::testing::Seen, moxie::testing::TwoPasses;

namespace {

std::vector<float> test_row(int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = normal_at(RandomKey{.seed = 11, .stream = 3}, i);
  return x;
}

// `cols` chooses the team: up to 1024 a warp, beyond that a block.
constexpr int64_t for_a_warp = 1, for_a_block = 1 << 20;

}  // namespace

namespace moxie::testing {
void launch_too_wide();
}

TEST_CASE("launches on CUDA: one that is refused is named, with its shape, and the next one works") {
  MOXIE_NEEDS_CUDA();
  CHECK_THROWS_WITH_AS(moxie::testing::launch_too_wide(),
                       "cuda: kernel do_nothing could not be launched, invalid argument (cudaErrorInvalidValue); grid "
                       "3 x 1 x 1, block 2048 x 1 x 1, 0 bytes of shared memory",
                       CudaError);
  CHECK(Array::full({2}, 3, {Dtype::f32, Device::cuda()}).to_vector<float>() == std::vector<float>{3, 3});
}

TEST_CASE("teams on CUDA: every verb agrees with SerialTeam, and all members see the same") {
  MOXIE_NEEDS_CUDA();
  for (const int64_t cols : {for_a_warp, for_a_block})
    for (const int64_t n : {0, 1, 31, 32, 33, 127, 128, 129, 255, 257, 1000, 1024, 1025, 5000}) {
      CAPTURE(n);
      CAPTURE(cols);
      const std::vector<float> x = test_row(n);
      std::vector<float> serial_doubled(x.size());
      std::vector<Seen> serial(x.size() + 1);
      int64_t onces = 0;
      AllVerbs{x.data(), serial_doubled.data(), &onces, serial.data(), n}(SerialTeam{}, 0);

      const Array in = Array::from(x, {n}, Device::cuda());
      const Array doubled = Array::full({n}, NAN, {Dtype::f32, Device::cuda()});
      const Array count = Array::zeros({2}, {Dtype::i32, Device::cuda()});
      const auto bytes = static_cast<int64_t>(sizeof(Seen)) * (n + 1);
      const Array seen = Array::full({bytes}, 255, {Dtype::u8, Device::cuda()});
      for_rows(Device::cuda(),
               AllVerbs{in.data<float>(), doubled.data<float>(), reinterpret_cast<int64_t*>(count.raw()),
                        reinterpret_cast<Seen*>(seen.raw()), n},
               1, cols);
      CHECK(doubled.to_vector<float>() == serial_doubled);
      CHECK(count.to_vector<int32_t>() == std::vector<int32_t>{1, 0});
      std::vector<Seen> all(static_cast<size_t>(n + 1));
      const std::vector<uint8_t> raw = seen.to_vector<uint8_t>();
      std::memcpy(all.data(), raw.data(), raw.size());
      int64_t different = 0;
      for (const Seen& s : all) {
        different += s.int_sum != serial[0].int_sum;
        different += !(std::abs(s.float_sum - serial[0].float_sum) <= 1e-4f + 1e-7f * static_cast<float>(n));
        different += !(std::abs(s.double_sum - serial[0].double_sum) <= 1e-11);
        different += s.float_sum != all[0].float_sum || s.double_sum != all[0].double_sum;
        different += s.max != serial[0].max || s.double_max != serial[0].double_max;
        different += s.argmax != serial[0].argmax || s.argmax_of_ties != serial[0].argmax_of_ties;
      }
      CHECK(different == 0);
    }
}

TEST_CASE("teams on CUDA: a kernel of two passes with a sync equals the serial one, for few and for many rows") {
  MOXIE_NEEDS_CUDA();
  for (const int64_t rows : {1, 7, 1000})
    for (const int64_t n : {1, 31, 37, 300, 1500})
      for (const int64_t cols : {for_a_warp, for_a_block}) {
        if (testing::small_only() && rows > 7) continue;
        CAPTURE(n);
        CAPTURE(rows);
        const std::vector<float> x = test_row(rows * n);
        std::vector<float> t(x.size()), serial(x.size());
        const TwoPasses kernel{x.data(), t.data(), serial.data(), n};
        for (int64_t row = 0; row < rows; ++row) kernel(SerialTeam{}, row);
        const Options device{Dtype::f32, Device::cuda()};
        const Array in = Array::from(x, {rows, n}, Device::cuda());
        const Array twice = Array::full({rows, n}, NAN, device), out = Array::full({rows, n}, NAN, device);
        for_rows(Device::cuda(), TwoPasses{in.data<float>(), twice.data<float>(), out.data<float>(), n}, rows, cols);
        CHECK(out.to_vector<float>() == serial);
      }
}
#endif
