// SPDX-License-Identifier: Apache-2.0
#include "moe/erc.h"

#include <algorithm>

#include "autograd/record.h"
#include "core/gemm.h"
#include "core/kernels/elementwise/binary.h"
#include "core/launch.h"
#include "core/reduce.h"
#include "moe/kernels/erc.h"

namespace moxie::moe {
namespace {

constexpr int64_t product_limit = int64_t{64} << 20;  // bytes of products held at once

template <class F> void dispatch_erc(Dtype dtype, F&& f) {
  if (dtype == Dtype::f64) f(double{});
  else f(float{});
}

// Sizes of the loss, and how many experts' products fit into memory at once.
struct Problem {
  int64_t experts, width, hidden, rows;
  Options options;

  Problem(const Array& router, const Array& gate, int64_t hidden_rows)
      : experts(router.shape()[0]), width(router.shape()[1]), hidden(hidden_rows), rows(gate.shape()[1]), options(router.options()) {}
  int64_t products_of_one() const { return experts * hidden * size_of(options.dtype); }
  int64_t block() const { return std::clamp<int64_t>(product_limit / std::max<int64_t>(products_of_one(), 1), 1, experts); }
  bool fits() const { return block() == experts; }
};

void check_inputs(const Array& router, const Array& gate, int64_t hidden, const Array& delta) {
  check(router.shape().rank() == 2 && gate.shape().rank() == 3, "erc: router must be [experts, width] and gate [experts, rows, width], got {} and {}",
        router.shape(), gate.shape());
  check(router.shape()[1] == gate.shape()[2],
        "erc: router rows must have the experts' width, got router {} and gate {}; ERC is not defined for a router in a projected space",
        router.shape(), gate.shape());
  check(router.shape()[0] == gate.shape()[0], "erc: router and gate must have as many experts, got {} and {}", router.shape(),
        gate.shape());
  check(hidden >= 1 && hidden <= gate.shape()[1], "erc: hidden must be between 1 and gate's rows, got {} for gate {}", hidden,
        gate.shape());
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
  dispatch_erc(x.dtype(), [&]<class T>(T) {
    const Binary<Mul, BinaryPart::value, T> kernel{x.data<T>(), y.data<T>(), nullptr, z.data<T>(), z.numel(), false};
    for_rows(x.device(), kernel, elementwise_rows(z.numel()), elementwise_row);
  });
  return z;
}

// Y[b, i] = R~[i] W_g^(first + b) for `count` experts -> [count, experts, hidden]
void products(const Problem& p, const Array& proxies, const Array& gate, int64_t first, int64_t count, const Array& y) {
  gemm(p.options.device, {.dtype = p.options.dtype, .out_dtype = p.options.dtype, .transpose_b = true, .m = p.experts,
                          .n = p.hidden, .k = p.width, .batch = count, .a = proxies.raw(), .lda = p.width, .stride_a = 0,
                          .b = gate.rows(first, count).raw(), .ldb = p.width, .stride_b = p.rows * p.width, .c = y.raw(),
                          .ldc = p.hidden, .stride_c = p.experts * p.hidden});
}

// Fills M block by block. Returns the products where all of them fit, for the backward pass.
Array fill_matrix(const Problem& p, const Array& proxies, const Array& gate, const Array& matrix) {
  const int64_t block = p.block();
  const Array y = Array::empty({block, p.experts, p.hidden}, p.options);
  for (int64_t first = 0; first < p.experts; first += block) {
    const int64_t count = std::min(block, p.experts - first);
    products(p, proxies, gate, first, count, y);
    dispatch_erc(p.options.dtype, [&]<class T>(T) {
      const ErcNorms<T> kernel{y.data<T>(), matrix.data<T>(), p.experts, p.hidden, first};
      for_rows(p.options.device, kernel, count * p.experts, p.hidden);
    });
  }
  return p.fits() ? y : Array();
}

struct Saved {
  Array proxies, gate, delta, matrix, products;
  double alpha;
};

// dW_g^j (+)= dY_j^T R~ into the gate rows, and dR~ += dY_j W_g^j, over blocks of experts j
void backward(const Problem& p, const Saved& s, const Array& dloss, Grads& grads) {
  const Array coefficient = Array::empty(s.matrix.shape(), p.options);
  dispatch_erc(p.options.dtype, [&]<class T>(T) {
    const ErcHingeBackward<T> kernel{s.matrix.data<T>(), dloss.data<T>(), coefficient.data<T>(), p.experts, T(s.alpha)};
    for_rows(p.options.device, kernel, p.experts, p.experts);
  });
  Grads::Target dgate;
  if (grads.needs(1)) {
    dgate = grads.into(1);
    if (!dgate.accumulate) dgate.array.fill(0);  // rows beyond the gate get nothing from here
  }
  const Array dproxies = grads.needs(0) ? Array::empty(s.proxies.shape(), p.options) : Array();
  const int64_t block = p.block();
  const Array y = s.products.defined() ? s.products : Array::empty({block, p.experts, p.hidden}, p.options);
  const Array dy = s.products.defined() ? Array::empty(y.shape(), p.options) : y;
  for (int64_t first = 0; first < p.experts; first += block) {
    const int64_t count = std::min(block, p.experts - first);
    if (!s.products.defined()) products(p, s.proxies, s.gate, first, count, y);
    dispatch_erc(p.options.dtype, [&]<class T>(T) {
      const ErcScaleProducts<T> kernel{y.data<T>(), coefficient.data<T>(), dy.data<T>(), p.experts, p.hidden, first};
      for_rows(p.options.device, kernel, count * p.experts, p.hidden);
    });
    if (grads.needs(1))
      gemm(p.options.device, {.dtype = p.options.dtype, .out_dtype = p.options.dtype, .transpose_a = true, .accumulate = true,
                              .m = p.hidden, .n = p.width, .k = p.experts, .batch = count, .a = dy.raw(), .lda = p.hidden,
                              .stride_a = p.experts * p.hidden, .b = s.proxies.raw(), .ldb = p.width, .stride_b = 0,
                              .c = dgate.array.rows(first, count).raw(), .ldc = p.width, .stride_c = p.rows * p.width});
    for (int64_t b = 0; grads.needs(0) && b < count; ++b)  // one sum over j: in order, not as a batch
      gemm(p.options.device, {.dtype = p.options.dtype, .out_dtype = p.options.dtype, .accumulate = first + b > 0,
                              .m = p.experts, .n = p.width, .k = p.hidden, .a = dy.rows(b, 1).raw(), .lda = p.hidden,
                              .b = s.gate.rows(first + b, 1).raw(), .ldb = p.width, .c = dproxies.raw(), .ldc = p.width});
  }
  if (grads.needs(0)) grads.give(0, s.delta.defined() ? multiplied(dproxies, s.delta) : dproxies);
}

}  // namespace

Array erc_bound(const Array& router) {
  check(router.shape().rank() == 2, "erc_bound: router must be [experts, width], got {}", router.shape());
  const Array epsilon = Array::empty({router.shape()[0]}, router.options());
  dispatch_erc(router.dtype(), [&]<class T>(T) {
    const ErcBound<T> kernel{router.data<T>(), epsilon.data<T>(), router.shape()[0], router.shape()[1]};
    for_rows(router.device(), kernel, router.shape()[0], router.numel());
  });
  return epsilon;
}

Array erc_noise(const Array& router, RandomKey key) {
  const Array epsilon = erc_bound(router), delta = Array::empty(router.shape(), router.options());
  dispatch_erc(router.dtype(), [&]<class T>(T) {
    const ErcNoise<T> kernel{epsilon.data<T>(), delta.data<T>(), router.shape()[1], key};
    for_rows(router.device(), kernel, router.shape()[0], router.shape()[1]);
  });
  return delta;
}

Array erc_matrix(const Array& router, const Array& gate, int64_t hidden, const Array& delta) {
  check_inputs(router, gate, hidden, delta);
  const Problem problem(router, gate, hidden);
  const Array matrix = Array::empty({problem.experts, problem.experts}, router.options());
  fill_matrix(problem, delta.defined() ? multiplied(router, delta) : router, gate, matrix);
  return matrix;
}

Tensor erc_loss(const Tensor& router, const Tensor& gate, int64_t hidden, const Array& delta, double alpha) {
  check_inputs(router.value(), gate.value(), hidden, delta);
  check(alpha >= 0, "erc_loss: alpha must not be negative, got {}", alpha);
  const Problem problem(router.value(), gate.value(), hidden);
  const int64_t n = problem.experts;
  Saved saved{delta.defined() ? multiplied(router.value(), delta) : router.value(), gate.value(), delta,
              Array::empty({n, n}, router.options()), {}, alpha};
  saved.products = fill_matrix(problem, saved.proxies, saved.gate, saved.matrix);
  const Array partial = Array::empty({n}, router.options()), loss = Array::empty({}, router.options());
  dispatch_erc(router.dtype(), [&]<class T>(T) {
    for_rows(router.device(), ErcHinge<T>{saved.matrix.data<T>(), partial.data<T>(), n, T(alpha)}, n, n);
    *loss.data<T>() = *reduce_sum(partial, 1, n, 1).data<T>() / static_cast<T>(n * n);
  });
  return record("erc_loss", loss, {router, gate},
                [problem, saved](std::span<const Array> dloss, Grads& grads) { backward(problem, saved, dloss[0], grads); });
}

int64_t erc_violations(const Array& matrix, double alpha) {
  check(matrix.shape().rank() == 2 && matrix.shape()[0] == matrix.shape()[1], "erc_violations: the matrix must be square, got {}",
        matrix.shape());
  const std::vector<double> m = matrix.to_vector<double>();
  const auto n = static_cast<size_t>(matrix.shape()[0]);
  int64_t violated = 0;
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j)
      if (j != i) violated += (m[i * n + j] > alpha * m[i * n + i]) + (m[j * n + i] > alpha * m[i * n + i]);
  return violated;
}

}  // namespace moxie::moe
