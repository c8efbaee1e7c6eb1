// SPDX-License-Identifier: Apache-2.0
// One MoE layer on a GPU in bf16, forward and backward: TFLOP/s by 6 T K d n and 12 T K d n (three matmuls of the
// SwiGLU FFN, and twice that), at the shapes at which MoE kernels are compared. `layer` has the router, `experts`
// begins with a routing. bench/gpu_layer_torch.py runs the same layer in PyTorch.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "autograd/ops.h"
#include "bench/timing.h"
#include "core/cuda.h"
#include "core/gemm.h"
#include "core/storage.h"
#include "moe/layer.h"
#include "nn/train/device.h"

namespace {

using namespace moxie;

struct LayerShape {
  int64_t tokens, width, hidden, experts, top_k;
  double flops() const {
    return 6.0 * static_cast<double>(tokens) * static_cast<double>(top_k) * static_cast<double>(width) *
           static_cast<double>(hidden);
  }
};

const std::vector<LayerShape> all_shapes = {
    {40960, 768, 256, 128, 8},  {40960, 768, 512, 64, 4},   {40960, 768, 1024, 32, 2}, {24576, 1536, 256, 128, 8},
    {24576, 1536, 1024, 32, 2}, {32768, 4096, 512, 128, 8}, {32768, 4096, 2048, 64, 4}};

Array normal(const Shape& shape, uint64_t seed, double deviation, Device device, Dtype dtype) {
  return nn::Initializer(seed, device).normal(shape, deviation).to(dtype);
}

// Each token's experts are different ones, all of them equally likely.
Array random_choice(const LayerShape& shape, Device device) {
  std::mt19937 random(1);
  std::vector<int32_t> order(static_cast<size_t>(shape.experts)), picks;
  for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<int32_t>(e);
  for (int64_t t = 0; t < shape.tokens; ++t) {
    for (size_t k = 0; k < static_cast<size_t>(shape.top_k); ++k) {
      std::swap(order[k], order[k + random() % (order.size() - k)]);
      picks.push_back(order[k]);
    }
  }
  return Array::from(picks, {shape.tokens, shape.top_k}, device);
}

struct Bench {
  LayerShape shape;
  Device device;
  moe::MoeLayer layer;
  Tensor x;
  Array dy;
  nn::Context context{.training = true, .dtype = Dtype::bf16};

  static moe::MoeLayer make_layer(const LayerShape& s, Device device) {
    nn::Initializer init(2, device);
    return {s.width,
            {.router = {.kind = moe::RouterKind::linear, .experts = s.experts, .top_k = s.top_k, .bias = false},
             .hidden = s.hidden},
            init};
  }
  Bench(const LayerShape& s, Device where)
      : shape(s),
        device(where),
        layer(make_layer(s, where)),
        x(Tensor(normal({s.tokens, s.width}, 3, 1, where, Dtype::bf16)).set_requires_grad()),
        dy(normal({s.tokens, s.width}, 4, 1, where, Dtype::bf16)) {}

  moe::Routing routing() const {
    const Array chosen = random_choice(shape, device);
    const Tensor weights =
        Tensor(Array::full({shape.tokens, shape.top_k}, 1.0 / static_cast<double>(shape.top_k), {Dtype::f32, device}))
            .set_requires_grad();
    const Tensor scores(Array::full({shape.tokens, shape.experts}, 0, {Dtype::f32, device}));
    return moe::make_routing(scores, weights, chosen, shape.experts);
  }
};

double distance(const Array& got, const Array& wanted) {
  const std::vector<double> x = got.to(Device::cpu()).to_vector<double>(),
                            y = wanted.to(Device::cpu()).to_vector<double>();
  double difference = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    difference += (x[i] - y[i]) * (x[i] - y[i]);
    size += y[i] * y[i];
  }
  return std::sqrt(difference / size);
}

