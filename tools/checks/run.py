#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the rules of the repository: tools/checks/run.py [CHECK...], without a name all of them."""
import argparse
import importlib
import sys
from pathlib import Path

sys.dont_write_bytecode = True
from repository import Repository  # noqa: E402

CHECKS = ["layering", "file_sizes", "spdx", "links", "readme", "messages", "shell", "formatting", "headers", "api"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CHECK", help=", ".join(CHECKS))
    parser.add_argument("--root", default=Path(__file__).parents[2], help="the project (default: this one)")
    parser.add_argument("--build", help="a configured build folder, for headers (default: build/cpu)")
    arguments = parser.parse_args()
    for name in set(arguments.names) - set(CHECKS):
        parser.error(f"no check is called {name}; there are {', '.join(CHECKS)}")

    repository = Repository(arguments.root, arguments.build)
    failed = False
    for name in arguments.names or CHECKS:
        check = importlib.import_module(name)
        problems = check.check(repository)
        if isinstance(problems, str):
            print(f"{name}: SKIPPED, {problems}")
        elif problems:
            failed = True
            print(f"{name}: {len(problems)} found\n  rule: {check.RULE}\n  cure: {check.CURE}")
            for problem in problems:
                print(f"    {problem}")
        else:
            print(f"{name}: fine")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
