// SPDX-License-Identifier: Apache-2.0
// The floor of a training step: how long its matmuls alone take when oneDNN's sgemm makes them, one by one, each in the
// fastest of its ways: one call on all threads, or calls on one thread each for the experts or for blocks of rows.
#include <dnnl.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/shapes.h"
#include "bench/timing.h"
#include "core/check.h"
#include "core/parallel.h"
#include "nn/init.h"

namespace {

using namespace moxie;

int repeats = 9;
bool json = false;

// `copies` products C [m, n] = op(A) [m, k] op(B) [k, n]; `weight` of them a step.
struct Product {
  std::string name;
  int64_t copies, m, n, k;
  bool transpose_a, transpose_b;
  double times;  // how often a step makes all copies
  double flops() const { return 2.0 * static_cast<double>(copies * m) * static_cast<double>(n * k); }
};

// Milliseconds of all copies: the least of a loop of calls on one thread each and of calls on all threads.
double fastest(const Product& p) {
  nn::Initializer init(1);
  const Array a = init.normal({p.copies, p.m, p.k}, 1), b = init.normal({p.copies, p.k, p.n}, 1),
              c = Array::empty({p.copies, p.m, p.n});
  const auto call = [&](int64_t i) {
    const dnnl_status_t status =
        dnnl_sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', p.m, p.n, p.k, 1.0f,
                   a.data<float>() + i * p.m * p.k, p.transpose_a ? p.m : p.k, b.data<float>() + i * p.k * p.n,
                   p.transpose_b ? p.k : p.n, 0.0f, c.data<float>() + i * p.m * p.n, p.n);
    check_internal(status == dnnl_success, "bench_floor: dnnl_sgemm failed");
  };
  const bench::Pair pair = bench::in_turns(
      repeats, [&] { parallel_for_uneven(p.copies, true, call); },
      [&] {
        for (int64_t i = 0; i < p.copies; ++i) call(i);
      });
  return std::min(pair.first, pair.second);
}

// y [rows, out] = x [rows, in] W^T in `copies` blocks of rows, and its two gradients, `layers` times a step.
void add_linear(std::vector<Product>& all, const std::string& name, int64_t copies, int64_t rows, int64_t in,
                int64_t out, int64_t layers) {
  const auto times = static_cast<double>(layers);
  all.push_back({name, copies, rows, out, in, false, true, times});
  all.push_back({name + " dx", copies, rows, in, out, false, false, times});
  all.push_back({name + " dW", copies, out, in, rows, true, false, times});
}

std::vector<Product> products_of(const bench::ModelShape& s) {
  constexpr int64_t block = 512;
  const int64_t tokens = s.batch * s.time, blocks = std::max<int64_t>(1, tokens / block), rows = tokens / blocks;
  std::vector<Product> all;
  add_linear(all, "qkv", blocks, rows, s.width, 3 * s.width, s.layers);
  add_linear(all, "output", blocks, rows, s.width, s.width, s.layers);
  if (s.dense) {
    add_linear(all, "up", blocks, rows, s.width, 2 * s.hidden * s.top_k, s.layers);
    add_linear(all, "down", blocks, rows, s.hidden * s.top_k, s.width, s.layers);
  } else {
    const int64_t load = tokens * s.top_k / s.experts;
    add_linear(all, "router", blocks, rows, s.width, s.experts, s.layers);
    add_linear(all, "experts up", s.experts, load, s.width, 2 * s.hidden, s.layers);
    add_linear(all, "experts down", s.experts, load, s.hidden, s.width, s.layers);
  }
  add_linear(all, "head", blocks, rows, s.width, 256, 1);
  // Scores, values, and twice as much in the backward pass; the causal half.
  const int64_t heads = s.batch * s.heads, head_dim = s.width / s.heads;
  const double halves = 0.5 * static_cast<double>(s.layers);
  all.push_back({"attention q k^T", heads, s.time, s.time, head_dim, false, true, 2 * halves});
  all.push_back({"attention p v", heads, s.time, head_dim, s.time, false, false, 2 * halves});
  all.push_back({"attention p^T dy", heads, s.time, head_dim, s.time, true, false, 2 * halves});
  return all;
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"How long the matmuls of a training step take by oneDNN alone"};
  std::string shape = "tiny";
  int64_t batch = 0;
  int thread_count = 0;
  app.add_option("--shape", shape, bench::shape_names())->capture_default_str();
  app.add_option("--batch", batch, "sequences per step; 0: the shape's own");
  app.add_option("--repeats", repeats, "timed pairs per row")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--threads", thread_count, "0: all");
  app.add_flag("--json", json, "one JSON object per row");
  CLI11_PARSE(app, argc, argv);
  if (thread_count > 0) set_threads(thread_count);
  double total_ms = 0, total_flops = 0;
  for (const Product& p : products_of(bench::shape_named(shape, batch))) {
    const double ms = fastest(p), rate = p.flops() / ms * 1e-6;
    total_ms += ms * p.times;
    total_flops += p.flops() * p.times;
    if (json) {
      const nlohmann::ordered_json row{{"product", p.name}, {"ms_of_step", ms * p.times}, {"gflops", rate}};
      fmt::print("{}\n", row.dump());
    } else {
      fmt::print("{:<20} {:>4} x {:>5} x {:>4} x {:>5} {}{}  {:>7.2f} ms of the step  {:>6.1f} GFLOP/s\n", p.name,
                 p.copies, p.m, p.k, p.n, p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', ms * p.times, rate);
    }
  }
  if (json) {
    const nlohmann::ordered_json row{
        {"shape", shape}, {"floor_ms", total_ms}, {"gflop", total_flops * 1e-9}, {"threads", threads()}};
    fmt::print("{}\n", row.dump());
  } else {
    fmt::print("{}: {:.1f} ms for {:.1f} GFLOP\n", shape, total_ms, total_flops * 1e-9);
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "error: {}\n", error.what());
  return 1;
}