// Experts of a small layer with these sizes of tiles in bf16, against f32 on the CPU.
void verify(Device device) {
  const LayerShape shape{600, 192, 320, 5, 2};
  Bench fast(shape, device), exact(shape, Device::cpu());
  for (const auto member : {&moe::Experts::gate_up, &moe::Experts::down}) {
    nn::Parameter &ours = fast.layer.experts.*member, &theirs = exact.layer.experts.*member;
    theirs.set_value(ours.value().to(Dtype::bf16).to(Dtype::f32).to(Device::cpu()));
    ours.set_value(theirs.value().to(device));
  }
  exact.x = Tensor(fast.x.value().to(Dtype::f32).to(Device::cpu())).set_requires_grad();
  exact.dy = fast.dy.to(Dtype::f32).to(Device::cpu());
  exact.context.dtype = Dtype::f32;
  std::vector<Array> results[2];
  for (Bench* bench : {&fast, &exact}) {
    const moe::Routing routing = bench->routing();
    const Tensor y = bench->layer.experts.combined(bench->x, routing, bench->context);
    y.backward(bench->dy);
    results[bench == &exact] = {y.value(), bench->x.grad(), bench->layer.experts.gate_up.grad(),
                                bench->layer.experts.down.grad(), routing.weights.grad()};
  }
  const char* names[] = {"y", "dx", "dgate_up", "ddown", "dweights"};
  for (size_t i = 0; i < std::size(names); ++i) {
    const double error = distance(results[0][i], results[1][i]);
    check(error < 1.5e-2, "gpu_layer: {} differs from the CPU's by {:.2g} of its size", names[i], error);
  }
}

struct Timer {
  Device device;
  int rounds;

  void synchronize() const {
#ifdef MOXIE_CUDA
    if (device.is_cuda()) cuda::synchronize(device.index);
#endif
  }
  // Milliseconds of one call: the median of rounds of several calls, between two waits for the device.
  template <class F> double operator()(F&& f) const {
    f(), f();
    std::vector<double> times;
    constexpr int calls = 5;
    for (int i = 0; i < rounds; ++i) {
      synchronize();
      times.push_back(bench::milliseconds([&] {
                        for (int call = 0; call < calls; ++call) f();
                        synchronize();
                      }) /
                      calls);
    }
    return bench::median(times);
  }
};

// What the device reaches: TFLOP/s of a large matmul in bf16 and GB/s of a copy, bytes read and written.
nlohmann::ordered_json ceilings(const Timer& timer) {
  constexpr int64_t n = 8192;
  const Array a = normal({n, n}, 5, 1, timer.device, Dtype::bf16), b = normal({n, n}, 6, 1, timer.device, Dtype::bf16);
  const Array c = Array::empty({n, n}, a.options());
  const Gemm product{.dtype = Dtype::bf16,
                     .out_dtype = Dtype::bf16,
                     .transpose_b = true,
                     .m = n,
                     .n = n,
                     .k = n,
                     .a = a.raw(),
                     .lda = n,
                     .b = b.raw(),
                     .ldb = n,
                     .c = c.raw(),
                     .ldc = n};
  const double matmul = timer([&] { gemm(timer.device, product); });
  const Array from = Array::full({int64_t{1} << 28}, 1, {Dtype::f32, timer.device});
  const Array into = Array::empty(from.shape(), from.options());
  const double copy = timer([&] { into.copy_from(from); });
  return {{"matmul_tflops", 2.0 * n * n * n / matmul * 1e-9},
          {"copy_gb_s", 2.0 * 4 * (int64_t{1} << 28) / copy * 1e-6}};
}

