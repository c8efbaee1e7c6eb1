// SPDX-License-Identifier: Apache-2.0
// autograd/describe.h and autograd/memory_report.h: what a graph looks like and what it holds.
#include "autograd/describe.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "autograd/memory_report.h"
#include "autograd/ops.h"
#include "autograd/record.h"
#include "tests/device.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

Tensor leaf(const Shape& shape, const char* name) {
  return Tensor::full(shape, 0.5).set_requires_grad().set_name(name);
}

const MemoryReport::Row& row(const MemoryReport& report, const std::string& op) {
  for (const MemoryReport::Row& one : report.rows)
    if (one.op == op) return one;
  throw std::runtime_error("no row " + op);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("describe: every node once, in order, with shapes, inputs and saved bytes") {
  const Tensor w = leaf({8, 16}, "up.weight"), b = leaf({8}, "up.bias"), x = Tensor::full({4, 16}, 0.25);
  const Tensor h = relu(linear(x, w, b));
  const Tensor loss = mean(h * h);
  const std::string text = describe(loss);
  CHECK(text ==
        "#  op      output       inputs                        saved\n"
        "1  leaf    f32 [8, 16]  'up.weight'\n"
        "2  leaf    f32 [8]      'up.bias'\n"
        "3  linear  f32 [4, 8]   constant f32 [4, 16], #1, #2  768 B\n"
        "4  relu    f32 [4, 8]   #3                            128 B\n"
        "5  mul     f32 [4, 8]   #4, #4                        128 B\n"
        "6  mean    f32 []       #5\n"
        "4 ops, 2 leaves; backward keeps 1.0 KiB\n");
  CHECK(describe(loss) == text);  // nothing is used up
  loss.backward();
  CHECK(describe(loss) ==
        "#  op    output  inputs               saved\n"
        "1  mean  f32 []  used up by backward\n"
        "1 ops, 0 leaves; backward keeps 0 B\n");
  CHECK(describe(x) == "constant f32 [4, 16]: no graph\n");
  CHECK(describe(Tensor()) == "undefined: no graph\n");
}

TEST_CASE("describe: several outputs, absent inputs, and a parameter's bf16 copy") {
  const Tensor x = leaf({2}, "x");
  const std::vector<Tensor> inputs{x, Tensor(), Tensor(x.value().to(Dtype::bf16), x.node(), 0)};
  const std::vector<Tensor> both = record("split", {Array::zeros({2}), Array::zeros({3})}, inputs, [](auto, Grads&) {});
  const std::string text = describe(both[1] * 2.0);
  CHECK(contains(text, "2  split   f32 [2], f32 [3]  #1, none, #1 as bf16"));
  CHECK(contains(text, "3  affine  f32 [3]           #2.1"));
}

TEST_CASE("describe_dot: a digraph with every node and edge") {
  const Tensor w = leaf({2}, "a \"quoted\" name"), x = Tensor::full({2}, 0.25);
  CHECK(describe_dot(w * x) ==
        "digraph moxie {\n  rankdir=TB;\n  node [fontname=\"Helvetica\", fontsize=11, shape=box, style=rounded];\n"
        "  edge [fontname=\"Helvetica\", fontsize=9];\n"
        "  n1 [label=\"a \\\"quoted\\\" name\\nf32 [2]\", shape=ellipse];\n"
        "  n2 [label=\"mul\\nf32 [2]\\nkeeps 16 B\"];\n"
        "  n1 -> n2 [label=\"f32 [2]\"];\n"
        "  c2_1 [label=\"constant\\nf32 [2]\", style=dashed];\n"
        "  c2_1 -> n2 [style=dashed];\n"
        "}\n");
  CHECK(contains(describe_dot(x), "constant [label=\"constant\\nf32 [2]\", style=dashed];"));
  CHECK(contains(describe_dot(Tensor()), "constant [label=\"undefined\""));
  const Tensor y = sum(w);
  y.backward();
  CHECK(contains(describe_dot(y), "n1 [label=\"sum\\nf32 []\\nused up by backward\"];"));
}

TEST_CASE("text_of_bytes") {
  CHECK(text_of_bytes(0) == "0 B");
  CHECK(text_of_bytes(1023) == "1023 B");
  CHECK(text_of_bytes(1024) == "1.0 KiB");
  CHECK(text_of_bytes(1536) == "1.5 KiB");
  CHECK(text_of_bytes(1024 * 1024 - 1) == "1.0 MiB");
  CHECK(text_of_bytes(int64_t{3} << 40) == "3.0 TiB");
}

TEST_CASE("memory_report: every byte once, for the op that made it") {
  const int64_t before = cpu_memory().live_bytes;
  const Tensor w = leaf({256, 256}, "w"), x = Tensor::full({256, 256}, 0.25);
  const int64_t matrix = 256 * 256 * 4;
  Tensor h = moxie::tanh(reshape(matmul(x, w), {256 * 256}));
  const Tensor loss = sum(h * h);
  h = {};
  reset_peak_memory();
  MemoryReport report = memory_report(loss);
  CHECK(row(report, "leaf").count == 1);
  CHECK(row(report, "leaf").bytes() == matrix);
  CHECK(row(report, "constant").bytes() == matrix);   // x, which matmul keeps
  CHECK(row(report, "tanh").output_bytes == matrix);  // kept by its own rule and by mul's
  CHECK(row(report, "tanh").rule_bytes == 0);
  CHECK(row(report, "matmul").bytes() == 0);  // nobody needs its result
  CHECK(row(report, "reshape").bytes() == 0);
  CHECK(row(report, "mul").bytes() == 0);
  CHECK(row(report, "sum").bytes() == 64);  // the loss, which the test holds
  CHECK(report.rows[0].bytes() == matrix);
  CHECK(report.graph_bytes == 3 * matrix + 64);
  CHECK(report.gradient_bytes == 0);
  CHECK(report.other_bytes == before);
  CHECK(report.live_bytes == cpu_memory().live_bytes);
  CHECK(report.peak_bytes == report.live_bytes);
  loss.backward();
  report = memory_report(loss);
  CHECK(report.graph_bytes == 64);
  CHECK(report.other_bytes == before + 3 * matrix);  // w, x and w's gradient: the graph is gone
  const Tensor again = sum(w);
  report = memory_report(again);
  CHECK(report.gradient_bytes == matrix);
  CHECK(report.graph_bytes == matrix + 64);
}

TEST_CASE("memory_report: statistics of a rule, a bf16 copy, and outputs that the caller holds") {
  const Tensor x = leaf({1024, 64}, "x"), w = leaf({64}, "w");
  const Tensor y = rms_norm(x, w);
  MemoryReport report = memory_report(y);
  CHECK(row(report, "rms_norm").rule_bytes == 4096);  // one f32 for each row
  CHECK(row(report, "rms_norm").output_bytes == 1024 * 64 * 4);
  const Array copy = x.value().to(Dtype::bf16);
  const Tensor z = Tensor(copy, x.node(), 0) * Tensor(copy, x.node(), 0);
  report = memory_report(z);
  CHECK(row(report, "leaf").output_bytes == 1024 * 64 * (4 + 2));
  CHECK(memory_report(Tensor()).graph_bytes == 0);
}

TEST_CASE("memory_report: prints a table") {
  const Tensor w = leaf({512, 512}, "w");
  const Tensor y = sum(moxie::exp(w));
  const MemoryReport report = memory_report(y);
  const std::string text = fmt::format("{}", report);
  CHECK(contains(text, "op          count     outputs    in rules       total   share\n"));
  CHECK(contains(text, "leaf            1     1.0 MiB         0 B     1.0 MiB"));
  CHECK(contains(text, "exp             1     1.0 MiB         0 B     1.0 MiB"));
  for (const char* name : {"\ngraph ", "\ngradients ", "\nother ", "\nlive ", "\npeak "}) CHECK(contains(text, name));
  CHECK(text == report.to_string());
}

DEVICE_TEST_CASE("memory_report: what lies on the device of the graph") {
  const Options options{Dtype::f32, current_device()};
  const int64_t before = memory_of(options.device).live_bytes;
  const Tensor x = Tensor::full({64, 64}, 1, options).set_requires_grad();
  const Tensor elsewhere = Tensor::full({1000}, 1);  // on the CPU
  const MemoryReport report = memory_report(silu(x));
  CHECK(report.graph_bytes == 2 * 64 * 64 * 4);
  if (options.device.is_cuda()) CHECK(report.other_bytes == before);
  CHECK(report.live_bytes == memory_of(options.device).live_bytes + 64 * 64 * 4);  // the result of silu, which is gone
}
