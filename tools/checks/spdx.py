# SPDX-License-Identifier: Apache-2.0
"""Every source names its licence."""

RULE = "the first line of every source (the second after #!) is its SPDX line"
CURE = "add '// SPDX-License-Identifier: Apache-2.0', with # in scripts"


def check(repository):
    problems = []
    expected = {path: "// SPDX-License-Identifier: Apache-2.0" for path in repository.sources}
    expected.update({path: "# SPDX-License-Identifier: Apache-2.0" for path in repository.scripts})
    for path, line in sorted(expected.items()):
        lines = repository.text(path).splitlines()[:2]
        if lines and lines[0].startswith("#!"):
            lines = lines[1:]
        if lines[:1] != [line]:
            problems.append(f"{path}: first line is {lines[0][:60]!r}" if lines else f"{path}: empty")
    return problems
