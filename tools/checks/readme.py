# SPDX-License-Identifier: Apache-2.0
"""The program that the README shows is the one that is built."""
import re

RULE = "README.md shows examples/moe_layer.cpp as it is, below its first comment lines"
CURE = "copy the program into the README again"


def check(repository):
    program = repository.text("examples/moe_layer.cpp") if (repository.root / "examples/moe_layer.cpp").is_file() else ""
    body = re.sub(r"\A(//[^\n]*\n)+", "", program).strip()
    shown = re.search(r"```cpp\n(.*?)```", repository.text("README.md"), re.DOTALL)
    if (shown[1].strip() if shown else "") != body:
        return ["README.md: its program differs from examples/moe_layer.cpp"]
    return []
