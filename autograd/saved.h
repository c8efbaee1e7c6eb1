// SPDX-License-Identifier: Apache-2.0
// What backward rules hold, and how the engine speaks of it. Used by the engine itself.
#pragma once
#include <string>

#include "autograd/record.h"

namespace moxie::detail {

// The arrays that `rule` captured by value, each with the input or output whose memory it shares.
std::vector<Node::Saved> arrays_saved_by(const Backward& rule, const std::vector<Array>& outputs,
                                         std::span<const Tensor> inputs);

// Throws std::invalid_argument, naming the op and the array, where one was changed in place since it was saved.
void check_unchanged(const Node& node, const std::vector<Node::Saved>& saved);

// "input 1 'w' f32 [3, 4]", "output 0 f32 [3]", "a saved array f32 [3]"
std::string text_of_input(const Node::Edge& edge, size_t i);
std::string text_of(const Node& node, const Node::Saved& saved);

}  // namespace moxie::detail
