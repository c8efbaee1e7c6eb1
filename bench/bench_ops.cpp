// SPDX-License-Identifier: Apache-2.0
// Ops against their floor: what passes over memory against our own copy, matmul against oneDNN's own call.
#include <dnnl.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "autograd/ops.h"
#include "bench/timing.h"
#include "core/gemm.h"
#include "core/parallel.h"
#include "moe/erc.h"
#include "nn/init.h"

namespace {

using namespace moxie;

int repeats = 9;
bool json = false;

void print(const nlohmann::ordered_json& row) {
  if (json) return fmt::print("{}\n", row.dump());
  std::string line;
  for (const auto& [key, value] : row.items())
    line += value.is_string() ? fmt::format("{:<34}", value.get<std::string>())
                              : fmt::format("  {} {:>8.2f}", key, value.get<double>());
  fmt::print("{}\n", line);
}

// One op of 64 MiB inputs: `passes` is how many arrays of that size its data makes, read and written together.
void memory_op(const std::string& name, double passes, const std::function<void()>& op) {
  constexpr int64_t elements = int64_t{16} << 20;
  const Array from = Array::full({elements}, 1.0), into = Array::empty({elements});
  const bench::Pair pair = bench::in_turns(repeats, op, [&] { into.copy_from(from); });
  constexpr double array_bytes = 4.0 * static_cast<double>(elements);
  const double bandwidth = passes * array_bytes / pair.first * 1e-6, copy = 2 * array_bytes / pair.second * 1e-6;
  print({{"op", name},
         {"ms", pair.first},
         {"GB/s", bandwidth},
         {"copy GB/s", copy},
         {"share of copy", passes / 2 / pair.ratio}});
}

// The same for the backward pass of f(x), whose cotangent has f(x)'s shape.
void memory_backward(const std::string& name, double passes, const std::function<Tensor(const Tensor&)>& f,
                     const Shape& shape) {
  const Tensor x = Tensor(nn::Initializer(1).normal(shape, 1)).set_requires_grad();
  std::vector<Tensor> results;
  Array cotangent;
  for (int i = 0; i <= repeats; ++i) results.push_back(f(x));
  cotangent = nn::Initializer(2).normal(results[0].shape(), 1);
  memory_op(name, passes, [&] {
    results.back().backward(cotangent);
    results.pop_back();
    x.clear_grad();
  });
}

void memory_ops() {
  const NoGrad guard;
  nn::Initializer init(1);
  const Shape shape{16384, 1024}, half{16384, 512};
  const Tensor x(init.normal(shape, 1)), y(init.normal(shape, 1)), weight(Array::full({1024}, 1.0));
  const Tensor row(init.normal({1024}, 1)), column(init.normal({16384, 1}, 1));
  const Array targets = Array::zeros({16384}, {Dtype::i32});
  memory_op("add", 3, [&] { add(x, y); });
  memory_op("mul", 3, [&] { mul(x, y); });
  memory_op("div", 3, [&] { div(x, y); });
  memory_op("add, row broadcast", 2, [&] { add(x, row); });
  memory_op("mul, column broadcast", 2, [&] { mul(x, column); });
  memory_op("affine", 2, [&] { affine(x, 2, 1); });
  memory_op("exp", 2, [&] { exp(x); });
  memory_op("tanh", 2, [&] { tanh(x); });
  memory_op("sigmoid", 2, [&] { sigmoid(x); });
  memory_op("softplus", 2, [&] { softplus(x); });
  memory_op("relu", 2, [&] { relu(x); });
  memory_op("silu", 2, [&] { silu(x); });
  memory_op("gelu", 2, [&] { gelu(x); });
  memory_op("swiglu", 1.5, [&] { activate(x, Activation::swiglu); });
  memory_op("dropout", 2, [&] { dropout(x, 0.1, {1, 2, 3}); });
  memory_op("sum, last dimension", 1, [&] { sum(x, -1); });
  memory_op("sum, first dimension", 1, [&] { sum(x, 0); });
  memory_op("rms_norm", 2, [&] { rms_norm(x, weight); });
  memory_op("softmax", 2, [&] { softmax(x); });
  memory_op("log_softmax", 2, [&] { log_softmax(x); });
  memory_op("logsumexp", 1, [&] { logsumexp(x, -1); });
  memory_op("cross_entropy", 1, [&] { cross_entropy(x, targets); });
}

void memory_backwards() {
  const Shape shape{16384, 1024};
  const Tensor weight(Array::full({1024}, 1.0));
  memory_backward(
      "silu, backward", 3, [](const Tensor& x) { return silu(x); }, shape);
  memory_backward(
      "gelu, backward", 3, [](const Tensor& x) { return gelu(x); }, shape);
  memory_backward(
      "swiglu, backward", 2.5, [](const Tensor& x) { return activate(x, Activation::swiglu); }, shape);
  memory_backward(
      "rms_norm, backward", 3, [&](const Tensor& x) { return rms_norm(x, weight); }, shape);
  memory_backward(
      "softmax, backward", 3, [](const Tensor& x) { return softmax(x); }, shape);
  memory_backward(
      "log_softmax, backward", 3, [](const Tensor& x) { return log_softmax(x); }, shape);
}

struct Product {
  const char* name;
  int64_t m, k, n;
};

// c = op(a) op(b) by our seam and by one dnnl_sgemm call on all threads.
void matmul(const Product& p, bool transpose_a, bool transpose_b) {
  nn::Initializer init(1);
  const Array a = init.normal({p.m, p.k}, 1), b = init.normal({p.k, p.n}, 1), ours = Array::empty({p.m, p.n}),
              theirs = Array::empty({p.m, p.n});
  const int64_t lda = transpose_a ? p.m : p.k, ldb = transpose_b ? p.k : p.n;
  const auto run_ours = [&] {
    gemm(Device::cpu(), {.transpose_a = transpose_a,
                         .transpose_b = transpose_b,
                         .m = p.m,
                         .n = p.n,
                         .k = p.k,
                         .a = a.raw(),
                         .lda = lda,
                         .b = b.raw(),
                         .ldb = ldb,
                         .c = ours.raw(),
                         .ldc = p.n});
  };
  const auto run_theirs = [&] {
    dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', p.m, p.n, p.k, 1.0f, a.data<float>(), lda,
               b.data<float>(), ldb, 0.0f, theirs.data<float>(), p.n);
  };
  run_ours(), run_theirs();
  for (int64_t i = 0; i < ours.numel(); ++i)  // verify before timing
    check(std::abs(ours.data<float>()[i] - theirs.data<float>()[i]) < 1e-2, "bench_ops: {} differs at {}", p.name, i);
  const bench::Pair pair = bench::in_turns(repeats, run_ours, run_theirs);
  const double flops = 2.0 * static_cast<double>(p.m) * static_cast<double>(p.k) * static_cast<double>(p.n);
  print({{"op", fmt::format("matmul {} {}{}", p.name, transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N')},
         {"ms", pair.first},
         {"GFLOP/s", flops / pair.first * 1e-6},
         {"oneDNN", flops / pair.second * 1e-6},
         {"share of oneDNN", 1 / pair.ratio}});
}

void matmuls() {
  for (const Product& p : {Product{"512^3", 512, 512, 512},
                           {"1024^3", 1024, 1024, 1024},
                           {"2048^3", 2048, 2048, 2048},
                           {"4096x256x768", 4096, 256, 768},
                           {"2048x128x384", 2048, 128, 384},
                           {"4096x256x256", 4096, 256, 256},
                           {"256x4096x256", 256, 4096, 256},
                           {"128x128x128", 128, 128, 128}})
    for (const auto& [transpose_a, transpose_b] : {std::pair{false, false}, {false, true}, {true, false}})
      matmul(p, transpose_a, transpose_b);
}

// The ERC loss of one layer, forward and backward: its cost has no tokens in it.
void erc(int64_t experts, int64_t width, int64_t hidden) {
  nn::Initializer init(1);
  const double deviation = 1 / std::sqrt(static_cast<double>(width));
  const Tensor router = Tensor(init.normal({experts, width}, deviation)).set_requires_grad();
  const Tensor gate_up = Tensor(init.normal({experts, 2 * hidden, width}, deviation)).set_requires_grad();
  (sum(gate_up) + sum(router)).backward();  // the loss adds to gradients that are there, as in a training step
  std::vector<double> times;
  for (int i = 0; i <= 2 * repeats; ++i)
    times.push_back(bench::milliseconds([&] {
      const Array delta = moe::erc_noise(router.value(), {.seed = 1, .step = static_cast<uint32_t>(i)});
      moe::erc_loss(router, gate_up, hidden, delta, 1).backward();
    }));
  times.erase(times.begin());
  const double ms = bench::median(times), n = static_cast<double>(experts);
  const double flops = 6 * n * n * static_cast<double>(width * hidden);
  print({{"op", fmt::format("erc, {} experts, {} x {}", experts, width, hidden)},
         {"ms", ms},
         {"GFLOP/s", flops / ms * 1e-6}});
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"Ops against their floors: copy bandwidth and oneDNN's own matmul"};
  bool only_matmul = false, only_memory = false, only_erc = false;
  int thread_count = 0;
  app.add_option("--repeats", repeats, "timed pairs per row")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--threads", thread_count, "0: all");
  app.add_flag("--matmul", only_matmul, "only the products");
  app.add_flag("--memory", only_memory, "only the passes over memory");
  app.add_flag("--erc", only_erc, "only the ERC loss");
  app.add_flag("--json", json, "one JSON object per row");
  CLI11_PARSE(app, argc, argv);
  if (thread_count > 0) set_threads(thread_count);
  if (!only_matmul && !only_erc) memory_ops(), memory_backwards();
  if (!only_memory && !only_erc) matmuls();
  if (!only_memory && !only_matmul) erc(8, 128, 128), erc(16, 256, 256), erc(64, 256, 64);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
