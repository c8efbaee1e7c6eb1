// SPDX-License-Identifier: Apache-2.0
// Attention forward and backward on the GPU: checks the results against the CPU's, then prints TFLOP/s.
// Forward counts 4 * head_dim operations for each query and key that it sees, backward 2.5 times as many.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "bench/timing.h"
#include "core/array.h"
#include "core/attention.h"

using namespace moxie;

namespace {

struct Sizes {
  int64_t batch, heads, kv_heads, q_length, k_length, head_dim;
  bool causal;
  int64_t window;

  // How many pairs of a query and a key that it sees one head has.
  double pairs() const {
    if (!causal) return static_cast<double>(q_length * k_length);
    double sum = 0;
    for (int64_t t = 0; t < q_length; ++t) {
      const int64_t keys = std::clamp<int64_t>(t + k_length - q_length + 1, 0, k_length);
      sum += static_cast<double>(window > 0 ? std::min(keys, window) : keys);
    }
    return sum;
  }
  double forward_operations() const { return 4.0 * static_cast<double>(batch * heads * head_dim) * pairs(); }
};

// The arrays of one problem, [batch, length, heads, head_dim], on one device and in one dtype.
struct Problem {
  Sizes shape;
  Array q, k, v, out, lse, dout, dq, dk, dv;

  Problem(const Sizes& s, unsigned seed) : shape(s) {
    // Drawing a hundred million numbers would take longer than everything else: a few, again and again.
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> drawn(65537);
    for (float& x : drawn) x = normal(random);
    size_t next = 0;
    const auto numbers = [&](int64_t length, int64_t heads) {
      std::vector<float> values(static_cast<size_t>(s.batch * length * heads * s.head_dim));
      for (float& x : values) {
        x = drawn[next];
        if (++next == drawn.size()) next = 0;
      }
      return Array::from(values, {s.batch, length, heads, s.head_dim});
    };
    q = numbers(s.q_length, s.heads);
    k = numbers(s.k_length, s.kv_heads);
    v = numbers(s.k_length, s.kv_heads);
    dout = numbers(s.q_length, s.heads);
    allocate_outputs();
  }
  Problem to(Device device, Dtype dtype) const {
    Problem p = *this;
    for (Array* a : {&p.q, &p.k, &p.v, &p.dout}) *a = a->to(dtype).to(device);
    p.allocate_outputs();
    return p;
  }

  void forward() const { attention(q.device(), problem().forward); }
  void backward() const { attention_backward(q.device(), problem()); }
  // Until everything asked of the GPU so far is done.
  void wait() const { lse.reshape({-1}).rows(0, 1).to(Device::cpu()); }

 private:
  void allocate_outputs() {
    out = Array::empty(q.shape(), q.options());
    dq = Array::empty(q.shape(), q.options());
    dk = Array::empty(k.shape(), q.options());
    dv = Array::empty(v.shape(), q.options());
    lse = Array::empty({shape.batch, shape.heads, shape.q_length}, {statistics_dtype(q.dtype()), q.device()});
  }
  AttentionBackward problem() const {
    const Sizes& s = shape;
    Attention f{q.dtype(),  s.batch,    s.heads,    s.kv_heads,
                s.q_length, s.k_length, s.head_dim, 1 / std::sqrt(static_cast<double>(s.head_dim))};
    f.causal = s.causal;
    f.window = s.window;
    f.q = q.raw();
    f.k = k.raw();
    f.v = v.raw();
    f.out = out.raw();
    f.lse = lse.raw();
    f.q_stride = f.out_stride = s.heads * s.head_dim;
    f.k_stride = f.v_stride = s.kv_heads * s.head_dim;
    f.q_batch_stride = f.out_batch_stride = s.q_length * f.q_stride;
    f.k_batch_stride = f.v_batch_stride = s.k_length * f.k_stride;
    return {f, dout.raw(), f.out_stride, f.out_batch_stride, dq.raw(), dk.raw(), dv.raw()};
  }
};

// |got - expected| / |expected|; infinite where a number is NaN.
double relative_error(const Array& got, const Array& expected) {
  const Array a = got.to(Device::cpu()).to(Dtype::f64), b = expected.to(Dtype::f64);
  double error = 0, size = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.data<double>()[i], y = b.data<double>()[i];
    error += (x - y) * (x - y);
    size += y * y;
  }
  return std::isnan(error) ? INFINITY : size == 0 ? std::sqrt(error) : std::sqrt(error / size);
}

bool same_bits(const Array& a, const Array& b) {
  const Array x = a.to(Device::cpu()), y = b.to(Device::cpu());
  return std::equal(x.raw(), x.raw() + x.bytes(), y.raw());
}

// True where the GPU agrees with f64 on the CPU, and with itself bit by bit.
bool verify(const Sizes& shape, Dtype dtype) {
  const Problem inputs = Problem(shape, 1).to(Device::cpu(), dtype);
  const Problem exact = inputs.to(Device::cpu(), Dtype::f64);
  exact.forward();
  exact.backward();
  const double tolerance = dtype == Dtype::f64 ? 1e-13 : dtype == Dtype::f32 ? 2e-6 : 0.01;
  const Problem once = inputs.to(Device::cuda(), dtype), twice = inputs.to(Device::cuda(), dtype);
  for (const Problem* p : {&once, &twice}) {
    p->forward();
    p->backward();
  }
  bool good = true;
  const auto check_one = [&](const char* name, const Array Problem::*array) {
    const double error = relative_error(once.*array, exact.*array);
    const bool repeats = same_bits(once.*array, twice.*array);
    if (error <= tolerance && repeats) return;
    good = false;
    fmt::print("WRONG: {} batch {} heads {}/{} q {} k {} dim {} causal {} window {}: {} error {:.2e}{}\n",
               name_of(dtype), shape.batch, shape.heads, shape.kv_heads, shape.q_length, shape.k_length, shape.head_dim,
               shape.causal, shape.window, name, error, repeats ? "" : ", two runs differ");
  };
  check_one("out", &Problem::out);
  check_one("dq", &Problem::dq);
  check_one("dk", &Problem::dk);
  check_one("dv", &Problem::dv);
  return good;
}

