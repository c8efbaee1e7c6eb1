# SPDX-License-Identifier: Apache-2.0
"""Includes point downwards only, nobody includes cuda/, and what a .cu file reaches stays light."""
from pathlib import Path

RULE = ("includes point downwards only (core < autograd < nn < moe < examples, bench, tests), start at the root, "
        "and nobody includes cuda/ but tests/cuda/; cuda/ itself sees only core and the kernel headers; "
        "headers reachable from CUDA include neither fmt nor heavy standard headers")
CURE = "move what is shared down a layer, or pass it in as an argument; in kernels take plain pointers and sizes"

LAYERS = ["core", "autograd", "nn", "moe"]
TOP = ["examples", "bench", "tests"]
# Included behind MOXIE_THREAD_TEAM, which no CUDA build sets.
NOT_ON_CUDA = {"core/thread_team.h"}
CUDA_ROOTS = ["core/team.h", "core/launch.h", "core/math.h", "core/philox.h", "core/dtype.h"]
HEAVY = {"algorithm", "chrono", "condition_variable", "deque", "filesystem", "format", "forward_list", "fstream",
         "functional", "future", "iomanip", "ios", "iostream", "istream", "list", "locale", "map", "memory_resource",
         "mutex", "numeric", "ostream", "queue", "random", "ranges", "regex", "set", "shared_mutex", "source_location",
         "sstream", "stack", "syncstream", "thread", "unordered_map", "unordered_set", "valarray", "variant"}


def is_kernel(path):
    return "kernels" in path.parts[:-1]


def forbidden(path, target):
    """Why `path` may not include `target`, or None."""
    layer, below = path.parts[0], target.parts[0]
    if below == "cuda" and layer != "cuda" and path.parts[:2] != ("tests", "cuda"):
        return "nobody includes cuda/ but tests/cuda/"
    if layer == "cuda":
        return None if below in ("cuda", "core") or is_kernel(target) else "cuda/ sees only core and the kernel headers"
    if layer in LAYERS:
        if below not in LAYERS or LAYERS.index(below) > LAYERS.index(layer):
            return f"{layer} is below {below}"
        if is_kernel(path) and below != "core" and not is_kernel(target):
            return "a kernel header sees only core and kernel headers"
    elif layer in TOP and below in TOP and below != layer:
        return f"{layer} does not see {below}"
    return None


def check(repository):
    problems = []
    known = set(repository.files)
    quoted = {}  # file -> the project's files that it includes
    for path in repository.sources:
        quoted[path] = []
        for line, is_quoted, name in repository.includes(path):
            target = Path(name)
            where = f"{path}:{line}: {name}"
            if is_quoted and target not in known:
                if (path.parent / target) in known:
                    problems.append(f"{where}: write the path from the root, {path.parent / target}")
                else:
                    problems.append(f"{where}: there is no such file (a library's header is written <{name}>)")
            elif is_quoted:
                quoted[path].append(target)
                reason = forbidden(path, target)
                if reason:
                    problems.append(f"{where}: {reason}")
            elif target in known:
                problems.append(f'{where}: the project\'s own headers are written "{name}"')
    return problems + reached_from_cuda(repository, quoted)


def reached_from_cuda(repository, quoted):
    roots = [f for f in repository.sources
             if f.suffix in (".cu", ".cuh") or (is_kernel(f) and f.suffix == ".h") or str(f) in CUDA_ROOTS]
    chain = {root: None for root in roots}  # file -> who includes it
    queue = list(roots)
    problems = []
    while queue:
        path = queue.pop(0)
        for line, is_quoted, name in repository.includes(path):
            heavy = name in HEAVY and path.suffix in (".h", ".cuh")
            if not is_quoted and (name.startswith("fmt/") or heavy):
                via, parent = "", chain[path]
                while parent:
                    via, parent = f"{via} <- {parent}", chain[parent]
                problems.append(f"{path}:{line}: <{name}> is reachable from CUDA{via}")
        for target in quoted[path]:
            if target in quoted and target not in chain and str(target) not in NOT_ON_CUDA:
                chain[target] = path
                queue.append(target)
    return problems
