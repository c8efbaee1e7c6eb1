#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks tools/mutants.py: it must find the places of a planted backward rule and no others, and each mutant must compute
what it says."""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mutation import run, runtime  # noqa: E402
from mutation.generate import generate, is_source  # noqa: E402

KERNEL = """// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

namespace moxie {
// y = 2 x + 1
struct Line {
  double f(double x) const { return 2 * x + 1; }
  double d(double x, double y) const { return x < 0 ? -x : x * 1.5 - y; }
};
struct LineBackward {
  double operator()(double x, int64_t n) const {
    constexpr int64_t first = 1;
    double sum = 9, product = 6;
    // a - b in a comment, "a - b" in a string
    if constexpr (sizeof(double) == 8) sum += x;
#ifdef MOXIE_CUDA
    sum += x * 3;
#endif
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) sum += x;
    for (int64_t k = first; k <= n; ++k) product *= 2;
    const double last = double{3};
    const int64_t few = n < 5 ? n : 5;
    return n == 2 && true ? sum / product : few < 9 ? last : 0.;
  }
};
// dx = a x
struct Helper {
  double operator()(double a, double x) const { return a * x; }
};
struct Forward {
  double operator()(double a, double x) const { return a * x - 1; }
};
}  // namespace moxie
"""
RULE = """#include "core/kernels/line.h"
Tensor line(const Tensor& x) {
  const double forward = 3 * 2;
  return record("line", y, {x}, [](std::span<const Array> dy, Grads& grads) { grads.give(0, dy[0]); });
}
"""
# What is changed, and what the program prints: d(-2, 1), d(2, 1), the rule for x = 1 and n = 2, for n = 3, a helper.
UNCHANGED = "2 2 0.5 3 6"
WANTED = [
    ("<<<>> 0", "< -> <=", UNCHANGED),  # nothing is at 0
    ("x < <<0>>", "0 -> (0 + 1)", UNCHANGED),
    ("? <<->>x", "-x -> x", "-2 2 0.5 3 6"),
    ("x <<*>> 1.5", "* -> /", "2 0.333333 0.5 3 6"),
    ("<<1.5>>", "1.5 -> (2 * 1.5)", "2 5 0.5 3 6"),
    ("1.5 <<->> y", "- -> +", "2 4 0.5 3 6"),
    ("sum = <<9>>", "9 -> (9 + 1)", "2 2 0.541667 3 6"),
    ("product = <<6>>", "6 -> (6 + 1)", "2 2 0.428571 3 6"),
    ("sum <<+=>> x; #", "+= x -> += -x", None),  # two of them: under if constexpr, and in a loop
    ("k <<<=>> n", "<= -> <", "2 2 1 3 6"),
    ("product <<*=>> 2", "*= x -> *= 1 / x", None),
    ("*= <<2>>", "2 -> (2 + 1)", None),
    ("double{<<3>>}", "3 -> (3 + 1)", "2 2 0.5 4 6"),
    ("n <<==>> 2", "== -> !=", None),
    ("n == <<2>>", "2 -> (2 + 1)", None),
    ("n : <<5>>", "5 -> (5 + 1)", UNCHANGED),  # n is below
    ("n < <<5>>", "5 -> (5 + 1)", UNCHANGED),
    ("few <<<>> 9", "< -> <=", UNCHANGED),
    ("few < <<9>>", "9 -> (9 + 1)", UNCHANGED),
    ("<<0.>>", "0. -> 1.0", UNCHANGED),
    ("<<true>>", "true -> false", "2 2 3 3 6"),
    ("sum <</>> product", "/ -> *", "2 2 288 3 6"),
    ("a <<*>> x", "* -> /", "2 2 0.5 3 1.5"),
]
MAIN = """#include <cstdio>

