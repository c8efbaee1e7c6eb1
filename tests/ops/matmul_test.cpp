// SPDX-License-Identifier: Apache-2.0
// autograd/ops.h: matmul, linear and grouped_matmul.
#include <doctest/doctest.h>

#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

struct Sizes {
  int64_t m, k, n;
};

const std::vector<Sizes> sizes = {{1, 1, 1},    {2, 3, 4},    {0, 3, 2},    {3, 0, 2},    {3, 2, 0},
                                  {1, 5, 1},    {7, 1, 5},    {31, 33, 32}, {33, 31, 33}, {1, 1025, 3},
                                  {1023, 2, 5}, {5, 3, 1025}, {70, 130, 90}};

// op(x) op(y) of `batch` matrices; y_step 0 where all share one y.
Numbers product(const Numbers& x, const Numbers& y, const Shape& shape, int64_t k, MatmulOptions options, bool shared) {
  Numbers z(shape);
  const int64_t m = shape[-2], n = shape[-1], batch = shape.product(0, shape.rank() - 2);
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double total = 0;
        for (int64_t l = 0; l < k; ++l) {
          const int64_t at_x = b * m * k + (options.transpose_x ? l * m + i : i * k + l);
          const int64_t at_y = (shared ? 0 : b * k * n) + (options.transpose_y ? j * k + l : l * n + j);
          total += x[at_x] * y[at_y];
        }
        z[(b * m + i) * n + j] = total;
      }
  return z;
}

Shape matrices(const std::vector<int64_t>& leading, int64_t rows, int64_t cols) {
  std::vector<int64_t> all = leading;
  all.push_back(rows);
  all.push_back(cols);
  return Shape(std::span<const int64_t>(all));
}

void run_matmul(const std::vector<int64_t>& leading, Sizes s, MatmulOptions options, bool shared) {
  const Shape x = options.transpose_x ? matrices(leading, s.k, s.m) : matrices(leading, s.m, s.k);
  const std::vector<int64_t> y_leading = shared ? std::vector<int64_t>{} : leading;
  const Shape y = options.transpose_y ? matrices(y_leading, s.n, s.k) : matrices(y_leading, s.k, s.n);
  const Shape z = matrices(leading, s.m, s.n);
  run({.covers = "matmul(Tensor, Tensor, MatmulOptions)",
       .name = std::string(options.transpose_x ? "x transposed " : "") + (options.transpose_y ? "y transposed " : "") +
               (shared ? "y shared" : ""),
       .function = [=](std::span<const Tensor> in) { return matmul(in[0], in[1], options); },
       .reference = [=](std::span<const Numbers> in) { return product(in[0], in[1], z, s.k, options, shared); },
       .inputs = {{x}, {y}}});
}

}  // namespace

TEST_CASE("matmul: matrices") {
  for (const bool transpose_x : {false, true})
    for (const bool transpose_y : {false, true})
      for (const Sizes& s : sizes) run_matmul({}, s, {transpose_x, transpose_y}, true);
}

TEST_CASE("matmul: batches") {
  for (const bool transpose_x : {false, true})
    for (const bool transpose_y : {false, true})
      for (const bool shared : {false, true}) {
        for (const std::vector<int64_t>& leading : {std::vector<int64_t>{1}, {0}, {3}, {2, 0}, {2, 3}, {1, 1, 2}})
          run_matmul(leading, {2, 3, 4}, {transpose_x, transpose_y}, shared);
        run_matmul({2}, {0, 3, 4}, {transpose_x, transpose_y}, shared);
        run_matmul({2}, {2, 0, 4}, {transpose_x, transpose_y}, shared);
        run_matmul({2}, {33, 31, 5}, {transpose_x, transpose_y}, shared);
        run_matmul({33}, {4, 32, 17}, {transpose_x, transpose_y}, shared);
      }
}

