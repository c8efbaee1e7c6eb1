# SPDX-License-Identifier: Apache-2.0
"""What the copy of the sources gets in addition: the switch, and a recorder of which test reaches what."""

HEADER = r"""// Made by tools/mutants.py.
#pragma once
#include <type_traits>
namespace moxie::mutation {
extern const int active;      // the number of the mutant that is on; 0: none
extern const bool recording;  // notes which region is reached
extern unsigned char reached[];
#define MOXIE_MUTATION_INLINE inline __attribute__((always_inline))
MOXIE_MUTATION_INLINE void reach(int region) {
  if (recording) [[unlikely]]
    reached[region] = 1;
}
// a OP b is written a OP X{n} OP b: the first OP takes a along, the second computes the one or the other.
#define MOXIE_MUTATION_OPERATOR(Name, op, other)                                                            \
  struct Name { int n; };                                                                                   \
  template <class A> struct Name##Left { const A& a; int n; };                                              \
  template <class A> MOXIE_MUTATION_INLINE Name##Left<A> operator op(const A& a, Name m) { return {a, m.n}; } \
  template <class A, class B> MOXIE_MUTATION_INLINE auto operator op(const Name##Left<A>& l, const B& b) {  \
    return active == l.n ? l.a other b : l.a op b;                                                          \
  }
MOXIE_MUTATION_OPERATOR(Add, +, -)
MOXIE_MUTATION_OPERATOR(Subtract, -, +)
MOXIE_MUTATION_OPERATOR(Multiply, *, /)
MOXIE_MUTATION_OPERATOR(Divide, /, *)
MOXIE_MUTATION_OPERATOR(Less, <, <=)
MOXIE_MUTATION_OPERATOR(Greater, >, >=)
MOXIE_MUTATION_OPERATOR(LessEqual, <=, <)
MOXIE_MUTATION_OPERATOR(GreaterEqual, >=, >)
MOXIE_MUTATION_OPERATOR(Equal, ==, !=)
MOXIE_MUTATION_OPERATOR(NotEqual, !=, ==)
// -x is written Minus{n} ->* x
struct Minus { int n; };
template <class A> MOXIE_MUTATION_INLINE auto operator->*(Minus m, const A& a) { return active == m.n ? +a : -a; }
// x += e is written x += Sign{n} = e, x *= e is x *= Inverse{n} = e
struct Sign {
  int n;
  template <class A> MOXIE_MUTATION_INLINE A operator=(const A& a) { return active == n ? A(-a) : a; }
};
struct Inverse {
  int n;
  template <class A> MOXIE_MUTATION_INLINE A operator=(const A& a) { return active == n ? A(A(1) / a) : a; }
};
// A number within braces, where a conditional expression would be narrowed.
template <class V> struct Number {
  int n;
  V value, other;
  template <class T> MOXIE_MUTATION_INLINE operator T() const { return static_cast<T>(active == n ? other : value); }
};
template <class V> Number(int, V, V) -> Number<V>;
}  // namespace moxie::mutation
"""

SOURCE = r"""// Made by tools/mutants.py.
#include <cstdlib>

#include "core/mutation.h"
namespace moxie::mutation {
namespace {
int number(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::atoi(text);
}
}  // namespace
const int active = number("MOXIE_MUTANT");
const bool recording = std::getenv("MOXIE_MUTANT_RECORD") != nullptr;
unsigned char reached[@REGIONS@] = {};
}  // namespace moxie::mutation
"""

# Appended to tests/main.cpp.
RECORDER = r"""
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/mutation.h"

namespace {

// Writes a line for each test case: seconds, name, regions that it reached; parted by tabs.
struct Recorder final : doctest::IReporter {
  explicit Recorder(const doctest::ContextOptions&) {
    if (const char* path = std::getenv("MOXIE_MUTANT_RECORD")) file = std::fopen(path, "w");
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {
    if (file) std::fclose(file);
    file = nullptr;
  }
  void test_case_start(const doctest::TestCaseData& data) override {
    name = data.m_name;
    std::memset(moxie::mutation::reached, 0, @REGIONS@);
    start = std::chrono::steady_clock::now();
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (!file || stats.failure_flags != 0) return;
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::fprintf(file, "%.4f\t%s\t", seconds.count(), name);
    for (int i = 0; i < @REGIONS@; ++i)
      if (moxie::mutation::reached[i]) std::fprintf(file, "%d ", i);
    std::fputc('\n', file);
    std::fflush(file);
  }
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}

  std::FILE* file = nullptr;
  const char* name = "";
  std::chrono::steady_clock::time_point start;
};
REGISTER_LISTENER("recorder", 1, Recorder);

}  // namespace
"""
