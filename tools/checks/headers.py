# SPDX-License-Identifier: Apache-2.0
"""Every public header compiles alone."""
import json
import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor

RULE = ("every header of core, autograd, nn and moe compiles alone, included twice, without a warning, "
        "with the project's flags")
CURE = "include what the header uses, mark its functions inline, and begin it with #pragma once"

LAYERS = ("core", "autograd", "nn", "moe")


def flags_of(repository):
    """The command that compiles one of the library's sources, without input, output and precompiled headers."""
    commands = json.loads((repository.build / "compile_commands.json").read_text())
    for entry in commands:
        try:
            layer = os.path.relpath(entry["file"], repository.root).split(os.sep)[0]
        except ValueError:
            continue
        if layer in LAYERS:
            words = shlex.split(entry["command"])
            if "ccache" in os.path.basename(words[0]):
                words = words[1:]
            return [w for i, w in enumerate(words)
                    if w not in ("-c", "-o", "-include", entry["file"]) and words[i - 1] not in ("-o", "-include")]
    raise SystemExit(f"headers: {repository.build}/compile_commands.json has no source of the library")


def check(repository):
    if not (repository.build / "compile_commands.json").exists():
        raise SystemExit(f"headers: {repository.build} is not configured; run tools/build.sh first")
    command = flags_of(repository) + ["-Werror", "-O0", "-x", "c++", "-fsyntax-only", "-"]

    def compile(header):
        done = subprocess.run(command, cwd=repository.root, input=f'#include "{header}"\n#include "{header}"\n',
                              capture_output=True, text=True)
        if done.returncode == 0:
            return []
        return [f"{header}: {line}" for line in done.stderr.splitlines() if "error" in line][:3] or [f"{header}: fails"]

    headers = [f for f in repository.sources if f.suffix == ".h" and f.parts[0] in LAYERS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [problem for problems in pool.map(compile, headers) for problem in problems]
