// SPDX-License-Identifier: Apache-2.0
// What passes over memory on a GPU, against a copy of the same size: kernels of one pass should reach 80% of it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "autograd/ops.h"
#include "bench/timing.h"
#include "core/cuda.h"
#include "moe/choose.h"
#include "moe/routing.h"
#include "nn/init.h"

namespace {

using namespace moxie;

int repeats = 5;
bool json = false;
const Device gpu = Device::cuda();
double copy_bandwidth = 0;  // GB/s, bytes read and written

// Milliseconds that one of several calls takes, which follow each other without waiting.
double milliseconds_each(const std::function<void()>& f) {
  constexpr int calls = 20;
  f();
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    cuda::synchronize(0);
    times.push_back(bench::milliseconds([&] {
      for (int call = 0; call < calls; ++call) f();
      cuda::synchronize(0);
    }));
  }
  return bench::median(times) / calls;
}

void row(const std::string& name, Dtype dtype, double bytes, const std::function<void()>& op) {
  const double ms = milliseconds_each(op), bandwidth = bytes / ms * 1e-6;
  if (json) {
    const nlohmann::ordered_json line{{"op", name},
                                      {"dtype", name_of(dtype)},
                                      {"us", ms * 1000},
                                      {"GB/s", bandwidth},
                                      {"share of copy", bandwidth / copy_bandwidth}};
    return fmt::print("{}\n", line.dump());
  }
  fmt::print("{:<28} {:<5} {:>9.1f} us {:>8.0f} GB/s {:>6.2f} of copy\n", name, name_of(dtype), ms * 1000, bandwidth,
             bandwidth / copy_bandwidth);
}

void ops(Dtype dtype, int64_t rows, int64_t cols) {
  const Shape shape{rows, cols};
  const double array = static_cast<double>(shape.numel() * size_of(dtype));
  const Options statistics{statistics_dtype(dtype), gpu};
  nn::Initializer init(1);
  const auto random = [&](const Shape& size) { return Tensor(init.normal(size, 1).to(dtype).to(gpu)); };
  const Tensor x = random(shape), y = random(shape), bias = random({cols});
  const Tensor weight(Array::full({cols}, 1, statistics));
  const Array targets = Array::zeros({rows}, {Dtype::i32, gpu}), into = Array::empty(shape, x.value().options());
  copy_bandwidth = 2 * array / milliseconds_each([&] { into.copy_from(x.value()); }) * 1e-6;
  if (!json) fmt::print("\n{} x {} {}: a copy moves {:.0f} GB/s\n", rows, cols, name_of(dtype), copy_bandwidth);
  {
    const NoGrad guard;
    row("add", dtype, 3 * array, [&] { add(x, y); });
    row("add, row broadcast", dtype, 2 * array, [&] { add(x, bias); });
    row("silu", dtype, 2 * array, [&] { silu(x); });
    row("gelu", dtype, 2 * array, [&] { gelu(x); });
    row("swiglu", dtype, 1.5 * array, [&] { activate(x, Activation::swiglu); });
    row("dropout", dtype, 2 * array, [&] { dropout(x, 0.1, {1, 2, 3}); });
    row("cast to the other dtype", dtype, dtype == Dtype::f32 ? 1.5 * array : 3 * array,
        [&] { x.value().to(dtype == Dtype::f32 ? Dtype::bf16 : Dtype::f32); });
    row("rms_norm", dtype, 2 * array, [&] { rms_norm(x, weight); });
    row("add_rms_norm", dtype, 4 * array, [&] { add_rms_norm(x, y, weight); });
    row("softmax", dtype, 2 * array, [&] { softmax(x); });
    row("cross_entropy", dtype, array, [&] { cross_entropy(x, targets); });
    row("sum, last dimension", dtype, array, [&] { sum(x, -1); });
    row("sum, first dimension", dtype, array, [&] { sum(x, 0); });
    row("sum of all", dtype, array, [&] { sum(x); });
    row("transpose", dtype, 2 * array, [&] { transpose(x, 0, 1); });
    constexpr int64_t time = 1024, head_dim = 64;
    const Tensor heads = reshape(x, {rows / time, time, cols / head_dim, head_dim});
    row("rope", dtype, 2 * array, [&] { rope(heads, cols / head_dim, 0, 10000); });
  }
  // two experts a token: as many rows as x has, each read or written once
  constexpr int64_t experts = 16, top_k = 2;
  const Tensor scores(nn::Initializer(2).normal({rows / top_k, experts}, 1).to(gpu));
  const moe::Routing routing = moe::make_routing(scores, moe::choose_experts(scores, scores, {}, top_k, false));
  {
    const NoGrad guard;
    const Tensor tokens = slice(x, 0, 0, rows / top_k);
    row("dispatch", dtype, 1.5 * array, [&] { moe::dispatch(tokens, routing); });
    row("combine", dtype, 1.5 * array, [&] { moe::combine(x, routing); });
  }
  const auto backward = [&](const std::string& name, double passes, const std::function<Tensor(const Tensor&)>& f) {
    const Tensor leaf = Tensor(x.value()).set_requires_grad();
    const double forward = milliseconds_each([&] { f(leaf); });
    const Tensor result = f(leaf);
    const Array cotangent = random(result.shape()).value();
    const double both = milliseconds_each([&] {
      f(leaf).backward(cotangent);
      leaf.clear_grad();
    });
    const double ms = both - forward, bandwidth = passes * array / ms * 1e-6;
    if (!json)
      fmt::print("{:<28} {:<5} {:>9.1f} us {:>8.0f} GB/s {:>6.2f} of copy\n", name, name_of(dtype), ms * 1000,
                 bandwidth, bandwidth / copy_bandwidth);
  };
  backward("silu, backward", 3, [](const Tensor& t) { return silu(t); });
  backward("rms_norm, backward", 3, [&](const Tensor& t) { return rms_norm(t, weight); });
  const Tensor learned = Tensor(weight.value()).set_requires_grad();
  backward("rms_norm, and its weight", 3, [&](const Tensor& t) { return rms_norm(t, learned); });
  backward("combine, backward", 1.5, [&](const Tensor& t) { return moe::combine(t, routing); });
  backward("softmax, backward", 3, [](const Tensor& t) { return softmax(t); });
}