#include "core/kernels/line.h"
int main() {
  const moxie::Line line;
  const moxie::LineBackward rule;
  std::printf("%g %g %g %g %g\\n", line.d(-2, 1), line.d(2, 1), rule(1, 2), rule(1, 3), moxie::Helper{}(3, 2));
}
"""


def planted_is_found(problems):
    sources = {"core/kernels/line.h": KERNEL, "autograd/ops/line.cpp": RULE, "nn/line.h": KERNEL}
    changed, regions, mutants = generate({path: text for path, text in sources.items() if is_source(path)})
    if sorted(changed) != ["autograd/ops/line.cpp", "core/kernels/line.h"]:
        problems.append(f"changed {sorted(changed)}")
    rule = [m.key.split(" | ", 2)[2] for m in mutants if m.path.endswith(".cpp")]
    if len(rule) != 1 or not all("give" in key for key in rule):
        problems.append(f"in the rule of line.cpp: {rule}")
    if changed["core/kernels/line.h"].count("\n") != KERNEL.count("\n") + 2:
        problems.append("the copy has other lines")
    keys = [m.key for m in mutants]
    if len(set(keys)) != len(keys):
        problems.append("a key is used twice")
    if generate({"core/kernels/line.h": KERNEL}, {keys[-1]})[2][-1].key == keys[-1]:
        problems.append("what is left out comes back")


def each_computes_what_it_says(problems, folder):
    changed, regions, mutants = generate({"core/kernels/line.h": KERNEL})
    files = {**changed, "core/mutation.h": runtime.HEADER, "main.cpp": MAIN,
             "core/mutation.cpp": runtime.SOURCE.replace("@REGIONS@", str(regions[-1].number + 1))}
    for name, text in files.items():
        run.write_if_changed(folder / name, text)
    subprocess.run(["c++", "-std=c++20", "-O2", "-fopenmp-simd", "-I.", "main.cpp", "core/mutation.cpp", "-o", "line"],
                   cwd=folder, check=True)

    def printed(number):
        return subprocess.run([folder / "line"], capture_output=True, text=True,
                              env={**os.environ, "MOXIE_MUTANT": str(number)}).stdout.strip()

    if printed(0) != UNCHANGED:
        problems.append(f"without a mutant: {printed(0)}")
    left = {m.number for m in mutants}
    for mark, change, wanted in WANTED:
        found = [m for m in mutants if mark.removesuffix(" #") in m.key and m.change == change]
        if not found:
            problems.append(f"no mutant {mark!r}: {change}")
        for mutant in found:
            left.discard(mutant.number)
            got = printed(mutant.number)
            if wanted is not None and got != wanted or wanted is None and got == UNCHANGED:
                problems.append(f"{mark!r}: {got} instead of {wanted or 'a change'}")
    problems += [f"unexpected: {m.key}" for m in mutants if m.number in left]


# A project with a gap in its tests: nothing looks at what d is below 0, nor at the rule in .cpp.
PROJECT = {
    "core/kernels/line.h": """#pragma once
#include <cstdint>
namespace moxie {
struct Line {
  double d(double x) const { return x < 0 ? -x : x * 3; }
};
// dx = x
struct Loop {
  int64_t operator()(int64_t n) const {
    int64_t count = n;
    while (count != 0) count += -1;
    return n + count;
  }
};
}  // namespace moxie
""",
    "core/line.cpp": "#include <cstdint>\n",
    "tests/main.cpp": "#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN\n#include <doctest/doctest.h>\n",
    "tests/line_test.cpp": """#include <doctest/doctest.h>

#include "core/kernels/line.h"
TEST_CASE("a line, above 0") { CHECK(moxie::Line{}.d(2) == 6); }
TEST_CASE("a loop") { CHECK(moxie::Loop{}(3) == 3); }
TEST_CASE("something else") { CHECK(true); }
""",
    "CMakePresets.json": '{"version": 6, "configurePresets": [{"name": "cpu", "generator": "Ninja", '
                         '"binaryDir": "${sourceDir}/build/cpu"}]}',
    "CMakeLists.txt": """cmake_minimum_required(VERSION 3.25)
project(line CXX)
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
include_directories(${PROJECT_SOURCE_DIR})
add_library(shared STATIC tests/main.cpp core/mutation.cpp)
foreach(name ops moe core autograd)
  add_executable(${name}_test tests/line_test.cpp)
  target_link_libraries(${name}_test $<LINK_LIBRARY:WHOLE_ARCHIVE,shared>)
endforeach()
""",
    "tools/mutants_equivalent.txt": """# reasons
core/kernels/line.h | Line::d | double d(double x) const { return x <<<>> 0 ? -x : x * 3; } ## nothing is at 0
core/kernels/line.h | Line::d | double d(double x) const { return x < 0 ? -x : x <<*>> 3; } ## wrong, it is killed
core/kernels/line.h | Line::d | gone ## stale
""",
}
SAID = ["-x -> x survived: core/kernels/line.h | Line::d | double d(double x) const { return x < 0 ? <<->>x : x * 3; }",
        "mutants_equivalent.txt: a test kills it, remove the line: core/kernels/line.h | Line::d | double d(double x) const "
        "{ return x < 0 ? -x : x <<*>> 3; }",
        "mutants_equivalent.txt: there is no such place any more: core/kernels/line.h | Line::d | gone",
        "the time limit 3;"]
NOT_SAID = ["nothing is at 0", "<<<>> 0 ? -x survived", "do not compile; 0"]


def gaps_are_reported(problems, folder):
    for name, text in PROJECT.items():
        run.write_if_changed(folder / name, text)
    done = subprocess.run([sys.executable, Path(__file__).resolve().parents[1] / "mutants.py", "--root", folder],
                          capture_output=True, text=True)
    if done.returncode != 1:
        problems.append(f"a project with a gap gave {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    problems += [f"not said: {text}\n{done.stdout}" for text in SAID if text not in done.stdout]
    problems += [f"said: {text}\n{done.stdout}" for text in NOT_SAID if text in done.stdout]


def main():
    problems = []
    planted_is_found(problems)
    with tempfile.TemporaryDirectory() as folder:
        each_computes_what_it_says(problems, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        gaps_are_reported(problems, Path(folder))
    print("\n".join(problems) if problems else f"mutants: fine, {len(WANTED)} kinds of change compute what they say")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