bool verify_all() {
  bool good = true;
  for (const int64_t dim : {32, 64, 96, 128}) {
    for (const Sizes& shape : {Sizes{2, 4, 2, 333, 333, dim, true, 0}, Sizes{1, 2, 2, 257, 257, dim, false, 0},
                               Sizes{1, 4, 1, 130, 500, dim, true, 0}, Sizes{1, 2, 2, 600, 600, dim, true, 150}}) {
      good = verify(shape, Dtype::bf16) && good;
    }
    good = verify({1, 2, 1, 130, 200, dim, true, 0}, Dtype::f32) && good;
    good = verify({1, 2, 1, 130, 200, dim, true, 0}, Dtype::f64) && good;
  }
  return good;
}

// Milliseconds of one call, the median of batches that each keep the GPU busy for a while.
template <class F> double time_on_gpu(const Problem& p, F f) {
  const auto batch = [&](int calls) {
    return bench::milliseconds([&] {
      for (int i = 0; i < calls; ++i) f();
      p.wait();
    });
  };
  batch(2);
  const int calls = std::max(1, static_cast<int>(10 / batch(1)));
  std::vector<double> times;
  for (int i = 0; i < 9; ++i) times.push_back(batch(calls) / calls);
  return bench::median(times);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Speed of attention on the GPU");
  bool json = false, all = false;
  app.add_flag("--json", json, "One JSON object per line instead of a table");
  app.add_flag("--all", all, "More shapes");
  CLI11_PARSE(app, argc, argv);
  if (!Device::has_cuda()) {
    fmt::print("gpu_attention: no GPU\n");
    return EXIT_FAILURE;
  }
  if (!verify_all()) return EXIT_FAILURE;

  std::vector<std::pair<Dtype, Sizes>> rows;
  for (const int64_t dim : {128, 64, 96, 32}) {
    const int64_t heads = 2048 / dim;
    for (const int64_t length : {1024, 4096, 16384}) {
      if (!all && length != 4096) continue;
      rows.push_back({Dtype::bf16, {16384 / length, heads, heads, length, length, dim, true, 0}});
    }
    if (!all && dim != 128) continue;
    rows.push_back({Dtype::bf16, {4, heads, heads, 4096, 4096, dim, false, 0}});
    rows.push_back({Dtype::bf16, {4, heads, heads / 4, 4096, 4096, dim, true, 0}});
    rows.push_back({Dtype::bf16, {4, heads, heads, 4096, 4096, dim, true, 512}});
  }
  rows.push_back({Dtype::f32, {4, 16, 16, 1024, 1024, 128, true, 0}});
  rows.push_back({Dtype::f64, {1, 8, 8, 512, 512, 64, true, 0}});
  rows.push_back({Dtype::bf16, {8, 32, 8, 1, 8192, 128, true, 0}});

  if (!json) {
    fmt::print("{:5} {:>5} {:>7} {:>6} {:>6} {:>4} {:>6} {:>6} | {:>10} {:>8} | {:>11} {:>8}\n", "dtype", "batch",
               "heads", "q", "k", "dim", "causal", "window", "forward ms", "TFLOP/s", "backward ms", "TFLOP/s");
  }
  for (const auto& [dtype, s] : rows) {
    const Problem p = Problem(s, 1).to(Device::cpu(), dtype).to(Device::cuda(), dtype);
    const double forward = time_on_gpu(p, [&] { p.forward(); });
    const double backward = s.q_length > 1 ? time_on_gpu(p, [&] { p.backward(); }) : NAN;
    const double rate = s.forward_operations() * 1e-9;
    if (json) {
      nlohmann::json row;
      row["benchmark"] = "gpu_attention";
      row["dtype"] = name_of(dtype);
      row["batch"] = s.batch;
      row["heads"] = s.heads;
      row["kv_heads"] = s.kv_heads;
      row["q_length"] = s.q_length;
      row["k_length"] = s.k_length;
      row["head_dim"] = s.head_dim;
      row["causal"] = s.causal;
      row["window"] = s.window;
      row["forward_ms"] = forward;
      row["forward_tflops"] = rate / forward;
      row["backward_ms"] = backward;  // null where there was none
      row["backward_tflops"] = 2.5 * rate / backward;
      fmt::print("{}\n", row.dump());
    } else {
      fmt::print("{:5} {:5} {:>7} {:6} {:6} {:4} {:>6} {:6} | {:10.3f} {:8.1f} | {:11.3f} {:8.1f}\n", name_of(dtype),
                 s.batch, fmt::format("{}/{}", s.heads, s.kv_heads), s.q_length, s.k_length, s.head_dim, s.causal,
                 s.window, forward, rate / forward, backward, 2.5 * rate / backward);
    }
    std::fflush(stdout);
  }
  return EXIT_SUCCESS;
}