nlohmann::ordered_json time_shape(const LayerShape& shape, const Timer& timer) {
  Bench bench(shape, timer.device);
  const moe::Routing routing = bench.routing();
  const auto layer = [&] { return bench.layer(bench.x, bench.context).y; };
  const auto experts = [&] { return bench.layer.experts.combined(bench.x, routing, bench.context); };
  nlohmann::ordered_json result{{"tokens", shape.tokens},
                                {"width", shape.width},
                                {"hidden", shape.hidden},
                                {"experts", shape.experts},
                                {"top_k", shape.top_k}};
  const auto add = [&](const char* name, const auto& forward) {
    const double ms = timer([&] { forward(); });
    const double both = timer([&] {
      bench.x.clear_grad();
      nn::clear_grads(bench.layer);
      forward().backward(bench.dy);
    });
    const std::string key = name;
    result[key + "_forward_ms"] = ms;
    result[key + "_backward_ms"] = both - ms;
    result[key + "_forward_tflops"] = shape.flops() / ms * 1e-9;
    result[key + "_backward_tflops"] = 2 * shape.flops() / (both - ms) * 1e-9;
  };
  add("experts", experts);
  add("layer", layer);
  result["peak_gb"] = static_cast<double>(memory_of(timer.device).peak_bytes) * 1e-9;
  return result;
}

void print_row(const nlohmann::ordered_json& r) {
  const auto number = [&](const char* key) { return r[key].get<double>(); };
  const auto count = [&](const char* key) { return r[key].get<int64_t>(); };
  fmt::print(
      "{:>6} {:>5} {:>5} {:>4} {:>3}  {:>8.3f} {:>4.0f} {:>8.3f} {:>4.0f}  {:>8.3f} {:>4.0f} {:>8.3f} {:>4.0f}\n",
      count("tokens"), count("width"), count("hidden"), count("experts"), count("top_k"), number("experts_forward_ms"),
      number("experts_forward_tflops"), number("experts_backward_ms"), number("experts_backward_tflops"),
      number("layer_forward_ms"), number("layer_forward_tflops"), number("layer_backward_ms"),
      number("layer_backward_tflops"));
}

}  // namespace

int main(int argc, char** argv) try {
  std::string device_name = "cuda";
  int rounds = 7;
  bool json = false, unverified = false, short_list = false;
  std::vector<int64_t> sizes;
  CLI::App app{"Times one MoE layer on a GPU"};
  app.add_option("--device", device_name, "cuda or cuda:N")->capture_default_str();
  app.add_option("--rounds", rounds, "timed rounds of 5 calls")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--shape", sizes, "tokens width hidden experts top_k, instead of the list")->expected(5);
  app.add_flag("--short", short_list, "the first, third and last shape only");
  app.add_flag("--unverified", unverified, "don't compare a small layer with the CPU first");
  app.add_flag("--json", json, "one JSON object per line instead of a table");
  CLI11_PARSE(app, argc, argv);
  const Device device = train::device_from_name(device_name);
  if (!unverified) verify(device);
  const Timer timer{device, rounds};
  const nlohmann::ordered_json reached = ceilings(timer);
  std::vector<LayerShape> shapes = all_shapes;
  if (short_list) shapes = {all_shapes[0], all_shapes[2], all_shapes.back()};
  if (!sizes.empty()) shapes = {{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]}};
  if (json)
    fmt::print("{}\n", reached.dump());
  else
    fmt::print(
        "matmul {:.0f} TFLOP/s, copy {:.0f} GB/s\n{:>28}{:>14}{:>15}{:>13}{:>13}\n{:>6} {:>5} {:>5} {:>4} {:>3}  "
        "{:>8} {:>4} {:>8} {:>4}  {:>8} {:>4} {:>8} {:>4}\n",
        reached["matmul_tflops"].get<double>(), reached["copy_gb_s"].get<double>(), "", "experts: fwd", "bwd",
        "layer: fwd", "bwd", "T", "d", "n", "E", "K", "ms", "TF/s", "ms", "TF/s", "ms", "TF/s", "ms", "TF/s");
  for (const LayerShape& shape : shapes) {
    const nlohmann::ordered_json result = time_shape(shape, timer);
    if (json)
      fmt::print("{}\n", result.dump());
    else
      print_row(result);
    std::fflush(stdout);
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
