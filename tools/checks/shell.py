# SPDX-License-Identifier: Apache-2.0
"""Shell scripts are sound."""
import shutil
import subprocess

RULE = "shell scripts pass bash -n, and shellcheck where it is installed, and can be executed"
CURE = "see the message; chmod +x"


def check(repository):
    problems = []
    shellcheck = shutil.which("shellcheck")
    for path in repository.scripts:
        full = repository.root / path
        first = repository.text(path).split("\n", 1)[0]
        if path.suffix != ".sh" and not (first.startswith("#!") and "sh" in first.split("/")[-1]):
            continue
        if not full.stat().st_mode & 0o100:
            problems.append(f"{path}: is not executable")
        for command in [["bash", "-n"]] + ([[shellcheck, "-f", "gcc"]] if shellcheck else []):
            done = subprocess.run(command + [str(path)], cwd=repository.root, capture_output=True, text=True)
            if done.returncode:
                problems += (done.stdout + done.stderr).strip().splitlines()
    return problems
