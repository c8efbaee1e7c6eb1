#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs each walkthrough with few steps: what its page claims holds, its pictures are there, two runs are equal, and a
wrong argument ends with status 1."""
import argparse
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BIN = None  # the folder of the programs
DEVICE = "cpu"
PICTURES = {"spiral": ["spiral.png", "spiral_graph.png"], "image_experts": ["image_experts.png"],
            "router_geometry": ["router_geometry.png"], "erc_by_hand": ["erc_by_hand.png"],
            "gradcheck_your_op": ["gradcheck_your_op.png"], "digits": ["digits.png"]}


def run(name, *arguments, status=0, **options):
    if DEVICE != "cpu" and "--device" not in arguments:
        arguments = (*arguments, "--device", DEVICE)
    done = subprocess.run([BIN / name, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=120, **options)
    if done.returncode != status:
        raise AssertionError(f"{name} {arguments}: status {done.returncode} and not {status}\n{done.stdout[-1500:]}\n{done.stderr}")
    return done.stdout, done.stderr


def numbers(pattern, text):
    """The first group of every match, as numbers."""
    return [float(n) for n in re.findall(pattern, text)]


class Walkthroughs(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="moxie-walkthrough-"))

    def tearDown(self):
        shutil.rmtree(self.folder)

    def walk(self, name, steps):
        out, _ = run(name, "--steps", steps, "--out", self.folder / "new" / name)
        for picture in PICTURES[name]:
            data = (self.folder / "new" / name / picture).read_bytes()
            self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n", picture)
            width, height = struct.unpack(">II", data[16:24])
            self.assertTrue(300 < width < 4000 and 150 < height < 4000, f"{picture}: {width} x {height}")
            self.assertGreater(len(data), 5000, picture)
        self.assertEqual(sorted(p.name for p in (self.folder / "new" / name).iterdir()), sorted(PICTURES[name]))
        return out

    def test_spiral(self):
        out = self.walk("spiral", 200)
        self.assertLess(numbers(r"by hand and by backward\(\): (\S+) apart", out)[0], 1e-6)
        losses = numbers(r"loss (\S+)", out)
        self.assertGreater(losses[0], 0.9)
        self.assertLess(losses[-1], 0.15)
        self.assertGreater(numbers(r"accuracy (\S+)", out)[0], 0.95)

    def test_image_experts(self):
        out = self.walk("image_experts", 60)
        errors = numbers(r"error (\S+)", out)
        self.assertGreater(errors[0], 0.03)
        self.assertLess(errors[-1], 0.013)
        shares = numbers(r"expert \d paints (\d+) %", out)
        self.assertEqual(len(shares), 6)
        self.assertGreater(min(shares), 3)

    def test_router_geometry(self):
        out = self.walk("router_geometry", 20)
        rows = {line[:32].strip(): numbers(r"([\d.]+) %", line) for line in out.splitlines() if line.endswith("%")}
        self.assertEqual(len(rows), 9)
        for name, row in rows.items():
            self.assertAlmostEqual(sum(row[:5]), 100, delta=0.3, msg=name)
        short = {name: row[4] for name, row in rows.items()}
        self.assertEqual(short["linear, no noise"], 0)  # a short row between long ones gets nothing
        self.assertGreater(short["cosine, no noise"], 10)
        self.assertTrue(0 < short["perturbed_cosine, no noise"] < short["cosine, no noise"])
        undecided = {name: row[5] for name, row in rows.items()}
        self.assertEqual(undecided["cosine, no noise"], 0)
        self.assertGreater(undecided["cosine, gaussian 0.2"], 1.5 * undecided["linear, gaussian 0.2"])
        slopes = dict(re.findall(r"along its row, (\w+): (\S+)", out))
        self.assertGreater(float(slopes["linear"]), 0.5)
        self.assertLess(float(slopes["cosine"]), 1e-4)
        self.assertGreater(float(slopes["perturbed_cosine"]), 0.02)

    def test_erc_by_hand(self):
        out = self.walk("erc_by_hand", 100)
        self.assertEqual(len(re.findall(r"<= 0.8 M", out)), 12)
        for away in numbers(r"(?:is|dR|dW) (\S+?)(?: away|,|$)", re.search(r"by hand; .*", out)[0]):
            self.assertLess(away, 1e-14)
        parts, loss = numbers(r"adds (\S+) to", out), numbers(r"loss (\S+) by hand", out)[0]
        self.assertAlmostEqual(sum(parts), loss, delta=1e-3)
        smallest, largest = numbers(r"smallest M\[i,i\] (\S+)", out), numbers(r"largest other (\S+)", out)
        self.assertLess(smallest[0], largest[0])
        self.assertLess(largest[-1], 0.5 * largest[0])
        self.assertGreater(smallest[-1], 1.2 * largest[-1])
        self.assertEqual(numbers(r"violations +(\d+)", out)[-1], 0)

    def test_gradcheck_your_op(self):
        out = self.walk("gradcheck_your_op", 100)
        self.assertIn("signed_root: right\n", out)
        self.assertIn("nearest: right\n", out)
        self.assertRegex(out, r"signed_root with a wrong sign: WRONG\n  gradcheck: input 0")
        errors = numbers(r"error (\d\S+)\n", out)
        self.assertLess(errors[-1], 0.5 * errors[0])

    def test_digits(self):
        out = self.walk("digits", 120)
        everybody = numbers(r"new glyphs (\S+) %", out)[0]
        self.assertGreater(everybody, 80)
        without = numbers(r"without expert \d: (\S+) %", out)
        self.assertEqual(len(without), 8)
        self.assertLess(min(without), everybody - 1)

    def test_other_examples(self):
        out, _ = run("moe_layer")
        errors = numbers(r"error (\S+)", out)
        self.assertLess(errors[-1], 0.3 * errors[0])
        out, _ = run("autograd_tour")
        self.assertIn("gradcheck: fine", out)
        self.assertIn("requires a gradient under NoGrad: false", out)
        out, _ = run("noise_picture", self.folder)
        for picture in ("noise.png", "noise_changes.png"):
            self.assertEqual((self.folder / picture).read_bytes()[:8], b"\x89PNG\r\n\x1a\n", picture)
            self.assertIn(str(self.folder / picture), out)

    def test_same_seed_same_picture(self):
        for name, steps in {"spiral": 10, "image_experts": 3, "erc_by_hand": 10, "gradcheck_your_op": 5, "digits": 3}.items():
            pictures, texts = [], []
            for attempt, seed in enumerate([5, 5, 6]):
                out = self.folder / name / str(attempt)
                texts.append(run(name, "--steps", steps, "--seed", seed, "--out", out)[0])
                pictures.append((out / PICTURES[name][0]).read_bytes())
            self.assertEqual(texts[0], texts[1], name)
            self.assertEqual(pictures[0], pictures[1], name)
            self.assertNotEqual(texts[0], texts[2], name)
            self.assertNotEqual(pictures[0], pictures[2], name)

    def test_wrong_arguments(self):
        (self.folder / "file").write_text("in the way")
        for name in PICTURES:
            self.assertIn("--steps", run(name, "--help")[0])
            for message, arguments in {"--steps": ["--steps", "0"], "--seed": ["--seed", "x"], "--nonsense": ["--nonsense"],
                                       "got 'gpu'": ["--device", "gpu"],
                                       "file": ["--steps", "1", "--out", self.folder / "file" / "x"]}.items():
                out, err = run(name, *arguments, status=1)
                self.assertIn(message, err, name)


def main():
    global BIN, DEVICE
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default="build/cpu/bin", help="the folder of the programs")
    parser.add_argument("--device", default="cpu", help="where the programs compute")
    arguments, rest = parser.parse_known_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads leave a busy machine to others
    BIN, DEVICE = Path(arguments.bin).resolve(), arguments.device
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
