# SPDX-License-Identifier: Apache-2.0
"""moxie.h has every public header, and their reference builds without a warning."""
import fnmatch
import os
import re
import shutil
import subprocess
from pathlib import Path

RULE = ("moxie.h includes every public header, and Doxygen makes their reference, build/api/html/index.html, without a "
        "warning; which headers are internal is said in docs/api/Doxyfile")
CURE = "include the header in moxie.h, or name it in EXCLUDE_PATTERNS; correct the comment that the warning names"

LAYERS = ("core", "autograd", "nn", "moe")


def reached(repository, start):
    """Every header of the project that `start` includes, directly or not."""
    known, queue = set(), [start]
    while queue:
        path = queue.pop()
        for _, quoted, name in repository.includes(path):
            if quoted and Path(name) in repository.sources and Path(name) not in known:
                known.add(Path(name))
                queue.append(Path(name))
    return known


def check(repository):
    settings = repository.text("docs/api/Doxyfile").replace("\\\n", " ")
    internal = re.search(r"^EXCLUDE_PATTERNS\s*=(.*)$", settings, re.MULTILINE)[1].split()
    public = [f for f in repository.sources if f.suffix == ".h" and f.parts[0] in LAYERS
              and not any(fnmatch.fnmatch(f"/{f}", pattern) for pattern in internal)]
    problems = [f"moxie.h: does not include {path}"
                for path in sorted(set(public) - reached(repository, Path("moxie.h")))]

    if not shutil.which("doxygen"):
        return problems + ["doxygen is not installed; tools/setup.sh --dev does it"]
    (repository.root / "build").mkdir(exist_ok=True)
    version = re.search(r'library_version = "(.*)"', repository.text("core/version.h"))[1]
    done = subprocess.run(["doxygen", "docs/api/Doxyfile"], cwd=repository.root, capture_output=True, text=True,
                          env={**os.environ, "MOXIE_VERSION": version})
    warnings = [line.replace(f"{repository.root}/", "") for line in done.stderr.splitlines() if line.strip()]
    if done.returncode and not warnings:
        warnings = [f"doxygen failed with status {done.returncode}"]
    return problems + warnings[:30]
