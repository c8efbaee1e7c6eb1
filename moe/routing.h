// SPDX-License-Identifier: Apache-2.0
// Routing: which token goes to which expert with which weight. A plain struct: everything can be looked at.
#pragma once
#include "autograd/tensor.h"
#include "moe/choose.h"

namespace moxie::moe {

// A token with one of its experts is an assignment; assignments sorted by expert are the slots, so that expert e owns
// the slots [offsets[e], offsets[e + 1]). Nothing is dropped: there are tokens * top_k slots.
struct Routing {
  int64_t tokens = 0, experts = 0, top_k = 0;
  Tensor scores;             // [tokens, experts], z: what balance and z-loss see, and selection where nothing is added
  Tensor weights;            // [tokens, top_k], of the chosen experts in the output
  Array chosen;              // [tokens, top_k] i32, expert of each assignment, best score first
  Array offsets = {};        // [experts + 1] i32
  Array token_of_slot = {};  // [tokens * top_k] i32
  Array slot_of_assignment = {};  // [tokens, top_k] i32
  Tensor noisy_scores = {};       // [tokens, experts], what selection saw; undefined without noise on the scores
  Tensor deviation = {};          // [tokens, experts], of that noise where it is normal: gaussian and learned

  // Assignments per expert; waits for the device.
  std::vector<int64_t> load() const;
};

// Assignments per expert, from a routing's offsets [experts + 1]; waits for their device.
std::vector<int64_t> load_of(const Array& offsets);

// Sorts the assignments by expert (stable counting sort). chosen [tokens, top_k] i32, each in [0, experts); weights
// [tokens, top_k]. A user's own router ends here.
Routing make_routing(const Tensor& scores, const Tensor& weights, const Array& chosen, int64_t experts);
// The same for a choice among the experts of `scores` that choose_experts() made, and that needs no check.
Routing make_routing(const Tensor& scores, const Choice& choice);

// Rows of x [tokens, width] in the order of the slots -> [tokens * top_k, width].
Tensor dispatch(const Tensor& x, const Routing& routing);
// Each token's sum of weight * row over its assignments: rows [tokens * top_k, width] -> [tokens, width]. The weights
// are cast to the rows' dtype.
Tensor combine(const Tensor& rows, const Routing& routing);

}  // namespace moxie::moe
