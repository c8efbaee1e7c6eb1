// SPDX-License-Identifier: Apache-2.0
// Every op declared in autograd/ops/*.h has a row. Runs after the other files of this folder, whose rows it counts.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "tests/ops/harness.h"

using namespace moxie;
using namespace moxie::testing;

namespace {

// Without comments and default values.
std::string essence(std::string text) {
  text = std::regex_replace(text, std::regex("//[^\n]*"), "");
  return std::regex_replace(text, std::regex(" = [^,;()]*(?=[,)])"), "");
}

// "const std::vector<T>& x" -> "vector"
std::string type_of(std::string parameter) {
  parameter = std::regex_replace(parameter, std::regex("<[^>]*>"), "");
  parameter = std::regex_replace(parameter, std::regex("\\bconst\\b|\\bstd::|&"), "");
  std::istringstream words(parameter);
  std::string type;
  words >> type;
  return type;
}

// Declarations of functions that give a Tensor, several, or TopK: "name(types)".
std::vector<std::string> declarations(const std::string& header) {
  std::vector<std::string> result;
  const std::regex declaration(
      "\\n(?:inline )?(?:Tensor|TopK|std::vector<Tensor>) (operator.|\\w+)\\(([^;{]*)\\)[ \\n]*[;{]");
  for (auto match = std::sregex_iterator(header.begin(), header.end(), declaration); match != std::sregex_iterator();
       ++match) {
    std::string types, parameter;
    std::istringstream parameters((*match)[2]);
    while (std::getline(parameters, parameter, ',')) types += (types.empty() ? "" : ", ") + type_of(parameter);
    result.push_back((*match)[1].str() + "(" + types + ")");
  }
  return result;
}

}  // namespace

TEST_CASE("the parser of declarations") {
  const std::string header = essence(
      "\n// Tensor no(const Tensor& x);\nTensor add(const Tensor& x, const Tensor& y);  // sum\nTopK top(const Tensor& "
      "x, int64_t "
      "k = 1);\ninline Tensor operator*(double s, const Tensor& x) { return x; }\nTensor c(std::span<const Tensor> "
      "x,\n   "
      "RandomKey key, Options options = {});\nint64_t width(int64_t x);\n\nstd::vector<Tensor> s(const Tensor& x);\n");
  CHECK(declarations(header) == std::vector<std::string>{"add(Tensor, Tensor)", "top(Tensor, int64_t)",
                                                         "operator*(double, Tensor)", "c(span, RandomKey, Options)",
                                                         "s(Tensor)"});
}

TEST_CASE("every op has a row, and every row an op") {
  const std::filesystem::path fixtures = MOXIE_TEST_FIXTURES;  // tests/fixtures
  std::stringstream text;
  for (const auto& entry :
       std::filesystem::directory_iterator(fixtures.parent_path().parent_path() / "autograd" / "ops"))
    if (entry.path().extension() == ".h") text << std::ifstream(entry.path()).rdbuf();
  const std::vector<std::string> declared = declarations(essence(text.str()));
  CHECK(declared.size() >= 55);  // otherwise the parser has lost its way
  const std::set<std::string> rows(covered().begin(), covered().end());
  for (const std::string& op : declared) {
    INFO(op, " has no row in tests/ops");
    CHECK(rows.contains(op));
  }
  for (const std::string& row : rows) {
    INFO(row, " is not declared in autograd/ops/");
    CHECK(std::find(declared.begin(), declared.end(), row) != declared.end());
  }
}
