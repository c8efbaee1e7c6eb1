#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the tests of backward rules: changes each rule in one place at a time and sees whether a test fails.

The mutants are found in the sources: a sign, a factor, an index or a bound in a hand-written backward. A copy of the
project holds all of them behind one switch, is compiled once, and runs for each mutant the tests that reach its place.
A mutant that no test kills is a gap in the tests, unless tools/mutants_equivalent.txt says why it changes nothing.
"""
import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent / "checks"))
from mutation import run  # noqa: E402
from mutation.generate import generate, is_source  # noqa: E402
from repository import Repository  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SEPARATOR = " ## "
KILLED = ("test", "crash", "time")


def read_equivalent(path):
    """Reasons by key."""
    reasons = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.strip() and not line.startswith("#"):
            key, _, reason = line.partition(SEPARATOR)
            reasons[key.strip()] = reason.strip()
    return reasons


def build_until_it_compiles(root, repository, sources, copy, jobs):
    """(regions, mutants); leaves out mutants that don't compile."""
    left_out = set()
    while True:
        changed, regions, mutants = generate(sources, left_out)
        run.write_copy(root, repository, changed, regions, copy)
        output = run.build(copy, jobs)
        if not output:
            return regions, mutants, left_out
        places = run.lines_with_errors(output, copy)
        bad = {m.key for m in mutants if (m.path, m.line) in places}
        if not bad:
            sys.exit(f"mutants: the copy in {copy} does not build:\n{output[-4000:]}")
        print(f"mutants: {len(bad)} don't compile and are left out", flush=True)
        left_out |= bad


def spread(mutants, count):
    """`count` of them, evenly over all files."""
    step = max(1.0, len(mutants) / count)
    return [mutants[int(i * step)] for i in range(min(count, len(mutants)))]


def table(mutants, fates, reasons):
    """By folder: mutants of each kind, and how they ended."""
    columns = ("sign", "factor", "index", "bound", "test", "crash", "time", "equivalent", "survived")
    rows = {}
    for mutant in mutants:
        fate = fates[mutant.number]
        if fate not in KILLED:
            fate = "equivalent" if mutant.key in reasons else "survived"
        for name in (os.path.dirname(mutant.path), "all"):
            row = rows.setdefault(name, dict.fromkeys(columns, 0))
            row[mutant.kind] += 1
            row[fate] += 1
    rows["all"] = rows.pop("all")
    lines = ["| folder | mutants | " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) + 1)]
    for name, row in rows.items():
        lines.append(f"| `{name}` | {sum(row[kind] for kind in columns[:4])} | " + " | ".join(map(str, row.values())) + " |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, metavar="N", help="run only N mutants, spread over all files")
    parser.add_argument("--only", metavar="TEXT", help="run only mutants whose path and function contain TEXT")
    parser.add_argument("--list", action="store_true", help="print the mutants; build and run nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="default: one for each processor")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project (default: this one)")
    parser.add_argument("--folder", type=Path, help="where the copy goes (default: build/mutants in the project)")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    folder = (arguments.folder or root / "build/mutants").resolve()

    started = time.monotonic()
    repository = Repository(root)
    sources = {str(path): repository.text(path) for path in repository.files if is_source(str(path))}
    found = generate(sources)[2]
    if arguments.list:
        for mutant in found:
            print(f"{mutant.path}:{mutant.line}: {mutant.kind}: {mutant.change}: {mutant.key}")
        return 0
    if arguments.only and not any(arguments.only in f"{m.path} {m.name}" for m in found):
        parser.error(f"no mutant's path and function contain '{arguments.only}'; --list prints them")
    reasons = read_equivalent(root / "tools/mutants_equivalent.txt")
    copy = folder / "source"
    regions, mutants, uncompiled = build_until_it_compiles(root, repository, sources, copy, arguments.jobs)
    built = time.monotonic()
    runner = run.Runner(copy)
    tests = runner.record(folder / "reached.txt")
    print(f"mutants: {len(mutants)} in {len(regions)} rules, built in {built - started:.0f} s; {len(tests)} test cases "
          f"recorded in {time.monotonic() - built:.0f} s", flush=True)

    chosen = mutants
    if arguments.only:
        chosen = [m for m in chosen if arguments.only in f"{m.path} {m.name}"]
    if arguments.sample:
        chosen = spread(chosen, arguments.sample)

    problems = []

    def tell(mutant, fate, count, seconds):
        if fate in ("survived", "unreached") and mutant.key not in reasons:
            problems.append(f"{mutant.path}:{mutant.line}: {mutant.change} {fate}: {mutant.key}")
            print(problems[-1], flush=True)
        elif fate in KILLED and mutant.key in reasons:
            problems.append(f"mutants_equivalent.txt: a test kills it, remove the line: {mutant.key}")
            print(problems[-1], flush=True)
        if count % 100 == 0:
            print(f"mutants: {count} of {len(chosen)} after {seconds:.0f} s", flush=True)

    fates = run.run_all(runner, chosen, tests, arguments.jobs, reasons, tell)
    keys = {m.key for m in mutants} | uncompiled
    for key in set(reasons) - keys:
        problems.append(f"mutants_equivalent.txt: there is no such place any more: {key}")
    (folder / "result.json").write_text(json.dumps({m.key: fates[m.number] for m in chosen}, indent=0))
    print("\n".join(table(chosen, fates, reasons)))
    how = {fate: sum(f == fate for f in fates.values()) for fate in (*KILLED, "survived", "unreached")}
    print(f"mutants: {len(chosen)} of {len(mutants)} run; killed by a failing test {how['test']}, a crash "
          f"{how['crash']}, the time limit {how['time']}; {how['survived'] + how['unreached']} not killed, "
          f"{len(uncompiled)} do not compile; {time.monotonic() - started:.0f} s in all")
    for problem in problems:
        print(f"  {problem}")
    return 1 if problems or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
