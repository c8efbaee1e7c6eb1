// SPDX-License-Identifier: Apache-2.0
// Anomaly mode finds the op in which the first NaN or infinity appeared, in the forward or in the backward pass.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "autograd/record.h"

namespace moxie {

struct AnomalyOptions {
  bool allow_infinity = false;  // only NaN counts: for models that mask with minus infinity
};

// While an instance lives, the outputs of every op on this thread and the gradients of every backward rule are looked
// through. The first NaN or infinity throws std::runtime_error: the op, the place and the number, the inputs with
// shapes, dtypes and whether they were finite, and what usually helps. What a rule saved is also compared by a
// checksum, so that a write in place of which nobody told is found. Costs one more reading of every array; where no
// instance lives, one test per op.
class AnomalyMode final {
 public:
  explicit AnomalyMode(AnomalyOptions options = {});
  ~AnomalyMode();
  AnomalyMode(const AnomalyMode&) = delete;
  AnomalyMode& operator=(const AnomalyMode&) = delete;

 private:
  bool before_;
  AnomalyOptions options_before_;
};

// True where ops on this thread are looked through.
bool anomaly_mode();

// The first element, in row-major order, that is NaN or infinite (or, with `allow_infinity`, NaN); -1 where there is
// none, and for integer dtypes.
int64_t first_non_finite(const Array& x, AnomalyOptions options = {});

namespace detail {
// The engine calls these in anomaly mode; each throws std::runtime_error for the first number that isn't finite: in an
// op's outputs, in the gradients that a rule has just made, in a backward pass's cotangent, and in the gradients that
// the leaves keep from before it.
void check_forward(const char* op, std::span<const Array> outputs, std::span<const Tensor> inputs);
void check_backward(const Node& node, const std::vector<Node::Saved>& saved);
void check_cotangent(const Node& root, const Array& cotangent);
void check_kept_gradients(std::span<const std::shared_ptr<Node>> order);
// Differs, but for bad luck, where one number differs.
uint64_t checksum(const Array& x);
}  // namespace detail

}  // namespace moxie
