# SPDX-License-Identifier: Apache-2.0
"""Whole files that pages show are the ones that are built."""
import re

# (page, language of its first such block, the file that it shows)
SHOWN = [("README.md", "cpp", "examples/moe_layer.cpp"),
         ("docs/library.md", "cmake", "tests/consumer/CMakeLists.txt"),
         ("docs/library.md", "cpp", "tests/consumer/main.cpp")]
RULE = "; ".join(f"{page} shows {file}" for page, _, file in SHOWN) + ": as they are, below their first comment lines"
CURE = "copy the file into the page again"


def check(repository):
    problems = []
    for page, language, name in SHOWN:
        if not (repository.root / page).is_file():
            continue
        program = repository.text(name) if (repository.root / name).is_file() else ""
        comment = "#" if language == "cmake" else "//"
        body = re.sub(rf"\A({comment}[^\n]*\n)+", "", program).strip()
        shown = re.search(rf"```{language}\n(.*?)```", repository.text(page), re.DOTALL)
        if (shown[1].strip() if shown else "") != body:
            problems.append(f"{page}: its program differs from {name}")
    return problems
