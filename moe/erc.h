// SPDX-License-Identifier: Apache-2.0
// The expert-router coupling loss (arXiv 2512.23447): each router row, taken as a proxy token, should excite its own
// expert more than any other, and each expert should be excited most by its own row.
#pragma once
#include "autograd/tensor.h"
#include "core/philox.h"

namespace moxie::moe {

// Eq. 4: the largest bound that keeps a noisy proxy nearest to its own row,
// epsilon_i = min over j != i of |R[i] - R[j]| / (2 |R[i]|). router [experts, width] -> [experts]; 0 for a zero row and
// for a single expert; not capped, so short rows may exceed 1. No gradient.
Array erc_bound(const Array& router);

// Multiplicative noise delta [experts, width], uniform in (1 - epsilon_i, 1 + epsilon_i) with epsilon =
// erc_bound(router); a constant in the loss, the same for the same key.
Array erc_noise(const Array& router, RandomKey key);

// How the products R~[i] W_g^j are computed.
struct ErcProducts {
  int64_t bytes = int64_t{64} << 20;  // held at once, at most
  bool keep = true;                   // those that fit, from the forward to the backward pass; else they are made again
  bool tf32 = false;                  // f32 on a GPU: on tensor cores, of factors that keep 10 bits of their mantissas
};

// M[i, j] = |(R[i] * delta[i]) W_g^j|, [experts, experts]. gate [experts, rows, width], of whose rows the first
// `hidden` are the gate projection W_g (before SiLU); for experts without a gate, hidden = rows. delta undefined: no
// noise. No gradient. f32 or f64.
Array erc_matrix(const Array& router, const Array& gate, int64_t hidden, const Array& delta = {},
                 const ErcProducts& how = {});

// Eq. 3: 1/n^2 sum over i and j != i of max(M[i,j] - alpha M[i,i], 0) + max(M[j,i] - alpha M[i,i], 0) -> scalar.
// Gradients flow to router (through the product with the constant delta) and to the gate projection; alpha M[i,i] is
// not detached; a hinge at equality and a norm at 0 have gradient 0. Holds at most `how.bytes` of products whatever
// the sizes (on a GPU as much again for sums), and computes those that it didn't keep again in the backward pass; the
// cost doesn't depend on the number of tokens. n = 1: 0. Throws std::invalid_argument for alpha < 0, a router that
// works in a projected space (its rows are not of the experts' width), and shapes that don't fit.
Tensor erc_loss(const Tensor& router, const Tensor& gate, int64_t hidden, const Array& delta, double alpha,
                const ErcProducts& how = {});

// How many of the 2 n (n - 1) constraints of M are violated: M[i,j] > alpha M[i,i] or M[j,i] > alpha M[i,i], j != i.
int64_t erc_violations(const Array& matrix, double alpha);

}  // namespace moxie::moe
