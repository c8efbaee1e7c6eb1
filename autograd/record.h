// SPDX-License-Identifier: Apache-2.0
// How an op joins the graph: compute the result as an Array, then record() it with a rule for its gradients.
#pragma once
#include <atomic>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "autograd/op_range.h"
#include "autograd/tensor.h"

namespace moxie {

class Grads;

// Given the gradients of the outputs, adds to the gradients of the inputs. Rules capture and see only Arrays, so they
// can't record by accident and can't form reference cycles. They capture them by value: record() copies a rule once to
// learn which arrays it holds, and arrays behind a pointer or a reference escape its checks.
using Backward = std::function<void(std::span<const Array> dy, Grads& grads)>;

// The place of one op's application in the graph; a leaf has no backward rule and keeps its gradient.
class Node final {
 public:
  struct Edge {
    std::shared_ptr<Node> node;  // null where the input needs no gradient
    int64_t output = 0;
    Dtype dtype = Dtype::f32;  // of the input as the op saw it; a parameter's bf16 copy keeps its gradient in f32
    Shape shape = {};
    bool defined = true;  // false: an optional input that is absent
  };
  struct Output {
    Shape shape;
    Options options;
    std::weak_ptr<Storage> storage = {};  // empty once nobody holds the numbers
  };
  // An array that the rule holds, and which input or output of the op it shares memory with.
  struct Saved {
    enum class Of : uint8_t { input, output, rule };
    Array array;
    Of of = Of::rule;
    size_t index = 0;
    uint64_t version = 0;              // of its storage when it was saved
    std::optional<uint64_t> checksum;  // in anomaly mode: of its numbers
  };

  Node(const char* op_name, std::vector<Edge> edges, std::vector<Output> results, Backward rule);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  static std::shared_ptr<Node> leaf(const Array& value);

  bool is_leaf() const { return leaf_; }

  const char* op;
  uint64_t id;  // creation order, which is a topological order
  std::vector<Edge> inputs;
  std::vector<Output> outputs;
  Backward backward;
  std::vector<Saved> saved;  // what `backward` holds; gone with it
  std::string name;          // a leaf's, where it was given one
  std::vector<Array> dy;     // gradient of each output while a backward pass is under way; of a leaf, its gradient
  bool has_grad = false;     // leaf: dy[0] holds a gradient (otherwise memory kept for the next one)
  bool used = false;         // the rule has run and is gone
  uint64_t visit = 0;        // mark of the last backward pass that reached it

 private:
  bool leaf_ = false;
};

// Where a backward rule puts the gradients of its op's inputs.
class Grads final {
 public:
  explicit Grads(Node& node) : node_(node) {}

  // A buffer of input i's shape: overwrite its numbers, or add to them where `accumulate` is set.
  struct Target {
    Array array;
    bool accumulate = false;
    template <class T> T* data() const { return array.data<T>(); }
  };

  // Whether input i wants a gradient at all; the other calls throw std::invalid_argument where it doesn't. All throw it
  // where there is no input i.
  bool needs(size_t i) const;
  // In input i's own dtype.
  Target into(size_t i);
  // In the dtype in which the gradient is kept, which is f32 for the bf16 copy of a parameter: for rules that can write
  // it, so that nothing is rounded to bf16 on the way.
  Target into_wide(size_t i);
  // Hands over a finished gradient of input i's shape, in any float dtype; it may share memory with dy.
  void give(size_t i, const Array& dx);
  // The engine calls this after the rule: adds what into() lent out in another dtype than the gradient's.
  void finish();

 private:
  const Node::Edge& edge(size_t i) const;
  struct Lent {
    size_t input;
    Array array;
  };
  Node& node_;
  std::vector<Lent> lent_;
};

// Joins the result of a user's op to the graph. `inputs` are the tensors whose gradients `backward` computes, in the
// order in which Grads counts them; undefined tensors may stand for absent optional inputs.
Tensor record(const char* op, const Array& y, std::span<const Tensor> inputs, Backward backward);
Tensor record(const char* op, const Array& y, std::initializer_list<Tensor> inputs, Backward backward);
// The same with several outputs; an output that nobody used arrives as zeros in `dy`.
std::vector<Tensor> record(const char* op, const std::vector<Array>& outputs, std::span<const Tensor> inputs,
                           Backward backward);

// True where recording is on and at least one input needs a gradient: an op may save work otherwise.
bool will_record(std::initializer_list<Tensor> inputs);

namespace detail {
// Records even where no input needs a gradient: for recomputation, whose parameters the inputs don't show.
std::vector<Tensor> record_always(const char* op, const std::vector<Array>& outputs, std::span<const Tensor> inputs,
                                  Backward backward);
void run_backward(const std::shared_ptr<Node>& root, int64_t output, const Array& cotangent);
// The backward pass of a recomputed segment: throws where the graph reaches a node older than `oldest`.
void run_segment_backward(const std::shared_ptr<Node>& root, const Array& cotangent, uint64_t oldest);
// The id that the next node will get.
uint64_t next_node_id();
class EnableGrad final {
 public:
  EnableGrad();
  ~EnableGrad();
  EnableGrad(const EnableGrad&) = delete;
  EnableGrad& operator=(const EnableGrad&) = delete;

 private:
  bool before_;
};
}  // namespace detail

}  // namespace moxie
