// SPDX-License-Identifier: Apache-2.0
// Every op declared in autograd/ops/*.h has a row. Runs after the other files of this folder, whose rows it counts.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "tests/fixture.h"
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

// Declarations of functions that give tensors or arrays: "name(types)".
std::vector<std::string> declarations(const std::string& header) {
  std::vector<std::string> result;
  const std::regex declaration(
      "\\n(?:inline )?(?:Tensor|Array|TopK|Sorted|NormedSum|std::vector<Tensor>) (operator.|\\w+)\\(([^;{]*)\\)[ "
      "\\n]*[;{]");
  for (auto match = std::sregex_iterator(header.begin(), header.end(), declaration); match != std::sregex_iterator();
       ++match) {
    std::string types, parameter;
    std::istringstream parameters((*match)[2]);
    while (std::getline(parameters, parameter, ',')) types += (types.empty() ? "" : ", ") + type_of(parameter);
    result.push_back((*match)[1].str() + "(" + types + ")");
  }
  return result;
}

// Ops whose rows can't have everything, and why.
struct Exception {
  std::string op, missing, reason;
};
const std::vector<Exception> exceptions = {
    {"mean(Tensor)", "empty", "nothing has no mean; tests/ops/errors_test.cpp"},
    {"max(Tensor)", "empty", "nothing has no largest element; tests/ops/reduce_extreme_test.cpp"},
    {"min(Tensor)", "empty", "nothing has no smallest element; tests/ops/reduce_extreme_test.cpp"},
    {"var(Tensor, VarianceOptions)", "empty", "nothing has no mean"},
    {"standard_deviation(Tensor, VarianceOptions)", "empty, size 1", "its gradient at 0 is not a number to check"}};

}  // namespace

TEST_CASE("the parser of declarations") {
  const std::string header = essence(
      "\n// Tensor no(const Tensor& x);\nTensor add(const Tensor& x, const Tensor& y);  // sum\nTopK top(const Tensor& "
      "x, int64_t "
      "k = 1);\ninline Tensor operator*(double s, const Tensor& x) { return x; }\nTensor c(std::span<const Tensor> "
      "x,\n   "
      "RandomKey key, Options options = {});\nint64_t width(int64_t x);\n\nstd::vector<Tensor> s(const Tensor& x);\n"
      "Array less(const Tensor& x, double y);\n");
  CHECK(declarations(header) == std::vector<std::string>{"add(Tensor, Tensor)", "top(Tensor, int64_t)",
                                                         "operator*(double, Tensor)", "c(span, RandomKey, Options)",
                                                         "s(Tensor)", "less(Tensor, double)"});
}

TEST_CASE("every op has a row, and every row an op") {
  const std::filesystem::path fixtures = fixtures_folder();
  std::stringstream text;
  for (const auto& entry :
       std::filesystem::directory_iterator(fixtures.parent_path().parent_path() / "autograd" / "ops"))
    if (entry.path().extension() == ".h" && entry.path().filename() != "common.h")
      text << std::ifstream(entry.path()).rdbuf();
  const std::vector<std::string> declared = declarations(essence(text.str()));
  CHECK(declared.size() >= 55);  // otherwise the parser has lost its way
  for (const std::string& op : declared) {
    INFO(op, " has no row in tests/ops");
    CHECK(coverage().contains(op));
  }
  for (const auto& [row, what] : coverage()) {
    INFO(row, " is not declared in autograd/ops/");
    CHECK(std::find(declared.begin(), declared.end(), row) != declared.end());
  }
}

TEST_CASE("every op's rows have an empty input, a dimension of size 1, and sizes around 32 and 1024") {
  std::map<std::string, std::string> missing;
  for (const auto& [op, has] : coverage()) {
    if (!has.rows) continue;  // a test case of its own
    std::string what;
    if (!has.empty) what += ", empty";
    if (!has.size_one) what += ", size 1";
    if (!has.around_32) what += ", around 32";
    if (!has.around_1024) what += ", around 1024";
    if (!what.empty()) missing[op] = what.substr(2);
  }
  for (const Exception& exception : exceptions) {
    INFO(exception.op, ": the rows have it, or another part of it, now");
    CHECK(missing[exception.op] == exception.missing);
    missing.erase(exception.op);
  }
  for (const auto& [op, what] : missing) {
    INFO(op, " has no row with: ", what);
    CHECK(false);
  }
}

TEST_CASE("the table's files come before this one") {
  const std::filesystem::path folder = fixtures_folder().parent_path() / "ops";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    INFO(name, " runs after table_test.cpp, which doesn't see its rows; give it a name that comes earlier");
    CHECK((!name.ends_with("_test.cpp") || name <= "table_test.cpp"));
  }
}
