# SPDX-License-Identifier: Apache-2.0
"""Builds the copy with all mutants in it, learns which test reaches which region, and runs the tests of each mutant."""
import concurrent.futures
import math
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass

from mutation import runtime

LIBRARY = ("core/", "autograd/", "nn/", "moe/")
BINARIES = ("ops_test", "moe_test", "core_test", "autograd_test")
FIRST_SECONDS, MORE_SECONDS = 1.5, 12  # of tests that a mutant meets first, and of those it meets if it survives them
WAIT_SECONDS = 60  # how much longer than its limit of the processor's time a run may take
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}


def write_if_changed(path, text):
    """Leaves the time of an unchanged file, so that only what changed is compiled again."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def reaching(repository, changed):
    """Sources of the library that have a mutant or include a header that has one."""
    includers = {}
    for path in repository.sources:
        for _, quoted, name in repository.includes(path):
            if quoted:
                includers.setdefault(name, []).append(str(path))
    found, queue = set(changed), list(changed)
    while queue:
        for path in includers.get(queue.pop(), []):
            if path not in found:
                found.add(path)
                queue.append(path)
    return sorted(path for path in found if path.endswith(".cpp") and path.startswith(LIBRARY))


def write_copy(root, repository, changed, regions, copy):
    """All files of the project below `copy`, those in `changed` with their mutants."""
    for name in repository.files:
        target = copy / name
        if str(name) in changed or str(name) in ("tests/main.cpp", "CMakeLists.txt"):
            continue
        if not target.exists() or target.stat().st_mtime < (root / name).stat().st_mtime:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_bytes() != (root / name).read_bytes():
                shutil.copyfile(root / name, target)
    for name, text in changed.items():
        write_if_changed(copy / name, text)
    count = str(max(region.number for region in regions) + 1)
    write_if_changed(copy / "core/mutation.h", runtime.HEADER)
    write_if_changed(copy / "core/mutation.cpp", runtime.SOURCE.replace("@REGIONS@", count))
    # A hundred switches in a function take an optimizer long, and the tests don't need its speed.
    cmake = (root / "CMakeLists.txt").read_text() + "\nset_source_files_properties(" + " ".join(
        reaching(repository, changed)) + " PROPERTIES COMPILE_OPTIONS -O1)\n"
    write_if_changed(copy / "CMakeLists.txt", cmake)
    main = (root / "tests/main.cpp").read_text() + runtime.RECORDER.replace("@REGIONS@", count)
    write_if_changed(copy / "tests/main.cpp", main)


def build(copy, jobs):
    """The output of a failed build; empty where all is fine."""
    options = ["-DMOXIE_EXAMPLES=OFF", "-DMOXIE_BENCH=OFF", "-DMOXIE_WERROR=OFF"]
    if shutil.which("ccache"):
        options.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
    for command in (["cmake", "--preset", "cpu", *options],
                    ["cmake", "--build", "build/cpu", "-j", str(jobs), "--target", *BINARIES, "--", "-k", "0"]):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        if done.returncode:
            return done.stdout + done.stderr
    return ""


def lines_with_errors(output, copy):
    """(path, line) of every place in a copied source that a compiler's error mentions."""
    places = set()
    for path, line in re.findall(r"([\w/.+-]+\.(?:h|cpp)):(\d+):\d+:", output):
        place = os.path.normpath(os.path.join(copy, "build/cpu", path))
        places.add((os.path.relpath(place, copy), int(line)))
    return places


@dataclass(frozen=True)
class Test:
    binary: str
    name: str
    seconds: float
    regions: frozenset


class Runner:
    def __init__(self, copy):
        self.copy = copy
        self.fine = {}  # batches of tests that pass without a mutant

    def command(self, tests):
        names = ",".join(t.name.replace(",", "?") for t in tests)
        return [f"build/cpu/bin/{tests[0].binary}", f"-tc={names}", "-aa=1", "-nv=true"]

    def run(self, tests, number, limit):
        """(True where the tests pass, how they failed otherwise). `limit` is of the processor's time, so that a busy
        machine makes no difference; a clock catches tests that wait for ever."""
        command = ["prlimit", f"--cpu={math.ceil(limit)}:{math.ceil(limit) + 5}", *self.command(tests)]
        try:
            done = subprocess.run(command, cwd=self.copy, timeout=WAIT_SECONDS + 4 * limit, capture_output=True,
                                  text=True, errors="replace",
                                  env={**os.environ, **ENVIRONMENT, "MOXIE_MUTANT": str(number)})
        except subprocess.TimeoutExpired:
            return False, "time"
        ran = re.search(r"test cases:\s*(\d+) \|", done.stdout)
        if done.returncode == 0 and (not ran or int(ran[1]) < len({t.name for t in tests})):
            raise RuntimeError(f"{tests[0].binary} did not find all of {[t.name for t in tests]}:\n{done.stdout[-400:]}")
        if done.returncode == -signal.SIGXCPU:
            return False, "time"
        return done.returncode == 0, "test" if done.returncode in (0, 1) else "crash"

    def record(self, path):
        """Every passing test case with the regions it reaches."""
        tests = []
        for binary in BINARIES:
            path.unlink(missing_ok=True)
            subprocess.run([f"build/cpu/bin/{binary}"], cwd=self.copy, capture_output=True,
                           env={**os.environ, **ENVIRONMENT, "MOXIE_MUTANT_RECORD": str(path)})
            for line in path.read_text().splitlines():
                seconds, name, reached = line.split("\t")
                tests.append(Test(binary, name, float(seconds), frozenset(int(r) for r in reached.split())))
        return tests

    def limit(self, tests):
        return 5 + 10 * sum(t.seconds for t in tests)

    def passes_unchanged(self, batch):
        if batch not in self.fine:
            self.fine[batch] = self.run(batch, 0, 4 * self.limit(batch))[0]
        return self.fine[batch]

    def batches(self, region, tests):
        """Tests that reach the region, the quick and special ones first; each batch is of one binary."""
        reaching = sorted((t for t in tests if region in t.regions), key=lambda t: t.seconds + 0.02 * len(t.regions))
        first, more, spent = [], [], 0
        for test in reaching:
            (first if spent < FIRST_SECONDS and len(first) < 8 else more).append(test)
            spent += test.seconds
            if spent > MORE_SECONDS and first:
                break
        result = []
        for part in (first, more):
            for binary in BINARIES:
                batch = tuple(t for t in part if t.binary == binary)
                if batch:
                    result.append((batch, part is first))
        return result

    def fate(self, mutant, tests, quick):
        """How the mutant ended: "test", "crash" or "time" where it was killed, "survived", or "unreached"."""
        batches = self.batches(mutant.region, tests)
        if not batches:
            return "unreached"
        for batch, first in batches:
            if not first and quick:
                break
            if not self.passes_unchanged(batch):
                continue  # tests that need to run with others
            passed, how = self.run(batch, mutant.number, self.limit(batch))
            if not passed:
                return how
        return "survived"


def run_all(runner, mutants, tests, jobs, quick, tell):
    """Fates by number; `quick` says for which mutants the first tests are enough."""
    fates, started = {}, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(runner.fate, m, tests, m.key in quick): m for m in mutants}
        for done in concurrent.futures.as_completed(waiting):
            mutant = waiting[done]
            fates[mutant.number] = done.result()
            tell(mutant, fates[mutant.number], len(fates), time.monotonic() - started)
    return fates
