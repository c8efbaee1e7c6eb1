#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole training steps on the CPU, moxie against PyTorch: the same model, weights, data and optimizer.

  python bench/compare_torch.py --shape fine --variants all --rounds 1   # which of PyTorch's variants is the fastest
  python bench/compare_torch.py --shape fine --variants best             # that one in turns with moxie

Shapes: tiny, small, fine, dense, and small_erc, which is small with a perturbed cosine router and the ERC loss.
Variants are named EXPERTS-GRAPH-MALLOC: experts run as a loop, by grouped_mm, or padded to one batched matmul; eager or
compiled; with glibc's malloc or tcmalloc preloaded. First the losses of each of 20 steps must agree within 1e-4 of
their size (f32; 1e-2 for bf16, in which PyTorch runs under autocast); then both make steps in turns. Prints one JSON
line for each pair of turns and a table. Every variant's last result is kept in the folder of its shape, from which
--variants best takes the one that came nearest to moxie.
Without PyTorch in this Python one is made in .venv. tcmalloc is Debian's libtcmalloc-minimal4.
"""
import argparse
import glob
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import venv

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHAPES = {"tiny": [], "small": [], "fine": [], "dense": [], "small_erc": ["--router", "perturbed_cosine", "--erc"]}
TOLERANCE, CHECKED_STEPS = {"f32": 1e-4, "bf16": 1e-2}, 20
PACKAGES = ["torch==2.13.0", "numpy", "safetensors"]


def with_torch():
    """Runs this program again in a virtual environment that has PyTorch, where the present Python has none."""
    if all(importlib.util.find_spec(name) for name in ("torch", "safetensors")):
        return
    folder = os.path.join(ROOT, ".venv")
    python = os.path.join(folder, "bin", "python")
    if os.path.realpath(sys.prefix) == os.path.realpath(folder) or not os.path.exists(python):
        venv.create(folder, with_pip=True)
    if subprocess.run([python, "-c", "import torch, safetensors"], capture_output=True).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", *PACKAGES], check=True)
    os.execv(python, [python, *sys.argv])


def tcmalloc():
    found = sorted(glob.glob("/usr/lib/*/libtcmalloc_minimal.so*"))
    return found[0] if found else None


def processor():
    with open("/proc/cpuinfo") as info:
        return next((line.split(":")[1].strip() for line in info if line.startswith("model name")), "unknown")


class Worker:
    """A process that makes training steps when told to."""

    def __init__(self, name, command, environment):
        self.name = name
        self.process = subprocess.Popen(command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with status {self.process.wait()}")
        return json.loads(line)

    def tell(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def steps(self, count):
        self.tell(count)
        return self.answer()

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def moxie_worker(arguments, shape, folder):
    command = [arguments.bench, "--shape", shape.split("_")[0], *SHAPES[shape], "--dtype", arguments.dtype, "--threads", str(arguments.threads)]
    subprocess.run([*command, "--export", folder, "--export-steps", str(CHECKED_STEPS)], check=True)
    return Worker("moxie", [*command, "--turns", "--export-steps", str(CHECKED_STEPS)], {})


def torch_worker(arguments, variant, folder):
    malloc = {"LD_PRELOAD": tcmalloc()} if variant.endswith("-tcmalloc") else {}
    command = [sys.executable, os.path.join(ROOT, "bench", "torch_model.py"), folder, variant, str(arguments.threads)]
    worker = Worker(variant, command, malloc | {"OMP_NUM_THREADS": str(arguments.threads)})
    worker.answer()
    return worker


def results_of(folder):
    """The last result of each variant: rows of the table."""
    path = os.path.join(folder, "results.json")
    if not os.path.exists(path):
        return {}
    with open(path) as file:
        return json.load(file)


def keep_result(folder, row):
    results = results_of(folder) | {row["variant"]: row}
    with open(os.path.join(folder, "results.json"), "w") as file:
        json.dump(results, file, indent=2)


def variants_of(arguments, shape, folder):
    if arguments.variants == "best":
        known = results_of(folder)
        if not known:
            sys.exit(f"{folder} has no results; run with --shape {shape} --variants all first")
        return [max(known, key=lambda variant: known[variant]["ratio"])]
    if arguments.variants != "all":
        return arguments.variants.split(",")
    mallocs = ["glibc", "tcmalloc"] if tcmalloc() else ["glibc"]
    if len(mallocs) == 1:
        print("tcmalloc is not installed (apt-get install libtcmalloc-minimal4); only glibc's malloc is tried", file=sys.stderr)
    experts = ["dense"] if shape == "dense" else ["loop", "grouped_mm", "padded"]
    return [f"{e}-{graph}-{malloc}" for e in experts for graph in ("eager", "compiled") for malloc in mallocs]


def check_losses(ours, theirs, variant, tolerance):
    """Returns the largest difference of a step's losses, of their size; ends the program where it is too large.

    It is more than rounding where a token's scores of two experts are equal within rounding: each program may choose
    another one, which moves the mean loss of a few thousand tokens by 1e-5 to 1e-4 in that step.
    """
    most = max(abs(a - b) / abs(b) for what in ("cross_entropy", "total") for a, b in zip(ours[what], theirs[what], strict=True))
    if not most <= tolerance:
        for step, losses in enumerate(zip(ours["total"], theirs["total"])):
            print(f"step {step}: moxie {losses[0]:.6f}, PyTorch {losses[1]:.6f}", file=sys.stderr)
        sys.exit(f"the losses of moxie and {variant} differ by {most:.2e} of their size in a step, which is more than {tolerance:.0e}")
    return {"loss_difference": most}


def compare(arguments, moxie, first_losses, variant, folder, tokens):
    """Checks one variant and times it in turns with moxie; returns the row of the table."""
    torch = torch_worker(arguments, variant, folder)
    row = {"variant": variant}
    if arguments.check:
        row |= check_losses(first_losses, torch.steps(CHECKED_STEPS), variant, TOLERANCE[arguments.dtype])
    else:
        torch.steps(arguments.warmup)
    pairs, peaks, faults = [], {}, {}
    for worker in (moxie, torch):
        worker.tell("reset")
    for _ in range(arguments.rounds):
        times = {}
        for who, worker in (("moxie", moxie), ("torch", torch)):
            turn = worker.steps(arguments.steps)
            times[who] = statistics.median(turn["ms"])
            peaks[who], faults[who] = turn["peak_mb"], turn["page_faults"]
        pairs.append((times["moxie"], times["torch"]))
        print(json.dumps({"variant": variant, "moxie_ms": round(times["moxie"], 2), "torch_ms": round(times["torch"], 2),
                          "ratio": round(times["moxie"] / times["torch"], 4)}), flush=True)
    torch.stop()
    ours, theirs = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    ratios = sorted(a / b for a, b in pairs)
    return row | {"moxie_ms": ours, "torch_ms": theirs, "moxie_tokens_per_s": tokens / ours * 1e3, "torch_tokens_per_s": tokens / theirs * 1e3,
                  "moxie_peak_mb": peaks["moxie"], "torch_peak_mb": peaks["torch"], "moxie_page_faults": faults["moxie"], "torch_page_faults": faults["torch"],
                  "ratio": statistics.median(ratios), "ratio_least": ratios[0], "ratio_most": ratios[-1], "memory_ratio": peaks["moxie"] / peaks["torch"]}


def table(rows):
    lines = ["| shape | PyTorch variant | moxie ms | PyTorch ms | ratio (least to most) | tokens/s, moxie | PyTorch | peak MB, moxie | PyTorch | ratio |", "|---" * 10 + "|"]
    for r in rows:
        lines.append(f"| {r['shape']} | {r['variant']} | {r['moxie_ms']:.1f} | {r['torch_ms']:.1f} | {r['ratio']:.2f} ({r['ratio_least']:.2f} to {r['ratio_most']:.2f}) "
                     f"| {r['moxie_tokens_per_s']:,.0f} | {r['torch_tokens_per_s']:,.0f} | {r['moxie_peak_mb']:.0f} | {r['torch_peak_mb']:.0f} | {r['memory_ratio']:.2f} |")
    return "\n".join(lines)


def compare_shape(arguments, shape):
    folder = os.path.join(arguments.folder, shape if arguments.dtype == "f32" else f"{shape}_{arguments.dtype}")
    os.makedirs(folder, exist_ok=True)
    variants = variants_of(arguments, shape, folder)
    moxie = moxie_worker(arguments, shape, folder)
    first_losses = moxie.steps(CHECKED_STEPS if arguments.check else arguments.warmup)
    with open(os.path.join(folder, "settings.json")) as file:
        settings = json.load(file)
    common = {"shape": shape, "dtype": arguments.dtype, "threads": arguments.threads, "processor": processor(), "date": time.strftime("%Y-%m-%d")}
    rows = []
    for variant in variants:
        rows.append(common | compare(arguments, moxie, first_losses, variant, folder, settings["batch"] * settings["time"]))
        print(json.dumps(rows[-1]), flush=True)
        keep_result(folder, rows[-1])
    moxie.stop()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="tiny", help="names with commas between them, or all")
    parser.add_argument("--variants", default="best", help="all, best (of those measured before), or names with commas between them")
    parser.add_argument("--dtype", default="f32", choices=list(TOLERANCE), help="of activations and matmuls; PyTorch's by autocast")
    parser.add_argument("--bench", default=os.path.join(ROOT, "build", "cpu", "bin", "bench_train_step"))
    parser.add_argument("--folder", default=os.path.join(ROOT, "build", "compare_torch"), help="for weights, data and results")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of turns")
    parser.add_argument("--steps", type=int, default=10, help="steps in a turn, of which the median counts")
    parser.add_argument("--warmup", type=int, default=3, help="steps that are not timed, with --no-check")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-check", dest="check", action="store_false", help="don't compare the losses of the first 20 steps")
    arguments = parser.parse_args()
    shapes = list(SHAPES) if arguments.shape == "all" else arguments.shape.split(",")
    for shape in shapes:
        if shape not in SHAPES:
            parser.error(f"--shape: must be among {', '.join(SHAPES)}, got {shape}")
    with_torch()
    print(table([row for shape in shapes for row in compare_shape(arguments, shape)]))


if __name__ == "__main__":
    main()
