// SPDX-License-Identifier: Apache-2.0
// Einstein sums, two operands at a time from the left: each pair becomes one batched matmul, or an elementwise product
// where nothing is summed or only pairs of rows are.
#include <algorithm>
#include <map>
#include <string>

#include "autograd/ops/common.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"

namespace moxie {
namespace {

bool is_label(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool contains(const std::string& labels, char label) { return labels.find(label) != std::string::npos; }

// The labels of `labels` that are in `other`, or those that are not.
std::string selected(const std::string& labels, const std::string& other, bool inside) {
  std::string result;
  for (const char label : labels)
    if (contains(other, label) == inside) result += label;
  return result;
}

// The dimensions that "..." stands for have the labels '0', '1', .. from the back.
std::string ellipsis_labels(int64_t dims) {
  std::string labels;
  for (int64_t i = dims; i-- > 0;) labels += static_cast<char>('0' + i);
  return labels;
}

// A tensor with a label for each dimension.
struct Labelled {
  Tensor x;
  std::string labels;

  int64_t size(const std::string& some) const {
    int64_t product = 1;
    for (const char label : some) product *= x.dim(static_cast<int64_t>(labels.find(label)));
    return product;
  }
  std::vector<int64_t> sizes_of(const std::string& some) const {
    std::vector<int64_t> sizes;
    for (const char label : some) sizes.push_back(size({label}));
    return sizes;
  }
  Labelled in_order(const std::string& order) const {
    if (labels == order) return *this;
    std::vector<int64_t> dims;
    for (const char label : order) dims.push_back(static_cast<int64_t>(labels.find(label)));
    return {permute(x, dims), order};
  }
  // Summed over the labels that are not in `kept`, in one pass, so that bf16 is rounded once.
  Labelled summed_to(const std::string& kept) const {
    const std::string stays = selected(labels, kept, true), goes = selected(labels, kept, false);
    if (goes.empty()) return *this;
    const size_t first = labels.find(goes);
    const Labelled together = first == std::string::npos ? in_order(stays + goes) : *this;
    const size_t place = first == std::string::npos ? stays.size() : first;
    std::vector<int64_t> sizes = together.sizes_of(stays);
    sizes.insert(sizes.begin() + static_cast<std::ptrdiff_t>(place), size(goes));
    return {sum(reshape(together.x, Shape(sizes)), static_cast<int64_t>(place)), stays};
  }
  // In the order of `wanted`, with size 1 for labels that it lacks.
  Tensor spread_over(const std::string& wanted) const {
    const Labelled ordered = in_order(selected(wanted, labels, true));
    std::vector<int64_t> sizes;
    for (const char label : wanted) sizes.push_back(contains(labels, label) ? size({label}) : 1);
    return reshape(ordered.x, Shape(sizes));
  }
};

// One side of a matmul, [batch, free, summed] or [batch, summed, free]: as it lies if it can be.
struct Side {
  Tensor matrix;
  bool summed_first;
};
Side side_of(const Labelled& operand, const std::string& batch, const std::string& free, const std::string& summed) {
  const bool summed_first = operand.labels == batch + summed + free;
  const Labelled ordered = summed_first ? operand : operand.in_order(batch + free + summed);
  const int64_t b = operand.size(batch), f = operand.size(free), s = operand.size(summed);
  const int64_t rows = summed_first ? s : f, cols = summed_first ? f : s;
  return {reshape(ordered.x, batch.empty() ? Shape{rows, cols} : Shape{b, rows, cols}), summed_first};
}

// x times y, summed over the labels that are not in `kept`.
Labelled contracted(const Labelled& left, const Labelled& right, const std::string& kept) {
  const Labelled x = left.summed_to(kept + right.labels), y = right.summed_to(kept + left.labels);
  const std::string shared = selected(x.labels, y.labels, true);
  const std::string batch = selected(shared, kept, true), over = selected(shared, kept, false);
  const std::string free_x = selected(x.labels, shared, false), free_y = selected(y.labels, shared, false);
  if (over.empty() || (free_x.empty() && free_y.empty() && !batch.empty())) {
    const std::string all = batch + free_x + free_y + over;
    return Labelled{x.spread_over(all) * y.spread_over(all), all}.summed_to(kept);
  }
  const Side a = side_of(x, batch, free_x, over), b = side_of(y, batch, free_y, over);
  const Tensor z = matmul(a.matrix, b.matrix, {.transpose_x = a.summed_first, .transpose_y = !b.summed_first});
  std::vector<int64_t> sizes = x.sizes_of(batch + free_x);
  for (const int64_t size : y.sizes_of(free_y)) sizes.push_back(size);
  return {reshape(z, Shape(sizes)), batch + free_x + free_y};
}

// The equation's parts: one for each operand, and the result's where it is given.
struct Equation {
  std::vector<std::string> operands;
  std::optional<std::string> result;
};

Equation parse(std::string_view equation) {
  std::string text;
  for (const char c : equation)
    if (c != ' ') text += c;
  Equation parsed;
  if (const size_t arrow = text.find("->"); arrow != std::string::npos) {
    parsed.result = text.substr(arrow + 2);
    text.resize(arrow);
  }
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    parsed.operands.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parsed;
}

// Replaces "..." by the labels of the dimensions it stands for, and checks the others.
std::string expanded(std::string term, int64_t ellipsis_dims, std::string_view equation) {
  const size_t dots = term.find("...");
  if (dots != std::string::npos) term.erase(dots, 3);
  for (size_t i = 0; i < term.size(); ++i) {
    check(is_label(term[i]), "einsum: '{}' has '{}' where only letters, one '...' an operand, ',' and one '->' may be",
          equation, term[i]);
    check(!contains(term.substr(0, i), term[i]), "einsum: '{}' has label '{}' twice in '{}'; diagonals are not taken",
          equation, term[i], term);
  }
  if (dots != std::string::npos) term.insert(dots, ellipsis_labels(ellipsis_dims));
  return term;
}

// Without "->": the dimensions of "...", then all labels that occur once, in alphabetical order.
std::string implicit_result(const std::string& all, int64_t ellipsis_dims) {
  std::string once;
  for (const char label : all)
    if (is_label(label) && std::count(all.begin(), all.end(), label) == 1) once += label;
  std::sort(once.begin(), once.end());
  return ellipsis_labels(ellipsis_dims) + once;
}

}  // namespace

Tensor einsum(std::string_view equation, std::span<const Tensor> operands) {
  const Equation parsed = parse(equation);
  check(parsed.operands.size() == operands.size(), "einsum: '{}' has {} operands, got {} tensors", equation,
        parsed.operands.size(), operands.size());
  std::vector<Labelled> terms;
  std::string all;
  std::map<char, int64_t> sizes;
  int64_t most_dims = 0;  // of all that "..." stands for
  for (size_t i = 0; i < operands.size(); ++i) {
    const Tensor& x = operands[i];
    const std::string& term = parsed.operands[i];
    check_same_kind("einsum", operands[0].value(), "the first operand", x.value(), "another");
    const bool dots = term.find("...") != std::string::npos;
    const int64_t dims = x.shape().rank() - static_cast<int64_t>(term.size()) + 3;
    const std::string labels = expanded(term, dots ? std::max<int64_t>(dims, 0) : 0, equation);
    check(static_cast<int64_t>(labels.size()) == x.shape().rank(), "einsum: '{}' has '{}' for an operand of shape {}",
          equation, term, x.shape());
    if (dots) most_dims = std::max(most_dims, dims);
    for (size_t d = 0; d < labels.size(); ++d) {
      const int64_t size = x.dim(static_cast<int64_t>(d));
      const int64_t known = sizes.emplace(labels[d], size).first->second;
      check(known == size, "einsum: '{}': {} is {} in one operand and {} in another", equation,
            is_label(labels[d]) ? fmt::format("label '{}'", labels[d]) : "a dimension of '...'", known, size);
    }
    all += labels;
    terms.push_back({x, labels});
  }
  const std::string result =
      parsed.result ? expanded(*parsed.result, most_dims, equation) : implicit_result(all, most_dims);
  for (const char label : result)
    check(contains(all, label), "einsum: '{}' has label '{}' in the result but in no operand", equation, label);
  Labelled value = terms[0];
  for (size_t i = 1; i < terms.size(); ++i) {
    std::string kept = result;
    for (size_t later = i + 1; later < terms.size(); ++later) kept += terms[later].labels;
    value = contracted(value, terms[i], kept);
  }
  value = value.summed_to(result).in_order(result);
  return reshape(value.x, value.x.shape());  // never the operand itself
}

Tensor einsum(std::string_view equation, std::initializer_list<Tensor> operands) {
  return einsum(equation, std::span<const Tensor>(operands.begin(), operands.size()));
}

}  // namespace moxie
