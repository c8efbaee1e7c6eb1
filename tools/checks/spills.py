#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads the log of a clean build with MOXIE_PTXAS_VERBOSE=ON: no hot kernel may spill registers to memory."""
import re
import subprocess
import sys

# What a training step spends its time in.
HOT = re.compile(r"grouped|[Aa]ttention|ForwardProblem|BackwardProblem|DecodeProblem|Unary|Binary|Affine|Accumulate|Convert|SwiGlu|Softmax|RmsNorm|LayerNorm|CrossEntropy|Combine|"
                 r"GatherRows|PackedGather|SegmentSum|ChunkSum|Rope|AdamW?Rows|ErcNorms|ErcScaleProducts")
# Where a few bytes don't matter: f64, which exists to check gradients, and pow and tan, whose slow paths are CUDA's own.
COLD = re.compile(r"double|\b(Pow|Tan)\b")
# Up to so many bytes, stored and loaded: where several blocks share a multiprocessor each thread has so many registers, and one
# or two too few cost less than one of the blocks.
ALLOWED = {("sm_80", "query_gradient_kernel<128>"): 16, ("sm_90a", "plain_forward_kernel<float, 2>"): 8,
           ("sm_80", "decode_part_kernel<float, "): 8, ("sm_90a", "rms_norm_backward<moxie::bf16, 4, false>"): 40}
HEADER = re.compile(r"Compiling entry function '([^']+)' for '([^']+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


def kernels(lines):
    """Yields (mangled name, architecture, spilled bytes, registers) of every kernel in the log."""
    name = architecture = None
    spilled = 0
    for line in lines:
        if found := HEADER.search(line):
            name, architecture, spilled = found[1], found[2], 0
        elif found := SPILLS.search(line):
            spilled = int(found[2]) + int(found[3])
        elif name and (found := REGISTERS.search(line)):
            yield name, architecture, spilled, int(found[1])
            name = None


def may_not(name, architecture, spilled):
    if HOT.search(name) is None or COLD.search(name) is not None:
        return False
    return all(architecture != where or kernel not in name or spilled > most for (where, kernel), most in ALLOWED.items())


def demangled(names):
    try:
        return subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True,
                              check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return names


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: tools/checks/spills.py LOG")
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        found = list(kernels(log))
    if not found:
        raise SystemExit(f"spills: {sys.argv[1]} names no kernel; configure with -DMOXIE_PTXAS_VERBOSE=ON and build anew")
    names = demangled([kernel[0] for kernel in found])
    spilling = [(name, *kernel[1:]) for name, kernel in zip(names, found) if kernel[2] > 0]
    hot = [kernel for kernel in spilling if may_not(*kernel[:3])]
    for name, architecture, spilled, registers in sorted(spilling, key=lambda kernel: -kernel[2]):
        mark = "   <- may not" if may_not(name, architecture, spilled) else ""
        print(f"{architecture}: {spilled} bytes spilled, {registers} registers: {name[:160]}{mark}")
    print(f"spills: {len(found)} kernels, {len(spilling)} spill, {len(hot)} of them may not")
    raise SystemExit(1 if hot else 0)


if __name__ == "__main__":
    main()
