// SPDX-License-Identifier: Apache-2.0
// autograd/ops/matmul.h: einsum.
#include <doctest/doctest.h>

#include <sstream>

#include "tests/ops/errors.h"
#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

// `terms` and `result` name each dimension by a letter: every combination of indices, one after another.
Numbers summed(const std::vector<std::string>& terms, const std::string& result, std::span<const Numbers> x) {
  std::string labels;
  std::vector<int64_t> sizes;
  for (size_t i = 0; i < terms.size(); ++i)
    for (size_t d = 0; d < terms[i].size(); ++d)
      if (labels.find(terms[i][d]) == std::string::npos) {
        labels += terms[i][d];
        sizes.push_back(x[i].shape[static_cast<int64_t>(d)]);
      }
  std::vector<int64_t> index(labels.size()), result_sizes;
  const auto place = [&](const std::string& term) {
    int64_t at = 0;
    for (const char label : term) {
      const size_t l = labels.find(label);
      at = at * sizes[l] + index[l];
    }
    return at;
  };
  for (const char label : result) result_sizes.push_back(sizes[labels.find(label)]);
  Numbers z{Shape(result_sizes)};
  const int64_t combinations = Shape(sizes).numel();
  for (int64_t c = 0; c < combinations; ++c) {
    for (int64_t l = static_cast<int64_t>(labels.size()) - 1, rest = c; l >= 0; --l) {
      index[static_cast<size_t>(l)] = rest % sizes[static_cast<size_t>(l)];
      rest /= sizes[static_cast<size_t>(l)];
    }
    double product = 1;
    for (size_t i = 0; i < terms.size(); ++i) product *= x[i][place(terms[i])];
    z[place(result)] += product;
  }
  return z;
}

struct Case {
  std::string equation;
  std::vector<Shape> shapes;
  std::vector<std::string> terms;  // the equation spelled out; empty: it is
  std::string result = {};
};

OpRow row_of(const Case& c) {
  std::vector<std::string> terms = c.terms;
  std::string result = c.result;
  if (terms.empty()) {
    const size_t arrow = c.equation.find("->");
    result = c.equation.substr(arrow + 2);
    std::istringstream operands(c.equation.substr(0, arrow) + ",");
    for (std::string term; std::getline(operands, term, ',');) terms.push_back(term);
  }
  OpRow row{.covers = "einsum(string_view, span)",
            .name = c.equation,
            .function = [c](std::span<const Tensor> x) { return einsum(c.equation, x); },
            .reference = [=](std::span<const Numbers> x) { return summed(terms, result, x); }};
  for (const Shape& shape : c.shapes) row.inputs.push_back({shape});
  return row;
}

}  // namespace

TEST_CASE("einsum: one operand") {
  for (const Case& c : {Case{"ij->ji", {{3, 4}}, {}}, Case{"ij->i", {{3, 4}}, {}}, Case{"ij->j", {{3, 4}}, {}},
                        Case{"ij->", {{3, 4}}, {}}, Case{"abc->ca", {{2, 3, 4}}, {}}, Case{"i->i", {{33}}, {}},
                        Case{"ba", {{3, 4}}, {"ba"}, "ab"}, Case{"...ij->...ji", {{2, 1, 3, 4}}, {"efij"}, "efji"},
                        Case{"i...->...", {{3, 2, 2}}, {"ief"}, "ef"}, Case{"ij->ji", {{0, 4}}, {}},
                        Case{"ij->i", {{3, 0}}, {}}, Case{"ij->j", {{2, 1025}}, {}}})
    run(row_of(c));
}

