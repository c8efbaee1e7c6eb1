# SPDX-License-Identifier: Apache-2.0
"""Source files stay short, and nothing built or large is tracked."""

RULE = "no source file has more than 400 lines; no tracked file is larger than 1 MB or made by a build"
CURE = "split the file by topic; make large files by a script at run time and ignore them in .gitignore"

LINES = 400
BYTES = 1_000_000
BUILT = {".o", ".a", ".so", ".obj", ".exe", ".pyc", ".gcda", ".gcno", ".ninja", ".log", ".orig", ".rej", ".swp"}
BUILT_NAMES = {"CMakeCache.txt", "compile_commands.json", ".DS_Store"}


def check(repository):
    problems = []
    for path in sorted({*repository.sources, *repository.scripts}):
        lines = repository.text(path).count("\n")
        if lines > LINES:
            problems.append(f"{path}: {lines} lines")
    for path in repository.files:
        size = (repository.root / path).stat().st_size
        if size > BYTES:
            problems.append(f"{path}: {size} bytes")
        with open(repository.root / path, "rb") as file:
            is_program = file.read(4) == b"\x7fELF"
        if is_program or path.suffix in BUILT or path.name in BUILT_NAMES or path.parts[0] == "build":
            problems.append(f"{path}: made by a build or an editor")
    return problems
