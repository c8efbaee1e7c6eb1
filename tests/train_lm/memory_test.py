#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What --dry-run says of a run's memory, against what the run takes.

  tests/train_lm/memory_test.py --train build/cpu/bin/train_lm
"""
import argparse
import csv
import os
import random
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TRAIN = None  # the program
UNITS = {"kB": 1e-3, "MB": 1, "GB": 1e3}


def train(*arguments):
    return subprocess.run([TRAIN, *map(str, arguments)], check=True, capture_output=True, text=True, timeout=120).stdout


class Memory(unittest.TestCase):
    def foretold_and_used(self, *more):
        """Megabytes by --dry-run, and the most that the process had in three steps."""
        with tempfile.TemporaryDirectory(prefix="moxie-memory-") as name:
            data, folder = Path(name) / "text.txt", Path(name) / "run"
            draw = random.Random(1)
            data.write_text("".join(draw.choice("etaoin shrdlu\n") for _ in range(40000)))
            config = ("--preset", "tiny", "--data", data, "--steps", 3, *more)
            number, unit = re.search(r"^memory +about ([0-9.]+) (\w+):", train(*config, "--dry-run"), re.MULTILINE).groups()
            train(*config, "--log-every", 1, "--out", folder)
            rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
            return float(number) * UNITS[unit], max(float(row["memory_mb"]) for row in rows)

    def assert_near(self, *more):
        foretold, used = self.foretold_and_used(*more)
        self.assertLess(abs(foretold / used - 1), 0.1, f"foretold {foretold:.0f} MB, used {used:.0f} MB")

    def test_a_plain_run(self):
        self.assert_near()

    def test_parts_of_a_batch_and_other_experts(self):
        self.assert_near("--batch", 24, "--micro-batches", 2, "--experts", 16)

    def test_activations_computed_twice(self):
        self.assert_near("--recompute")


def main():
    global TRAIN
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", default="build/cpu/bin/train_lm")
    arguments, rest = parser.parse_known_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads leave a busy machine to others
    TRAIN = str(Path(arguments.train).resolve())
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
