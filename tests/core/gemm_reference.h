// SPDX-License-Identifier: Apache-2.0
// What the tests of the matmul seam share: data of any dtype, and the reference in long double.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "core/gemm.h"
#include "core/parallel.h"
#ifdef MOXIE_CUDA
#include "core/cuda.h"
#endif

namespace moxie {

// Elements of any float dtype, all NaN at first.
struct Data {
  Dtype dtype;
  std::vector<double> f64;
  std::vector<float> f32;
  std::vector<bf16> half;

  Data(Dtype type, int64_t count) : dtype(type) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    if (type == Dtype::f64) f64.assign(static_cast<size_t>(count), static_cast<double>(nan));
    if (type == Dtype::f32) f32.assign(static_cast<size_t>(count), nan);
    if (type == Dtype::bf16) half.assign(static_cast<size_t>(count), bf16(nan));
  }
  double get(int64_t i) const {
    const auto at = static_cast<size_t>(i);
    if (dtype == Dtype::f64) return f64[at];
    return dtype == Dtype::f32 ? static_cast<double>(f32[at]) : static_cast<double>(static_cast<float>(half[at]));
  }
  void set(int64_t i, double value) {
    const auto at = static_cast<size_t>(i);
    if (dtype == Dtype::f64) f64[at] = value;
    if (dtype == Dtype::f32) f32[at] = static_cast<float>(value);
    if (dtype == Dtype::bf16) half[at] = bf16(static_cast<float>(value));
  }
  void* data() {
    if (dtype == Dtype::f64) return f64.data();
    return dtype == Dtype::f32 ? static_cast<void*>(f32.data()) : static_cast<void*>(half.data());
  }
  int64_t bytes() const { return static_cast<int64_t>(f64.size() * 8 + f32.size() * 4 + half.size() * 2); }
  // Fills rows of `cols` elements and leaves the padding between them NaN.
  void fill(int64_t first, int64_t rows, int64_t cols, int64_t ld, std::mt19937& random) {
    std::normal_distribution<double> normal;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) set(first + i * ld + j, normal(random));
    }
  }
  bool same_bits(const Data& other) const {
    const auto equal = [](const auto& x, const auto& y) {
      return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(x[0])) == 0);
    };
    return equal(f64, other.f64) && equal(f32, other.f32) && equal(half, other.half);
  }
};

// A matrix inside Data: element (i, j) of op(X).
struct View {
  const Data& data;
  int64_t first, ld;
  bool transposed = false;
  double operator()(int64_t i, int64_t j) const { return data.get(first + (transposed ? j * ld + i : i * ld + j)); }
};

// f(g) on the device, with A, B and C there: c receives C.
template <class G, class F> void run_on(Device device, G g, Data& a, Data& b, Data& c, F f) {
  g.a = a.data();
  g.b = b.data();
  g.c = c.data();
  if (device.is_cpu()) return f(device, g);
#ifdef MOXIE_CUDA
  struct Copy {
    int device;
    int64_t bytes;
    std::byte* data;
    Copy(Device on, const void* from, int64_t size)
        : device(on.index), bytes(size), data(cuda::allocate(device, std::max<int64_t>(bytes, 1))) {
      if (bytes > 0) cuda::copy_to_device(device, data, from, bytes);
    }
    ~Copy() { cuda::free(device, data, std::max<int64_t>(bytes, 1)); }
  };
  const Copy on_a(device, g.a, a.bytes()), on_b(device, g.b, b.bytes()), on_c(device, g.c, c.bytes());
  g.a = on_a.data;
  g.b = on_b.data;
  g.c = on_c.data;
  if constexpr (requires { g.offsets; }) {
    const Copy offsets(device, g.offsets, (g.groups + 1) * static_cast<int64_t>(sizeof(int32_t)));
    g.offsets = reinterpret_cast<const int32_t*>(offsets.data);
    f(device, g);
  } else {
    f(device, g);
  }
  if (c.bytes() > 0) cuda::copy_to_host(device.index, c.data(), on_c.data, c.bytes());
#endif
}

// The number of elements of C [m, n] that differ from old + A B by more than the dtype allows, summed in Sum.
// `rounding` is what an f32 sum may lose of its terms' size.
template <class Sum>
int64_t count_wrong_in(int64_t m, int64_t n, int64_t k, View a, View b, View c, const View* old, double rounding) {
  const bool f64 = a.data.dtype == Dtype::f64;
  std::vector<Sum> sums(static_cast<size_t>(n)), sizes(static_cast<size_t>(n));
  std::vector<double> all_b(static_cast<size_t>(k * n));
  for (int64_t p = 0; p < k; ++p) {
    for (int64_t j = 0; j < n; ++j) all_b[static_cast<size_t>(p * n + j)] = b(p, j);
  }
  Sum *sum = sums.data(), *size = sizes.data();
  int64_t wrong = 0;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      sum[j] = old != nullptr ? static_cast<Sum>((*old)(i, j)) : Sum(0);
      size[j] = std::abs(sum[j]);
    }
    for (int64_t p = 0; p < k; ++p) {
      const Sum x = static_cast<Sum>(a(i, p));
      const double* row = all_b.data() + p * n;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) {
        const Sum product = x * static_cast<Sum>(row[j]);
        sum[j] += product;
        size[j] += std::abs(product);
      }
    }
    for (int64_t j = 0; j < n; ++j) {
      // bf16 keeps 8 significant bits: half a unit in the last place is at most 2^-8 of the value.
      const Sum store = c.data.dtype == Dtype::bf16 ? Sum(0x1.01p-8) * std::abs(sum[j]) : Sum(0);
      const Sum error = std::abs(static_cast<Sum>(c(i, j)) - sum[j]);
      if (!(error <= store + (f64 ? Sum(1e-13) : Sum(rounding)) * size[j])) ++wrong;
    }
  }
  return wrong;
}

// The same in a type in which the sum is exact beside the dtype's.
inline int64_t count_wrong(int64_t m, int64_t n, int64_t k, View a, View b, View c, const View* old,
                           double rounding = 1e-6) {
  return a.data.dtype == Dtype::f64 ? count_wrong_in<long double>(m, n, k, a, b, c, old, rounding)
                                    : count_wrong_in<double>(m, n, k, a, b, c, old, rounding);
}

// Tensor cores cut sums off where a CPU rounds them.
inline double rounding_on(Device device) { return device.is_cpu() ? 1e-6 : 4e-6; }

// The number of elements outside of C that are no longer NaN.
inline int64_t count_touched(const Data& c, int64_t first, int64_t m, int64_t n, int64_t ldc) {
  int64_t touched = 0;
  for (int64_t i = 0; i + 1 < m; ++i) {
    for (int64_t j = n; j < ldc; ++j) touched += std::isnan(c.get(first + i * ldc + j)) ? 0 : 1;
  }
  return touched;
}

struct Types {
  Dtype dtype, out;
};
inline constexpr Types all_types[] = {
    {Dtype::f64, Dtype::f64}, {Dtype::f32, Dtype::f32}, {Dtype::bf16, Dtype::bf16}, {Dtype::bf16, Dtype::f32}};

// Restores the number of threads at the end of a test.
struct Threads {
  int before = threads();
  ~Threads() { set_threads(before); }
};

// Two threads even where the machine has one core.
template <class F> bool same_for_one_and_two_threads(F result) {
  const Threads restore;
  set_threads(1);
  const Data one = result();
  set_threads(2);
  const Data two = result();
  set_threads(3);
  return one.same_bits(two) && one.same_bits(result());
}

}  // namespace moxie