TEST_CASE("einsum: two operands") {
  for (const Case& c : {
           Case{"ij,jk->ik", {{3, 4}, {4, 2}}, {}},
           Case{"ij,kj->ik", {{3, 4}, {2, 4}}, {}},
           Case{"ji,jk->ik", {{4, 3}, {4, 2}}, {}},
           Case{"ij,jk->ki", {{31, 33}, {33, 32}}, {}},
           Case{"ij, jk", {{3, 4}, {4, 2}}, {"ij", "jk"}, "ik"},
           Case{"bij,bjk->bik", {{2, 3, 4}, {2, 4, 5}}, {}},
           Case{"btd,df->btf", {{2, 3, 4}, {4, 5}}, {}},
           Case{"btd,fd->btf", {{2, 3, 4}, {5, 4}}, {}},
           Case{"bhtd,bhsd->bhts", {{2, 2, 3, 4}, {2, 2, 5, 4}}, {}},
           Case{"bthd,bshd->bhts", {{2, 3, 2, 4}, {2, 5, 2, 4}}, {}},
           Case{"bhts,bshd->bthd", {{2, 2, 3, 5}, {2, 5, 2, 4}}, {}},
           Case{"ted,edh->teh", {{3, 2, 4}, {2, 4, 5}}, {}},
           Case{"abcd,cdba->", {{2, 3, 2, 4}, {2, 4, 3, 2}}, {}},
           Case{"abcd,dcbe->ae", {{2, 3, 2, 4}, {4, 2, 3, 5}}, {}},
           Case{"i,j->ij", {{3}, {1025}}, {}},
           Case{"i,i->", {{33}, {33}}, {}},
           Case{"ij,ij->ij", {{3, 4}, {3, 4}}, {}},
           Case{"ij,ji->ij", {{3, 4}, {4, 3}}, {}},
           Case{"ij,ij->i", {{3, 4}, {3, 4}}, {}},
           Case{"ij,j->ij", {{3, 4}, {4}}, {}},
           Case{"ij,j->i", {{3, 4}, {4}}, {}},
           Case{"ij,kl->ik", {{3, 4}, {2, 5}}, {}},
           Case{",ij->ji", {{}, {3, 4}}, {}},
           Case{"...ij,...jk->...ik", {{2, 3, 1, 4}, {2, 3, 4, 2}}, {"efij", "efjk"}, "efik"},
           Case{"...d,df->...f", {{2, 3, 4}, {4, 5}}, {"xyd", "df"}, "xyf"},
           Case{"ij,jk->ik", {{0, 4}, {4, 2}}, {}},
           Case{"ij,jk->ik", {{3, 0}, {0, 2}}, {}},
           Case{"bij,bjk->bik", {{0, 3, 4}, {0, 4, 5}}, {}},
       })
    run(row_of(c));
}

TEST_CASE("einsum: three operands") {
  for (const Case& c :
       {Case{"ij,jk,kl->il", {{2, 3}, {3, 4}, {4, 5}}, {}}, Case{"bi,io,bo->b", {{2, 3}, {3, 4}, {2, 4}}, {}},
        Case{"i,j,k->kij", {{2}, {3}, {4}}, {}}, Case{"ij,ij,ij->j", {{2, 3}, {2, 3}, {2, 3}}, {}}})
    run(row_of(c));
}

TEST_CASE("einsum: a list of operands") {
  for (const auto& [m, k] : {std::pair{2, 3}, {0, 3}, {1, 33}, {1, 1025}}) {
    const Case c{"ij,kj->ik", {{m, k}, {2, k}}, {}};
    OpRow row = row_of(c);
    row.covers = "einsum(string_view, initializer_list)";
    row.function = [c](std::span<const Tensor> x) { return einsum(c.equation, {x[0], x[1]}); };
    run(row);
  }
}

TEST_CASE("errors: einsum") {
  const Tensor x = of({2, 3}), y = of({4, 3});
  expect({
      {[=] { einsum("ij,jk->ik", {x}); }, "einsum: 'ij,jk->ik' has 2 operands, got 1 tensors"},
      {[=] { einsum("ijk->ik", {x}); }, "einsum: 'ijk->ik' has 'ijk' for an operand of shape [2, 3]"},
      {[=] { einsum("...ijk", {x}); }, "einsum: '...ijk' has '...ijk' for an operand of shape [2, 3]"},
      {[=] {
         einsum("ij,jk->ik", {x, y});
       },
       "einsum: 'ij,jk->ik': label 'j' is 3 in one operand and 4 in another"},
      {[=] {
         einsum("...i,...->i", {x, y});
       },
       "einsum: '...i,...->i': a dimension of '...' is 2 in one operand and 3 in another"},
      {[=] {
         einsum("ii->i", {of({3, 3})});
       },
       "einsum: 'ii->i' has label 'i' twice in 'ii'; diagonals are not taken"},
      {[=] { einsum("ij->jj", {x}); }, "einsum: 'ij->jj' has label 'j' twice in 'jj'; diagonals are not taken"},
      {[=] { einsum("ij->ik", {x}); }, "einsum: 'ij->ik' has label 'k' in the result but in no operand"},
      {[=] { einsum("i1->i", {x}); },
       "einsum: 'i1->i' has '1' where only letters, one '...' an operand, ',' and one '->' may be"},
      {[=] { einsum("ij->i->j", {x}); },
       "einsum: 'ij->i->j' has '-' where only letters, one '...' an operand, ',' and one '->' may be"},
      {[=] {
         einsum("ij,kj->ik", {x, of({4, 3}, Dtype::f64)});
       },
       "einsum: the first operand is f32 and another is f64; convert one with cast"},
  });
}
