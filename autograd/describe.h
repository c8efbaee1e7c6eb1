// SPDX-License-Identifier: Apache-2.0
// Pictures of a recorded graph, as text and for Graphviz.
#pragma once
#include <string>
#include <vector>

#include "autograd/tensor.h"

namespace moxie {

// The graph that `root` was computed by, as a table: one line for every op and leaf in the order in which they ran,
// with a number, the name of a leaf, the outputs' dtypes and shapes, the inputs by number, and the bytes of the arrays
// that the backward rule keeps. Numbers count from 1 in this graph, so the text is the same in every run. What
// backward() has used up is marked and hides what lay below it; a tensor without history gives one line that says so.
std::string describe(const Tensor& root);

// The same as a Graphviz digraph: leaves as ellipses, constants dashed, ops as boxes with the bytes they keep, edges
// with dtype and shape. `dot -Tsvg` draws it.
std::string describe_dot(const Tensor& root);

// "512 B", "1.5 KiB", "24.0 MiB"
std::string text_of_bytes(int64_t bytes);

namespace detail {
// Every node from which `root` was computed, oldest first, itself the last one or among the last.
std::vector<const Node*> nodes_of(const Tensor& root);
// Bytes that a node's rule keeps: arrays that share memory with each other count once.
int64_t saved_bytes(const Node& node);
}  // namespace detail

}  // namespace moxie
