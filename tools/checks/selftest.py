#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the checks: each must be quiet on a clean project and find what is planted in it."""
import json
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
import api  # noqa: E402
import file_sizes  # noqa: E402
import formatting  # noqa: E402
import headers  # noqa: E402
import layering  # noqa: E402
import links  # noqa: E402
import messages  # noqa: E402
import readme  # noqa: E402
import shell  # noqa: E402
import spdx  # noqa: E402
from repository import Repository  # noqa: E402

CPP = "// SPDX-License-Identifier: Apache-2.0\n"
SCRIPT = "#!/usr/bin/env bash\n# SPDX-License-Identifier: Apache-2.0\n"
API = Path(__file__).parents[2] / "docs/api"
CLEAN = {
    "docs/api/Doxyfile": (API / "Doxyfile").read_text(),
    "docs/api/filter.py": (API / "filter.py").read_text(),
    "docs/api/main.md": "# Reference\n",
    "moxie.h": CPP + '#pragma once\n#include "autograd/tensor.h"\n#include "core/light.h"\n#include "core/version.h"\n',
    "core/version.h": CPP + '#pragma once\n// <now> @ 5 \\ #5\nint f();\n// library_version = "1.2.3"\n',
    "core/check.h": CPP + "#pragma once\n#include <fmt/core.h>\n",
    "core/light.h": CPP + "#pragma once\n#include <cstdint>\n",
    "core/kernels/add.h": CPP + '#pragma once\n#include "core/light.h"\n',
    "autograd/tensor.h": CPP + '#pragma once\n#include "core/check.h"\n',
    "nn/linear.cpp": CPP + '#include "autograd/tensor.h"\n',
    "moe/router.cpp": CPP + '#include "autograd/tensor.h"\n#include "core/kernels/add.h"\n',
    "cuda/a.h": CPP + "#pragma once\n",
    "tests/cuda/a_test.cpp": CPP + '#include "cuda/a.h"\n',
    "cuda/instances/add.cu": CPP + '#include "core/kernels/add.h"\n',
    "examples/b.h": CPP + "#pragma once\n",
    "examples/b.cpp": CPP + "int main() {\n  int x;\n  int y;\n}\n",
    "docs/walkthroughs/b.md": "```cpp\n int x; int y;\n```\n",
    "moe/checked.cpp": CPP + 'void f(int x) {\n  check(x > 0,\n        "f: x {} must be {} "\n        "even",\n'
                             '        x, g("a")); // "("\n  check(x < 9, "f: the sum [{}] is too large", x);\n'
                             '  throw std::runtime_error(fmt::format("f: no \'{}\' found", x));\n'
                             '  fail(fmt::format("f: \'{}\': {}", x, x));\n}\n',
    "tests/moe/router_test.cpp": CPP + '#include "autograd/tensor.h"\nCHECK("x 3 must be very "\n      "even");\n'
                                       'CHECK("sum [12] is"\n      " too large");\nCHECK("f: no \'a\' found");\n',
    "tools/checks/messages_untested.txt": "# none\n",
    "tools/x.sh": SCRIPT + "echo hello\n",
    "README.md": "# Moxie\n\n[design](docs/design.md#two-types) [here](#moxie) [web](https://example.com)\n"
                 "`[no](link.md)`\n\n```\n[no](link.md)\n```\n",
    "docs/design.md": "# Design\n\n## Two types\n\n[back](../README.md), [folder](../core)\n",
}

