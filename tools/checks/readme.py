# SPDX-License-Identifier: Apache-2.0
"""Programs that pages show are the ones that are built."""
import re

# (page, language of a block, the file that it shows)
SHOWN = [("README.md", "cpp", "examples/moe_layer.cpp"),
         ("docs/library.md", "cmake", "tests/consumer/CMakeLists.txt"),
         ("docs/library.md", "cpp", "tests/consumer/main.cpp"),
         ("docs/autograd.md", "cpp", "examples/autograd_tour.cpp")]
PIECES = "docs/walkthroughs"  # a page here shows pieces of the example of its name
RULE = "; ".join(f"{page} shows {file}" for page, _, file in SHOWN) + ": as they are, below their first comment lines; "
RULE += f"every piece of C++ in {PIECES}/NAME.md is in examples/NAME.cpp"
CURE = "copy the file into the page again"


def check(repository):
    problems = []
    for page, language, name in SHOWN:
        if not (repository.root / page).is_file():
            continue
        program = repository.text(name) if (repository.root / name).is_file() else ""
        comment = "#" if language == "cmake" else "//"
        body = re.sub(rf"\A({comment}[^\n]*\n)+", "", program).strip()
        shown = re.findall(rf"```{language}\n(.*?)```", repository.text(page), re.DOTALL)
        if body not in [block.strip() for block in shown]:
            problems.append(f"{page}: its program differs from {name}")
    for page in repository.files:
        name = f"examples/{page.stem}.cpp"
        if str(page.parent) != PIECES or not (repository.root / name).is_file():
            continue
        program = squeezed(repository.text(name))
        for piece in re.findall(r"```cpp\n(.*?)```", repository.text(page), re.DOTALL):
            if squeezed(piece) not in program:
                problems.append(f"{page}: {piece.strip().splitlines()[0].strip()}: differs from {name}")
    return problems


def squeezed(text):
    """Without line breaks and indentation, which pages and clang-format choose in their own way."""
    return re.sub(r"\s+", " ", text).strip()
