// SPDX-License-Identifier: Apache-2.0
// ONNX's node tests, computed by moxie. Without the file of tools/onnx_cases.py this fails: nothing was tested then.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "tests/fixture.h"
#include "tests/onnx/graph.h"

namespace moxie::testing::onnx {
namespace {

// Rounding in f32; ONNX's own runner allows 1e-3 and 1e-7.
constexpr double relative = 1e-5, absolute = 1e-6;
// All of ONNX 1.22.0, and those that moxie computes. Whoever teaches moxie an operator raises the second.
constexpr size_t all_cases = 1765, passing_cases = 759;

// Empty where equal.
std::string difference(const Array& got, const Array& wanted) {
  if (got.dtype() != wanted.dtype())
    return fmt::format("{} instead of {}", name_of(got.dtype()), name_of(wanted.dtype()));
  if (got.shape() != wanted.shape()) return fmt::format("{} instead of {}", got.shape(), wanted.shape());
  const std::vector<double> a = got.to_vector<double>(), b = wanted.to_vector<double>();
  for (size_t i = 0; i < a.size(); ++i) {
    const bool same = a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])) ||
                      (std::isfinite(b[i]) && std::abs(a[i] - b[i]) <= absolute + relative * std::abs(b[i]));
    if (!same) return fmt::format("element {} is {} instead of {}", i, a[i], b[i]);
  }
  return "";
}

// Empty where all outputs are equal. Throws Unsupported.
std::string problem_of(const Case& what) {
  std::vector<Array> outputs;
  try {
    outputs = evaluate(what);
  } catch (const Unsupported&) {
    throw;
  } catch (const std::exception& error) {
    return error.what();
  }
  const auto& names = what.graph.at("outputs");
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string name = names[i];
    const std::string found = difference(outputs[i], what.tensors.at("output/" + name));
    if (!found.empty()) return fmt::format("output {}: {}", name, found);
  }
  return "";
}

}  // namespace

TEST_CASE("ONNX node tests: every case whose operator, attributes and dtypes moxie has passes") {
  const std::filesystem::path path = fixtures_folder().parent_path().parent_path() / "data/onnx/cases.safetensors";
  REQUIRE_MESSAGE(std::filesystem::exists(path), "tools/onnx_cases.py makes ", path.string());
  const Cases cases = read_cases(path.string());

  size_t passed = 0, failed = 0;
  std::map<std::string, std::vector<std::string>> left;
  for (const auto& [name, reason] : cases.left) left[reason].push_back(name);
  for (const Case& what : cases.cases) {
    try {
      const std::string problem = problem_of(what);
      CHECK_MESSAGE(problem.empty(), what.name, ": ", problem);
      (problem.empty() ? passed : failed) += 1;
    } catch (const Unsupported& reason) {
      left[reason.what()].push_back(what.name);
    }
  }

  const bool with_names = std::getenv("MOXIE_ONNX_LIST") != nullptr;
  size_t left_out = 0;
  std::vector<std::pair<size_t, std::string>> reasons;
  for (const auto& [reason, names] : left) reasons.emplace_back(names.size(), reason), left_out += names.size();
  std::sort(reasons.rbegin(), reasons.rend());
  fmt::print("onnx: {} cases passed, {} failed, {} left out:\n", passed, failed, left_out);
  for (const auto& [count, reason] : reasons) {
    fmt::print("  {:4} {}\n", count, reason);
    if (with_names)
      for (const std::string& name : left[reason]) fmt::print("         {}\n", name);
  }
  CHECK(passed + failed + left_out == all_cases);
  CHECK(passed == passing_cases);
}

}  // namespace moxie::testing::onnx