# (check, file, its text, what the check must say)
PLANTED = [
    (layering, "core/a.h", CPP + '#include "autograd/tensor.h"\n', "a.h:2: autograd/tensor.h: core is below autograd"),
    (layering, "nn/a.cpp", CPP + '  #  include "moe/b.h"\n', "there is no such file"),
    (layering, "moe/a.cpp", CPP + '#include "cuda/a.h"\n', "nobody includes cuda/ but tests/cuda/"),
    (layering, "tests/moe/a.cpp", CPP + '#include "cuda/a.h"\n', "nobody includes cuda/ but tests/cuda/"),
    (layering, "cuda/b.cu", CPP + '#include "autograd/tensor.h"\n', "cuda/ sees only core and the kernel headers"),
    (layering, "moe/kernels/a.h", CPP + '#include "autograd/tensor.h"\n', "a kernel header sees only core"),
    (layering, "bench/a.cpp", CPP + '#include "examples/b.h"\n', "bench does not see examples"),
    (layering, "core/a.cpp", CPP + "#include <core/light.h>\n", 'are written "core/light.h"'),
    (layering, "core/a.cpp", CPP + '#include "light.h"\n', "write the path from the root, core/light.h"),
    (layering, "core/kernels/a.h", CPP + '#include "core/check.h"\n',
     "core/check.h:3: <fmt/core.h> is reachable from CUDA <- core/kernels/a.h"),
    (layering, "core/light.h", CPP + "#include <map>\n", "core/light.h:2: <map> is reachable from CUDA"),
    (layering, "cuda/a.cu", CPP + "#include <fmt/format.h>\n", "cuda/a.cu:2: <fmt/format.h>"),
    (file_sizes, "core/a.cpp", CPP + "\n" * 400, "core/a.cpp: 401 lines"),
    (file_sizes, "tools/a.py", "\n" * 401, "tools/a.py: 401 lines"),
    (file_sizes, "docs/a.bin", "x" * 1_000_001, "docs/a.bin: 1000001 bytes"),
    (file_sizes, "core/a.o", "", "core/a.o: made by a build"),
    (file_sizes, "docs/program", "\x7fELF", "docs/program: made by a build"),
    (readme, "examples/moe_layer.cpp", CPP + "int main() {}\n", "README.md: its program differs"),
    (readme, "docs/library.md", "```cmake\nproject(x)\n```\n", "library.md: its program differs from tests/consumer/CMake"),
    (readme, "docs/walkthroughs/b.md", "```cpp\n  int y;\n  int z;\n```\n", "b.md: int y;: differs from examples/b.cpp"),
    (api, "nn/a.h", CPP + "#pragma once\n", "moxie.h: does not include nn/a.h"),
    (api, "core/light.h", CPP + "#pragma once\n/// @param y none\nvoid f(int x);\n", "argument 'y' of command @param"),
    (spdx, "core/a.h", "#pragma once\n", "core/a.h: first line is"),
    (spdx, "cuda/a.cu", "", "cuda/a.cu: empty"),
    (spdx, "tools/a.sh", "#!/bin/sh\necho\n", "tools/a.sh: first line is"),
    (spdx, "tools/a", "#!/bin/sh\necho\n", "tools/a: first line is"),
    (spdx, "nn/CMakeLists.txt", "project(x)\n", "nn/CMakeLists.txt: first line is"),
    (links, "docs/a.md", "\n[x](none.md)\n", "docs/a.md:2: none.md: there is no docs/none.md"),
    (links, "docs/a.md", "![x](../picture.png)\n", "there is no picture.png"),
    (links, "docs/a.md", "[x](design.md#three-types)\n", "docs/design.md has no section #three-types"),
    (links, "docs/a.md", "[x](#gone)\n", "docs/a.md has no section #gone"),
    (links, "docs/a.md", "[x]\n\n[x]: none.md\n", "there is no docs/none.md"),
    (links, "docs/a.md", '<img src="none.png">\n', "there is no docs/none.png"),
    (links, "docs/a.md", "[x](../../etc/passwd)\n", "leads out of the project"),
    (messages, "moe/a.cpp", CPP + 'check(x,\n      "g: no test says this, {}", 1);\n',
     'moe/a.cpp:2: no test expects "g: no test says this, {}"'),
    (messages, "moe/a.cpp", CPP + 'throw std::logic_error("g: thrown and forgotten");\n', "g: thrown and forgotten"),
    (messages, "moe/a.cpp", CPP + 'check(x, "f: the sum [{}] is not too large", 1);\n', "is not too large"),
    (messages, "moe/a.cpp", CPP + 'check(x, "f: the root [{}] is too large", 1);\n', "the root"),
    (messages, "tests/moe/router_test.cpp", CPP + 'TEST_CASE("f: x 3 must be") {}\n', "checked.cpp:3: no test"),
    (messages, "tools/checks/messages_untested.txt", "moe/checked.cpp: f: x {} must  # why\n", "remove the line"),
    (shell, "tools/a.sh", SCRIPT + "if true; then\n", "tools/a.sh"),
    (shell, ".ci/run", SCRIPT + "case x in\n", ".ci/run"),
    (headers, "core/a.h", CPP + "#pragma once\nstd::string f();\n", "core/a.h"),
    (headers, "moe/a.h", CPP + "struct A {};\n", "moe/a.h"),
    (headers, "nn/a.h", CPP + "#pragma once\nstatic int f() { int unused; return 0; }\n", "nn/a.h"),
    (formatting, "core/a.cpp", CPP + "int  f( ) ;\n", "core/a.cpp:2"),
]


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if text.startswith("#!"):
        path.chmod(0o755)


def problems_with(check, planted=None):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**CLEAN, **(planted or {})}.items():
            write(Path(folder), name, text)
        compile_core = {"directory": folder, "file": f"{folder}/core/x.cpp",
                        "command": f"c++ -std=c++20 -Wall -I{folder} -include string -c {folder}/core/x.cpp -o x.o"}
        write(Path(folder), "build/cpu/compile_commands.json", json.dumps([compile_core]))
        return check.check(Repository(folder))


def main():
    wrong = []
    for check in (layering, file_sizes, spdx, links, messages, shell, formatting, headers, api):
        found = problems_with(check)
        if found and not isinstance(found, str):
            wrong.append(f"{check.__name__} complains about a clean project: {found}")
    for check, name, text, message in PLANTED:
        found = problems_with(check, {name: text})
        if not isinstance(found, str) and not any(message in problem for problem in found):
            wrong.append(f"{check.__name__} with {name} = {text[:60]!r}: expected {message!r}, got {found}")
    print("\n".join(wrong) if wrong else f"selftest: fine, {len(PLANTED)} planted violations found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
