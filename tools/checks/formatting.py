# SPDX-License-Identifier: Apache-2.0
"""C++ is formatted by .clang-format."""
import re
import shutil
import subprocess

RULE = "clang-format 14 changes nothing"
CURE = "clang-format -i FILE"


def find_formatter():
    """Other versions format differently, so only version 14 counts."""
    for name in ("clang-format-14", "clang-format"):
        program = shutil.which(name)
        if program:
            said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
            version = re.search(r"version (\d+)", said)
            if version and version[1] == "14":
                return program
    return None


def check(repository):
    program = find_formatter()
    if not program:
        return "needs clang-format 14"
    if not repository.sources:
        return []
    done = subprocess.run([program, "--dry-run", "-Werror", *map(str, repository.sources)], cwd=repository.root,
                          capture_output=True, text=True)
    if done.returncode == 0:
        return []
    places = {}  # file -> its first place
    for line in done.stderr.splitlines():
        if ": error:" in line:
            name, number, _ = line.split(": error:")[0].rsplit(":", 2)
            places.setdefault(name, number)
    return [f"{name}:{number}" for name, number in sorted(places.items())] or [done.stderr]
