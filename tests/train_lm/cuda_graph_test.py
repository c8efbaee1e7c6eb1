#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs train_lm with --cuda-graph and --nvtx: the same numbers as op by op, and clear errors where they make no sense."""
import argparse
import shutil
import tempfile
import unittest
from pathlib import Path

import train_lm_test as programs
from train_lm_test import SMALL, STEPS, call, numbers_of, write_text


class CudaGraph(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="moxie-cuda-graph-"))
        self.data = self.folder / "text.txt"
        write_text(self.data)

    def tearDown(self):
        shutil.rmtree(self.folder)

    def start(self, name, *arguments, **options):
        return call(programs.TRAIN, *SMALL, "--data", self.data, "--steps", STEPS, "--out", self.folder / name, *arguments,
                    **options)

    def test_same_numbers(self):
        if programs.DEVICE == "cpu":
            self.skipTest("needs --device cuda")
        self.start("plain")
        self.start("graph", "--cuda-graph", "--nvtx")
        self.start("stopped", "--cuda-graph", "--stop-at", 5)
        call(programs.TRAIN, "--resume", "--cuda-graph", "--out", self.folder / "stopped")
        expected = numbers_of(self.folder / "plain")
        for name in ("graph", "stopped"):
            for what, value in numbers_of(self.folder / name).items():
                self.assertEqual(value, expected[what], f"{name}: {what}")

    def test_errors(self):
        on = "cpu" if programs.DEVICE == "cpu" else "cuda"
        refused = {"cpu": {("--cuda-graph",): "--cuda-graph needs a GPU: --device cuda; this run is on cpu",
                           ("--nvtx",): "--nvtx is for profilers of a GPU: --device cuda; this run is on cpu"},
                   "cuda": {("--cuda-graph", "--profile", 2): "--cuda-graph repeats steps as a whole",
                            ("--cuda-graph", "--anomaly"): "--cuda-graph repeats steps as a whole"}}
        for arguments, message in refused[on].items():
            self.assertIn(message, self.start("none", *arguments, status=1)[1])
        self.assertFalse((self.folder / "none").exists())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", required=True)
    parser.add_argument("--device", default="cpu")
    arguments, rest = parser.parse_known_args()
    programs.TRAIN, programs.DEVICE = Path(arguments.train).resolve(), arguments.device
    unittest.main(argv=["cuda_graph_test", *rest])