// A bias added where the matmul stores, against a pass of its own.
void biases(int64_t rows, int64_t in, int64_t out) {
  const NoGrad guard;
  nn::Initializer init(1);
  const auto random = [&](const Shape& size) { return Tensor(init.normal(size, 1).to(Dtype::bf16).to(gpu)); };
  const Tensor x = random({rows, in}), weight = random({out, in}), bias = random({out});
  const double none = milliseconds_each([&] { linear(x, weight); });
  const double within = milliseconds_each([&] { linear(x, weight, bias); });
  const double apart = milliseconds_each([&] { add(linear(x, weight), bias); });
  const std::string name = fmt::format("linear {} x {} -> {}", rows, in, out);
  if (json) {
    const nlohmann::ordered_json line{{"op", name},
                                      {"dtype", "bf16"},
                                      {"us", none * 1000},
                                      {"with bias us", within * 1000},
                                      {"and add us", apart * 1000}};
    return fmt::print("{}\n", line.dump());
  }
  fmt::print("{:<28} bf16  {:>9.1f} us, with bias {:.1f}, bias in a pass of its own {:.1f}\n", name, none * 1000,
             within * 1000, apart * 1000);
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"What passes over memory on a GPU, against a copy"};
  app.add_option("--repeats", repeats, "timed rounds per row")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_flag("--json", json, "one JSON object per row");
  CLI11_PARSE(app, argc, argv);
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    for (const auto& [rows, cols] : {std::pair{65536, 1024}, {16384, 4096}, {8192, 768}}) ops(dtype, rows, cols);
  for (const auto& [in, out] : {std::pair{768, 768}, {768, 3072}, {4096, 4096}}) biases(16384, in, out);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