TEST_CASE("linear") {
  for (const std::vector<int64_t>& leading : {std::vector<int64_t>{}, {1}, {0}, {5}, {2, 3}})
    for (const Sizes& s : sizes)
      for (const bool bias : {false, true}) {
        if (leading.size() != 1 && s.m * s.k * s.n > 100) continue;
        std::vector<int64_t> x = leading, y = leading;
        if (leading.size() == 1 && leading[0] == 5) x[0] = y[0] = s.m;
        x.push_back(s.k), y.push_back(s.n);
        const Shape x_shape{std::span<const int64_t>(x)}, y_shape{std::span<const int64_t>(y)};
        std::vector<Input> inputs{{x_shape}, {{s.n, s.k}}};
        if (bias) inputs.push_back({{s.n}});
        run({.covers = "linear(Tensor, Tensor, Tensor)",
             .name = bias ? "with bias" : "without bias",
             .function = [=](std::span<const Tensor> in) { return linear(in[0], in[1], bias ? in[2] : Tensor()); },
             .reference =
                 [=](std::span<const Numbers> in) {
                   const int64_t rows = x_shape.rows();
                   Numbers result = product(in[0], in[1], {rows, s.n}, s.k, {.transpose_y = true}, true);
                   for (int64_t i = 0; bias && i < rows * s.n; ++i) result[i] += in[2][i % s.n];
                   result.shape = y_shape;
                   return result;
                 },
             .inputs = inputs});
      }
}

TEST_CASE("grouped_matmul") {
  struct Case {
    std::vector<int32_t> offsets;
    int64_t out, in;
  };
  for (const Case& c :
       {Case{{0, 2, 5}, 3, 4}, Case{{0, 0, 3, 3, 3, 5, 5}, 2, 3}, Case{{0, 4}, 3, 2}, Case{{0, 0, 0}, 3, 4},
        Case{{0}, 3, 4}, Case{{0, 1, 1, 2}, 1, 1}, Case{{0, 2, 3}, 0, 4}, Case{{0, 2, 3}, 4, 0},
        Case{{0, 31, 64, 64, 97}, 33, 31}, Case{{0, 5, 1028, 1030}, 9, 17}, Case{{0, 700, 700, 1025}, 40, 50}}) {
    const auto groups = static_cast<int64_t>(c.offsets.size()) - 1;
    const int64_t rows = c.offsets.back(), out = c.out, in = c.in;
    const Array offsets = Array::from(c.offsets, {groups + 1});
    run({.covers = "grouped_matmul(Tensor, Tensor, Array)",
         .name = fmt::format("{} groups", groups),
         .function = [=](std::span<const Tensor> x) { return grouped_matmul(x[0], x[1], offsets.to(x[0].device())); },
         .reference =
             [=](std::span<const Numbers> x) {
               Numbers y({rows, out});
               for (int64_t g = 0; g < groups; ++g)
                 for (int64_t row = c.offsets[static_cast<size_t>(g)]; row < c.offsets[static_cast<size_t>(g) + 1];
                      ++row)
                   for (int64_t o = 0; o < out; ++o)
                     for (int64_t i = 0; i < in; ++i)
                       y[row * out + o] += x[0][row * in + i] * x[1][(g * out + o) * in + i];
               return y;
             },
         .inputs = {{{rows, in}}, {{groups, out, in}}}});
  }
}

TEST_CASE("matmul: a weight's f32 gradient is not rounded to bf16") {
  // 1 + 2^-12 is no bf16 number: rounding dW on its way would lose the second row's part
  const Array x = Array::from(std::vector<float>{1, 0x1p-12f}, {2, 1}).to(Dtype::bf16);
  const Tensor weight = Tensor::full({1, 1}, 1).set_requires_grad();
  const Tensor copy(weight.value().to(Dtype::bf16), weight.node(), 0);
  const Array dy = Array::full({2, 1}, 1, {Dtype::bf16});
  linear(Tensor(x), copy).backward(dy);
  CHECK(weight.grad().item() == 1 + 0x1p-12);
  weight.clear_grad();
  matmul(Tensor(x), copy).backward(dy);
  CHECK(weight.grad().item() == 1 + 0x1p-12);
  const Tensor experts = Tensor::full({1, 1, 1}, 1).set_requires_grad();
  const Tensor experts_copy(experts.value().to(Dtype::bf16), experts.node(), 0);
  grouped_matmul(Tensor(x), experts_copy, Array::from(std::vector<int32_t>{0, 2}, {2})).backward(dy);
  CHECK(experts.grad().item() == 1 + 0x1p-12);
}
