#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that training stopped by Ctrl-C and resumed ends exactly where it ends without a stop."""
import argparse
import csv
import math
import signal
import subprocess
import sys
import time
from pathlib import Path


def rows_of(folder):
    """The metrics of a run: a dictionary for each complete line; [] while there is no file."""
    path = folder / "metrics.csv"
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]  # the last line may be half written
    return list(csv.DictReader(lines))


def is_clock(column):
    return any(word in column for word in ("second", "time", "per_s", "ms", "memory"))


def run(command, log):
    with open(log, "w") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if status:
        sys.exit(f"resume: {' '.join(command)}\nended with status {status}:\n{log.read_text()[-2000:]}")


def interrupt(command, folder, steps, log):
    """Starts a run, and sends Ctrl-C when half of its steps are done. Returns the steps it had written."""
    with open(log, "w") as file:
        child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 300
    while child.poll() is None and len(rows_of(folder)) < steps // 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        status = child.wait(60)
    except subprocess.TimeoutExpired:
        child.kill()
        sys.exit("resume: the program still ran a minute after Ctrl-C")
    done = len(rows_of(folder))
    if status != 130 or not 0 < done < steps:
        sys.exit(f"resume: Ctrl-C should stop the run midway with status 130, but it ended with status {status} after "
                 f"{done} of {steps} steps (metrics.csv must grow step by step):\n{log.read_text()[-2000:]}")
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", default="build/cpu/bin/train_lm", help="the program")
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=Path, help="a new folder for the two runs")
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True)
    whole, parts = arguments.out / "whole", arguments.out / "parts"
    common = [arguments.train, "--preset", "tiny", "--data", arguments.data, "--router", "perturbed_cosine",
              "--erc-alpha", "1", "--steps", str(arguments.steps), "--seed", "7"]
    run([*common, "--out", str(whole)], arguments.out / "whole.log")
    stopped = interrupt([*common, "--out", str(parts)], parts, arguments.steps, arguments.out / "parts.log")
    run([arguments.train, "--resume", "--out", str(parts)], arguments.out / "resume.log")

    expected, got = rows_of(whole), rows_of(parts)
    if not expected or "loss" not in expected[0]:
        sys.exit("resume: metrics.csv has no column 'loss'")
    if len(expected) != arguments.steps or len(got) != arguments.steps:
        sys.exit(f"resume: expected {arguments.steps} lines of metrics, got {len(expected)} without a stop, "
                 f"{len(got)} with one after {stopped}")
    for step, (a, b) in enumerate(zip(expected, got), start=1):
        for column in [c for c in a if not is_clock(c)]:
            if a[column] != b.get(column):
                sys.exit(f"resume: line {step} of the metrics differs in {column}: {a[column]} without a stop, "
                         f"{b.get(column)} with one after step {stopped}")
    losses = [float(row["loss"]) for row in expected]
    if not all(map(math.isfinite, losses)) or not losses[-1] < losses[0]:
        sys.exit(f"resume: the loss did not fall: {losses[0]} at first, {losses[-1]} at the end")
    print(f"resume: fine, stopped after {stopped} of {arguments.steps} steps; "
          f"loss {losses[0]} to {losses[-1]} with and without the stop")


if __name__ == "__main__":
    main()
