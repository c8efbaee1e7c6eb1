// SPDX-License-Identifier: Apache-2.0
#include "moe/erc.h"

#include <algorithm>

#include "autograd/record.h"
#include "core/gemm.h"
#include "core/kernels/elementwise/binary.h"
#include "core/kernels/reduce/scale_total.h"
#include "core/launch.h"
#include "core/reduce.h"
#include "moe/dispatch.h"
#include "moe/kernels/erc.h"

namespace moxie::moe {
namespace {

// Partial sums of dR~ on the CPU, fixed so that results don't depend on the number of threads. A GPU takes as many at a
// time as fit, to be busy.
constexpr int64_t cpu_parts = 8;

// Sizes of the loss, and the piece of the products that fits into memory at once: `block` experts, or, where not even
// one does, `part` of one expert's hidden rows.
struct Problem {
  int64_t experts, width, hidden, rows, block, part, parts;
  bool tf32;
  Options options;

  Problem(const Array& router, const Array& gate, int64_t hidden_rows, const ErcProducts& how)
      : experts(router.shape()[0]),
        width(router.shape()[1]),
        hidden(hidden_rows),
        rows(gate.shape()[1]),
        tf32(how.tf32),
        options(router.options()) {
    const int64_t row = std::max<int64_t>(experts * size_of(options.dtype), 1), fitting = how.bytes / row / hidden;
    block = std::clamp<int64_t>(fitting > cpu_parts ? fitting / cpu_parts * cpu_parts : fitting, 1, experts);
    part = std::clamp<int64_t>(how.bytes / row, 1, hidden);
    const int64_t fitting_parts = how.bytes / std::max<int64_t>(row * width, 1);
    parts = std::min(block, options.device.is_cpu() ? cpu_parts : std::max(cpu_parts, fitting_parts));
  }
  bool fits() const { return block == experts && part == hidden; }
  Array products() const { return Array::empty({block, experts, part}, options); }
};

// Experts [expert, expert + count) and of each the hidden rows [row, row + hidden).
struct Piece {
  int64_t expert, count, row, hidden;
};

template <class F> void for_pieces(const Problem& p, F&& f) {
  for (int64_t expert = 0; expert < p.experts; expert += p.block)
    for (int64_t row = 0; row < p.hidden; row += p.part)
      f(Piece{expert, std::min(p.block, p.experts - expert), row, std::min(p.part, p.hidden - row)});
}

// The first of a piece's rows in the gate, or in its gradient.
std::byte* rows_of(const Problem& p, const Piece& piece, const Array& gate) {
  return gate.raw() + (piece.expert * p.rows + piece.row) * p.width * size_of(p.options.dtype);
}

void check_inputs(const Array& router, const Array& gate, int64_t hidden, const Array& delta) {
  check(router.shape().rank() == 2 && gate.shape().rank() == 3,
        "erc: router must be [experts, width] and gate [experts, rows, width], got {} and {}", router.shape(),
        gate.shape());
  check(router.shape()[1] == gate.shape()[2],
        "erc: router rows must have the experts' width, got router {} and gate {}; ERC is not defined for a router in "
        "a projected space",
        router.shape(), gate.shape());
  check(router.shape()[0] == gate.shape()[0], "erc: router and gate must have as many experts, got {} and {}",
        router.shape(), gate.shape());
  check(hidden >= 1 && hidden <= gate.shape()[1], "erc: hidden must be between 1 and gate's rows, got {} for gate {}",
        hidden, gate.shape());
  check(router.options() == gate.options() && (router.dtype() == Dtype::f32 || router.dtype() == Dtype::f64),
        "erc: router and gate must both be f32 or both f64 on one device, got {} and {}", name_of(router.dtype()),
        name_of(gate.dtype()));
  check(!delta.defined() || (delta.shape() == router.shape() && delta.options() == router.options()),
        "erc: delta must be like the router {} {}, got {} {}", router.shape(), name_of(router.dtype()), delta.shape(),
        name_of(delta.dtype()));
}

// x * y, both of one shape
Array multiplied(const Array& x, const Array& y) {
  const Array z = Array::empty(x.shape(), x.options());
  dispatch_statistics(x.dtype(), [&]<class T>(T) {
    const Binary<Mul, BinaryPart::value, T> kernel{x.data<T>(), y.data<T>(), nullptr, z.data<T>(), z.numel(), false};
    for_rows(x.device(), kernel, elementwise_rows(z.numel()), elementwise_row);
  });
  return z;
}

// Y[b, i] = R~[i] W_g^(expert + b) for the experts and rows of a piece -> [count, experts, hidden]
void products(const Problem& p, const Piece& piece, const Array& proxies, const Array& gate, const Array& y) {
  gemm(p.options.device, {.dtype = p.options.dtype,
                          .out_dtype = p.options.dtype,
                          .transpose_b = true,
                          .tf32 = p.tf32,
                          .m = p.experts,
                          .n = piece.hidden,
                          .k = p.width,
                          .batch = piece.count,
                          .a = proxies.raw(),
                          .lda = p.width,
                          .stride_a = 0,
                          .b = rows_of(p, piece, gate),
                          .ldb = p.width,
                          .stride_b = p.rows * p.width,
                          .c = y.raw(),
                          .ldc = piece.hidden,
                          .stride_c = p.experts * piece.hidden});
}

// Fills M piece by piece. Returns the products where all of them fit, for the backward pass.
Array fill_matrix(const Problem& p, const Array& proxies, const Array& gate, const Array& matrix) {
  const Array y = p.products();
  for_pieces(p, [&](const Piece& piece) {
    products(p, piece, proxies, gate, y);
    dispatch_statistics(p.options.dtype, [&]<class T>(T) {
      const bool last = piece.row + piece.hidden == p.hidden;
      const ErcNorms<T> kernel{y.data<T>(),  matrix.data<T>(), p.experts, piece.hidden,
                               piece.expert, piece.row > 0,    last};
      for_rows(p.options.device, kernel, piece.count * p.experts, piece.hidden);
    });
  });
  return p.fits() ? y : Array();
}

struct Saved {
  Array proxies, gate, delta, matrix, products;
  double alpha;
};

// dW_g^j (+)= dY_j^T R~, into the piece's rows of the gate's gradient
void gate_gradient(const Problem& p, const Piece& piece, const Saved& s, const Array& dy, const Grads::Target& dgate) {
  gemm(p.options.device, {.dtype = p.options.dtype,
                          .out_dtype = p.options.dtype,
                          .transpose_a = true,
                          .accumulate = dgate.accumulate,
                          .tf32 = p.tf32,
                          .m = piece.hidden,
                          .n = p.width,
                          .k = p.experts,
                          .batch = piece.count,
                          .a = dy.raw(),
                          .lda = piece.hidden,
                          .stride_a = p.experts * piece.hidden,
                          .b = s.proxies.raw(),
                          .ldb = p.width,
                          .stride_b = 0,
                          .c = rows_of(p, piece, dgate.array),
                          .ldc = p.width,
                          .stride_c = p.rows * p.width});
}

// dR~ += sum over the piece's experts j of dY_j W_g^j, as partial sums [parts, experts, width]: part i takes every
// parts-th expert in order, so that the parts run side by side.
void proxy_gradient(const Problem& p, const Piece& piece, const Saved& s, const Array& dy, const Array& partial) {
  const int64_t one = p.experts * piece.hidden;
  for (int64_t first = 0; first < piece.count; first += p.parts)
    gemm(p.options.device, {.dtype = p.options.dtype,
                            .out_dtype = p.options.dtype,
                            .accumulate = piece.expert + piece.row + first > 0,
                            .tf32 = p.tf32,
                            .m = p.experts,
                            .n = p.width,
                            .k = piece.hidden,
                            .batch = std::min(p.parts, piece.count - first),
                            .a = dy.raw() + first * one * size_of(p.options.dtype),
                            .lda = piece.hidden,
                            .stride_a = one,
                            .b = rows_of(p, piece, s.gate) + first * p.rows * p.width * size_of(p.options.dtype),
                            .ldb = p.width,
                            .stride_b = p.rows * p.width,
                            .c = partial.raw(),
                            .ldc = p.width,
                            .stride_c = p.experts * p.width});
}

// Rows beyond the gate get nothing from this loss.
void clear_other_rows(const Problem& p, const Array& dgate) {
  if (p.rows == p.hidden) return;
  dispatch_statistics(p.options.dtype, [&]<class T>(T) {
    const int64_t stride = p.rows * p.width, skipped = p.hidden * p.width;
    for_rows(p.options.device, ErcClearRows<T>{dgate.data<T>(), stride, skipped}, p.experts, stride - skipped);
  });
}

void backward(const Problem& p, const Saved& s, const Array& dloss, Grads& grads) {
  const Array coefficient = Array::empty(s.matrix.shape(), p.options);
  dispatch_statistics(p.options.dtype, [&]<class T>(T) {
    const ErcHingeBackward<T> kernel{s.matrix.data<T>(), dloss.data<T>(), coefficient.data<T>(), p.experts, T(s.alpha)};
    for_rows(p.options.device, kernel, p.experts, p.experts);
  });
  Grads::Target dgate;
  if (grads.needs(1)) {
    dgate = grads.into(1);
    if (!dgate.accumulate) clear_other_rows(p, dgate.array);
  }
  const Array partial = grads.needs(0) ? Array::empty({p.parts, p.experts, p.width}, p.options) : Array();
  const Array y = s.products.defined() ? s.products : p.products();
  const Array dy = s.products.defined() ? p.products() : y;
  for_pieces(p, [&](const Piece& piece) {
    if (!s.products.defined()) products(p, piece, s.proxies, s.gate, y);
    dispatch_statistics(p.options.dtype, [&]<class T>(T) {
      const ErcScaleProducts<T> kernel{y.data<T>(), coefficient.data<T>(), dy.data<T>(),
                                       p.experts,   piece.hidden,          piece.expert};
      for_rows(p.options.device, kernel, piece.count * p.experts, piece.hidden);
    });
    if (grads.needs(1)) gate_gradient(p, piece, s, dy, dgate);
    if (grads.needs(0)) proxy_gradient(p, piece, s, dy, partial);
  });
  if (!grads.needs(0)) return;
  const Array dproxies = reduce_sum(partial, 1, p.parts, p.experts * p.width).reshape(s.proxies.shape());
  grads.give(0, s.delta.defined() ? multiplied(dproxies, s.delta) : dproxies);
}

}  // namespace

Array erc_bound(const Array& router) {
  check(router.shape().rank() == 2, "erc_bound: router must be [experts, width], got {}", router.shape());
  check(router.dtype() == Dtype::f32 || router.dtype() == Dtype::f64, "erc_bound: router must be f32 or f64, got {}",
        name_of(router.dtype()));
  const int64_t experts = router.shape()[0], width = router.shape()[1];
  const Array distances = Array::empty({experts, experts}, router.options());
  const Array epsilon = Array::empty({experts}, router.options());
  dispatch_statistics(router.dtype(), [&]<class T>(T) {
    const ErcDistances<T> each{router.data<T>(), distances.data<T>(), experts, width};
    for_rows(router.device(), each, experts * experts, width);
    for_rows(router.device(), ErcBound<T>{distances.data<T>(), epsilon.data<T>(), experts}, experts, experts);
  });
  return epsilon;
}

Array erc_noise(const Array& router, RandomKey key) {
  const Array epsilon = erc_bound(router), delta = Array::empty(router.shape(), router.options());
  dispatch_statistics(router.dtype(), [&]<class T>(T) {
    const ErcNoise<T> kernel{epsilon.data<T>(), delta.data<T>(), router.shape()[1], key};
    for_rows(router.device(), kernel, router.shape()[0], router.shape()[1]);
  });
  return delta;
}

Array erc_matrix(const Array& router, const Array& gate, int64_t hidden, const Array& delta, const ErcProducts& how) {
  check_inputs(router, gate, hidden, delta);
  const Problem problem(router, gate, hidden, how);
  const Array matrix = Array::empty({problem.experts, problem.experts}, router.options());
  fill_matrix(problem, delta.defined() ? multiplied(router, delta) : router, gate, matrix);
  return matrix;
}

Tensor erc_loss(const Tensor& router, const Tensor& gate, int64_t hidden, const Array& delta, double alpha,
                const ErcProducts& how) {
  const OpRange range("erc_loss");
  check_inputs(router.value(), gate.value(), hidden, delta);
  check(alpha >= 0, "erc_loss: alpha must not be negative, got {}", alpha);
  const Problem problem(router.value(), gate.value(), hidden, how);
  const int64_t n = problem.experts;
  Saved saved{delta.defined() ? multiplied(router.value(), delta) : router.value(),
              gate.value(),
              delta,
              Array::empty({n, n}, router.options()),
              {},
              alpha};
  const Array made = fill_matrix(problem, saved.proxies, saved.gate, saved.matrix);
  if (how.keep) saved.products = made;
  const Array partial = Array::empty({n}, router.options()), loss = Array::empty({}, router.options());
  dispatch_statistics(router.dtype(), [&]<class T>(T) {
    for_rows(router.device(), ErcHinge<T>{saved.matrix.data<T>(), partial.data<T>(), n, T(alpha)}, n, n);
    const Array total = reduce_sum(partial, 1, n, 1);
    for_rows(router.device(), ScaleTotal<T>{total.data<T>(), loss.data<T>(), 1, static_cast<double>(n * n)}, 1, 1);
  });
  return record("erc_loss", loss, {router, gate}, [problem, saved](std::span<const Array> dloss, Grads& grads) {
    backward(problem, saved, dloss[0], grads);
  });
}

int64_t erc_violations(const Array& matrix, double alpha) {
  check(matrix.shape().rank() == 2 && matrix.shape()[0] == matrix.shape()[1],
        "erc_violations: the matrix must be square, got {}", matrix.shape());
  const std::vector<double> m = matrix.to_vector<double>();
  const auto n = static_cast<size_t>(matrix.shape()[0]);
  int64_t violated = 0;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j)
      if (j != i) violated += (m[i * n + j] > alpha * m[i * n + i]) + (m[j * n + i] > alpha * m[i * n + i]);
  return violated;
}

}  // namespace moxie::moe
