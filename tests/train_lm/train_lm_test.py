#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs train_lm and sample_lm on a small text: exact resume, equal runs, and a clear error for whatever is wrong."""
import argparse
import csv
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

TRAIN = SAMPLE = None  # the programs
DEVICE = "cpu"
STEPS = 12
# Everything that could break an exact resume: dropout, micro-batches, two kinds of blocks, noise in ERC and router.
SMALL = ["--preset", "nano", "--width", "16", "--hidden", "16", "--batch", "4", "--context", "16", "--layers", "3",
         "--dense-layers", "1", "--dropout", "0.1", "--micro-batches", "2", "--z-weight", "0.001", "--final-tokens", "256",
         "--eval-batches", "2", "--sample-bytes", "40", "--warmup", "5", "--noise", "learned", "--noise-scale", "0.5",
         "--load-weight", "0.1"]
PICTURES = ["loss.png", "training.png", "load.png", "coupling.png", "bytes.png"]


def write_text(path, seed=1):
    draw = random.Random(seed)
    words = "in the beginning was a word and it shone on all who came to see how light falls upon water".split()
    path.write_text("\n".join(" ".join(draw.choice(words) for _ in range(9)) + "." for _ in range(400)))


def call(program, *arguments, status=0, **options):
    if DEVICE != "cpu" and "--device" not in arguments:
        arguments = (*arguments, "--device", DEVICE)
    done = subprocess.run([program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                          **options)
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode != status:
        raise AssertionError(f"{arguments}: status {done.returncode} and not {status}\n{out[-1500:]}\n{err}")
    return out, err


def rows_of(folder):
    path = folder / "metrics.csv"
    return list(csv.DictReader(path.read_text().split("\n")[:-1])) if path.exists() else []


def numbers_of(folder):
    """All that must come back bit by bit: metrics without clocks, loads, sample and checkpoint."""
    clocks = ("second", "time", "per_s", "ms", "memory")
    rows = [{k: v for k, v in row.items() if not any(word in k for word in clocks)} for row in rows_of(folder)]
    jsonl = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in jsonl] == [int(row["step"]) for row in rows]
    return {"metrics": rows, **{name: (folder / name).read_bytes()
                                for name in ("load.csv", "sample.txt", "checkpoint.safetensors")}}


class Programs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="moxie-train-lm-"))
        cls.data = cls.folder / "text.txt"
        write_text(cls.data)
        cls.whole = cls.folder / "whole"
        cls.said, _ = call(TRAIN, *SMALL, "--data", cls.data, "--steps", STEPS, "--out", cls.whole)
        cls.expected = numbers_of(cls.whole)
        cls.checkpoint = (cls.whole / "checkpoint.safetensors").read_bytes()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def assert_same(self, folder):
        got = numbers_of(folder)
        for name, value in self.expected.items():
            self.assertEqual(value, got[name], f"{name} differs")

    def start(self, name, *arguments, **options):
        return call(TRAIN, *SMALL, "--data", self.data, "--steps", STEPS, "--out", self.folder / name, *arguments, **options)

    def assert_refused(self, message, *arguments, program=None, **options):
        out, err = call(program or TRAIN, *arguments, status=1, **options)
        self.assertRegex(err, r"\Aerror: .*" + message)
        return err

    def run_with_checkpoint(self, name, contents):
        folder = self.folder / name
        shutil.copytree(self.whole, folder)
        (folder / "checkpoint.safetensors").write_bytes(contents)
        return folder

    def replaced(self, *new):
        """The options of a small run with the values of some replaced: one given twice is refused."""
        options = [*SMALL, "--data", self.data, "--steps", 3, "--out", self.folder / "none"]
        for name in new:
            if str(name).startswith("--") and name in options:
                at = options.index(name)
                del options[at:at + 2]
        return [*options, *new]

    # What a run leaves and says

    def test_files(self):
        for name in PICTURES:
            self.assertEqual((self.whole / name).read_bytes()[:8], b"\x89PNG\r\n\x1a\n", name)
            self.assertIn(str(self.whole / name), self.said)
        summary = json.loads((self.whole / "summary.json").read_text())
        self.assertEqual((summary["steps"], summary["seed"], len(summary["layers"])), (STEPS, 1, 2))
        self.assertEqual(len(rows_of(self.whole)), STEPS)
        self.assertTrue(all(float(row["load_loss"]) > 0 for row in rows_of(self.whole)))
        self.assertLess(summary["train_loss"], 5.6)
        self.assertTrue((self.whole / "sample.txt").stat().st_size > 40)
        self.assertEqual(json.loads((self.whole / "config.json").read_text())["steps"], STEPS)
        loads = list(csv.DictReader((self.whole / "load.csv").read_text().splitlines()))
        self.assertEqual(len(loads), STEPS)
        self.assertEqual(sum(int(v) for k, v in loads[-1].items() if k.startswith("layer1_")), 4 * 16 * 2)
        for words in ("perturbed_cosine, top 2 of 4", "noise learned 0.5", "0.1 load", "ERC, alpha 1", "hash", f"{STEPS}/{STEPS}"):
            self.assertIn(words, self.said)

    def test_eval_repeats_the_final_loss(self):
        loss = json.loads((self.whole / "summary.json").read_text())["validation_loss"]
        out, _ = call(TRAIN, "--eval", "--out", self.whole)
        self.assertIn(f"validation loss {loss:.4f} nats per byte", out)

    def test_says_what_would_be_run(self):
        self.start("dry", "--dry-run")
        self.assertFalse((self.folder / "dry").exists())
        out, _ = call(TRAIN, *SMALL, "--data", self.data, "--router", "linear", "--steps", 7, "--print-config")
        config = self.folder / "config.json"
        config.write_text(out)
        self.assertEqual(call(TRAIN, "--config", config, "--print-config")[0], out)
        router = json.loads(out)["model"]["moe"]["router"]
        self.assertEqual(router["kind"], "linear")
        self.assertEqual(router["noise"], {"kind": "learned", "scale": 0.5, "selection_only": False})
        self.assertIn("tiny", call(TRAIN, "--list-presets")[0])

    # The same numbers

    def test_one_thread(self):
        self.start("threads", "--threads", 1)
        self.assert_same(self.folder / "threads")

    def test_resume_after_any_step(self):
        for stop in (1, 6, STEPS - 1):
            with self.subTest(stop=stop):
                name = f"stop{stop}"
                self.start(name, "--stop-at", stop)
                self.assertEqual(len(rows_of(self.folder / name)), stop)
                call(TRAIN, "--resume", "--out", self.folder / name)
                self.assert_same(self.folder / name)

    def test_resume_several_times_and_elsewhere(self):
        moved, folder = self.folder / "moved.txt", self.folder / "several"
        shutil.copy(self.data, moved)
        self.start("several", "--stop-at", 2)
        call(TRAIN, "--resume", "--out", folder, "--stop-at", 7, "--threads", 1)
        with (folder / "metrics.csv").open("a") as metrics:
            metrics.write("8,1")  # cut off by a crash
        call(TRAIN, "--resume", "--out", folder)
        self.assert_same(folder)
        call(TRAIN, "--resume", "--out", folder, "--data", moved)  # complete: only reports again

    def test_resume_after_a_crash(self):
        """Rows after the last checkpoint are dropped."""
        self.start("crash", "--stop-at", 4)
        folder = self.folder / "crash"
        before = (folder / "checkpoint.safetensors").read_bytes()
        call(TRAIN, "--resume", "--out", folder, "--stop-at", 9)
        (folder / "checkpoint.safetensors").write_bytes(before)
        call(TRAIN, "--resume", "--out", folder)
        self.assert_same(folder)

    def test_ctrl_c(self):
        folder, steps = self.folder / "ctrl-c", 100000
        command = [TRAIN, *SMALL, "--data", str(self.data), "--steps", str(steps), "--out", str(folder)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while len(rows_of(folder)) < 3 and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        out = child.communicate(timeout=60)[0]
        self.assertEqual(child.returncode, 130, out)
        done = len(rows_of(folder))
        self.assertIn(f"stopped after step {done} of {steps}", out)
        self.assertIn(f"--resume --out {folder}", out)
        call(TRAIN, "--resume", "--out", folder, "--stop-at", done + 2)
        self.assertEqual([int(row["step"]) for row in rows_of(folder)], list(range(1, done + 3)))

    def test_minutes(self):
        folder = self.folder / "minutes"
        started = time.monotonic()
        out, _ = call(TRAIN, *SMALL, "--data", self.data, "--minutes", "0.04", "--out", folder)
        self.assertLess(time.monotonic() - started, 12)
        steps = int(re.search(r"(\d+) steps until", out)[1])
        self.assertEqual(len(rows_of(folder)), steps)
        self.assertEqual(json.loads((folder / "summary.json").read_text())["steps"], steps)
        self.assertEqual(json.loads((folder / "config.json").read_text())["steps"], steps)

    def test_load_history_of_a_long_run(self):
        """Rows are joined when there are too many, and a stop in between changes nothing."""
        folder, options = self.folder / "long", ["--layers", "1", "--dense-layers", "0", "--steps", "1030"]
        never = ["--sample-every", "0", "--eval-every", "5000", "--micro-batches", "1"]
        call(TRAIN, *self.replaced("--out", folder, *options, *never, "--stop-at", "515"))
        call(TRAIN, "--resume", "--out", folder)
        rows = list(csv.reader((folder / "load.csv").read_text().splitlines()))[1:]
        self.assertEqual([int(row[0]) for row in rows], list(range(4, 1029, 4)))
        for row in rows:
            self.assertEqual(sum(map(int, row[1:])), 4 * 4 * 16 * 2)

    # Other optimizers

    def test_optimizers(self):
        """Each learns and is stored with its options; the one with most state goes on to the same bits."""
        said = {"adam": "Adam, betas 0.9 and 0.999", "sgd": "SGD, momentum 0.9", "lion": "Lion, betas 0.9 and 0.99",
                "muon": "Muon, momentum 0.8, for the rest AdamW"}
        for name, words in said.items():
            with self.subTest(name):
                whole, parts = self.folder / name, self.folder / f"{name}_parts"
                options = ["--steps", STEPS, "--optimizer", name, *(["--momentum", "0.8"] if name == "muon" else [])]
                out, _ = call(TRAIN, *self.replaced("--out", whole, *options))
                self.assertIn(words, out)
                config = json.loads((whole / "config.json").read_text())
                self.assertEqual((config["optimizer"], config["momentum"]), (name, 0.8 if name == "muon" else 0.9))
                losses = [float(row["loss"]) for row in rows_of(whole)]
                self.assertLess(sum(losses[-3:]) / 3, losses[0])
                if name != "muon":
                    continue
                call(TRAIN, *self.replaced("--out", parts, *options, "--stop-at", "5"))
                call(TRAIN, "--resume", "--out", parts)
                self.assertEqual(numbers_of(parts), numbers_of(whole))

    # Other kinds of models

    def test_variants(self):
        for name, options in {
            "bf16": ["--dtype", "bf16"], "recompute": ["--recompute"], "no_erc": ["--no-erc", "--router", "cosine"],
            "dense": ["--dense-layers", "3", "--no-erc"], "top_1": ["--top-k", "1", "--experts", "20", "--balance", "hf"],
            "tied": ["--tie-embeddings", "--qk-norm", "whole", "--head-dim", "6", "--kv-heads", "1", "--validation-share", "0"],
            "gumbel": ["--noise", "gumbel", "--noise-scale", "1", "--noise-selection-only", "--load-weight", "0"],
        }.items():
            with self.subTest(name):
                call(TRAIN, *self.replaced("--steps", 4, "--out", self.folder / name, *options))
                self.assertTrue((self.folder / name / "loss.png").exists())
                self.assertEqual((self.folder / name / "load.png").exists(), name != "dense")

    # What is wrong is said

    def test_bad_options(self):
        for message, options in {
            "top_k must be between 1 and experts": ["--top-k", "9"],
            "tau_expert must not be negative": ["--tau", "-1"],
            "optimizer: must be adamw, adam, sgd, lion or muon, got 'sofia'": ["--optimizer", "sofia"],
            "erc_alpha must not be negative": ["--erc-alpha", "-0.5"],
            "lr must be positive": ["--lr", "0"],
            "--tau belongs to the perturbed_cosine router": ["--router", "linear", "--tau", "0.1"],
            "router: .*got 'round'": ["--router", "round"],
            "noise: must be one of none, .*got 'loud'": ["--noise", "loud"],
            "the scale of learned must be positive": ["--noise-scale", "0"],
            "load_weight needs gaussian or learned noise": ["--noise", "gumbel"],
            "there is no preset 'huge', only nano": ["--preset", "huge"],
            "batch must be a multiple of micro_batches": ["--micro-batches", "3"],
            "too few for a context of 100000": ["--context", "100000"],
            "heads must divide width": ["--heads", "3"],
            "there is no file or folder": ["--data", self.folder / "missing.txt"],
            "can't make the folder": ["--out", self.data / "folder"],
            "--steps and --minutes exclude": ["--minutes", "1"],
            "device: must be cpu, cuda or cuda:N, got 'gpu'": ["--device", "gpu"],
        }.items():
            with self.subTest(message):
                self.assert_refused(message, *self.replaced(*options))
        self.assertFalse((self.folder / "none").exists())
        out, err = call(TRAIN, *self.replaced("--colour", "red"), status=1)
        self.assertIn("--colour", err)

    def test_bad_data(self):
        empty = self.folder / "empty.txt"
        empty.write_text("")
        self.assert_refused("empty|no text", *SMALL, "--data", empty, "--steps", 3, "--out", self.folder / "none")
        self.assert_refused("--data FILE", *SMALL, "--steps", 3, "--out", self.folder / "none")
        other = self.folder / "other.txt"
        write_text(other, seed=2)
        self.assert_refused("is not the one that the run was trained on", "--resume", "--out", self.whole, "--data", other)

    def test_a_run_is_never_overwritten(self):
        out, err = self.start("whole", status=1)
        self.assertRegex(err, "error: .*already holds a run.*--resume --out")
        self.assertEqual((self.whole / "checkpoint.safetensors").read_bytes(), self.checkpoint)

    def test_resume_takes_no_other_configuration(self):
        self.assert_refused("--lr can't change", "--resume", "--out", self.whole, "--lr", "0.1")
        self.assert_refused("--steps can't change", "--resume", "--out", self.whole, "--steps", "99")
        self.assert_refused("needs --out", "--resume")
        self.assert_refused("has no checkpoint", "--resume", "--out", self.folder / "nowhere")

    def test_damaged_checkpoints(self):
        size = len(self.checkpoint)
        header = 8 + struct.unpack("<Q", self.checkpoint[:8])[0]
        damaged = {f"cut at {at}": self.checkpoint[:at] for at in (0, 5, header - 1, size - 1)}
        for at in (0, 9, header // 2, header + 1, (header + size) // 2, size - 1):
            flipped = bytearray(self.checkpoint)
            flipped[at] ^= 4
            damaged[f"bit flipped at {at}"] = bytes(flipped)
        damaged["text"] = b"This is no checkpoint. " * 99
        # A safetensors file of someone else.
        text = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        damaged["foreign"] = struct.pack("<Q", len(text)) + text + b"\0\0\0\0"
        for name, contents in damaged.items():
            with self.subTest(name):
                folder = self.run_with_checkpoint(name.replace(" ", "-"), contents)
                self.assert_refused("checkpoint.safetensors", "--resume", "--out", folder)
                self.assert_refused("checkpoint.safetensors", "--checkpoint", folder, program=SAMPLE)
                self.assertEqual((folder / "checkpoint.safetensors").read_bytes(), contents)

    def test_full_disk(self):
        """Files may not grow beyond a limit below the checkpoint's size, as on a disk that is full."""
        self.start("full", "--stop-at", 5)
        folder = self.folder / "full"
        before = (folder / "checkpoint.safetensors").read_bytes()
        limit = len(before) // 2

        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        self.assert_refused("checkpoint.safetensors", "--resume", "--out", folder, "--save-every", 2,
                            preexec_fn=limited, restore_signals=False)
        self.assertEqual((folder / "checkpoint.safetensors").read_bytes(), before)
        self.assertEqual([p for p in folder.iterdir() if "tmp" in p.name], [])
        call(TRAIN, "--resume", "--out", folder)
        self.assert_same(folder)

    def test_model_that_is_not_finite(self):
        """With this learning rate the first step ruins the model: it must not be saved."""
        for name, options, step, what in (("gradient", ["--eval-every", 9], 2, "gradient's norm"),
                                          ("validation", ["--eval-every", 1], 1, "validation loss")):
            with self.subTest(name):
                folder = self.folder / f"infinite-{name}"
                self.assert_refused(f"training stopped in step {step}, nothing was saved yet: .*{what} is", *self.replaced(
                    "--out", folder, "--lr", "1e30", "--clip", "0", "--warmup", "0", "--sample-every", "0", *options))
                self.assertFalse((folder / "checkpoint.safetensors").exists())

    def test_anomaly(self):
        """--anomaly changes no number of a sound run, and names the op where an unsound one goes wrong."""
        folder = self.folder / "anomaly"
        call(TRAIN, *SMALL, "--data", self.data, "--steps", STEPS, "--out", folder, "--stop-at", 4, "--anomaly")
        call(TRAIN, "--resume", "--out", folder, "--anomaly")
        self.assert_same(folder)
        self.assert_refused("training stopped in step 2, nothing was saved yet: anomaly in (forward|backward) of .*'blocks",
                            *self.replaced("--out", self.folder / "anomaly-found", "--lr", "1e30", "--clip", "0",
                                           "--warmup", "0", "--sample-every", "0", "--eval-every", 9, "--anomaly"))

    def test_profile(self):
        """--profile says where the time of a step goes, and trains nothing."""
        folder = self.folder / "profile"
        out, _ = call(TRAIN, *SMALL, "--data", self.data, "--steps", STEPS, "--out", folder, "--profile", 2)
        for words in ("2 steps of", "linear, backward", "erc_loss", "AdamW", "data", "share"):
            self.assertIn(words, out)
        names = {event["name"] for event in json.loads((folder / "trace.json").read_text())["traceEvents"]}
        self.assertIn("expert_ffn, backward" if DEVICE == "cpu" else "combine, backward", names)
        self.assertFalse((folder / "checkpoint.safetensors").exists())

    # sample_lm

    def test_sample(self):
        arguments = ["--checkpoint", self.whole, "--prompt", "in the", "--tokens", "60", "--seed", "3"]
        first = call(SAMPLE, *arguments)[0]
        self.assertTrue(first.startswith("in the") and len(first) > 40)
        self.assertEqual(first, call(SAMPLE, *arguments, "--threads", "1")[0])
        self.assertNotEqual(first, call(SAMPLE, *arguments[:-1], "4")[0])
        likeliest = call(SAMPLE, *arguments, "--temperature", "0")[0]
        self.assertEqual(likeliest, call(SAMPLE, *arguments[:-1], "4", "--top-k", "1")[0])
        self.assertEqual(likeliest, call(SAMPLE, *arguments[:-1], "5", "--top-p", "1e-6")[0])
        for message, options in {"temperature": ["--temperature", "-1"], "top_p": ["--top-p", "0"],
                                 "prompt": ["--prompt", ""]}.items():
            replaced = [a for a in arguments if not (options[0] == "--prompt" and a in ("--prompt", "in the"))]
            self.assert_refused(message, *replaced, *options, program=SAMPLE)
        self.assert_refused("missing", "--checkpoint", self.folder / "missing", program=SAMPLE)


def main():
    global TRAIN, SAMPLE, DEVICE
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", default="build/cpu/bin/train_lm")
    parser.add_argument("--sample", default="build/cpu/bin/sample_lm")
    parser.add_argument("--device", default="cpu", help="where all runs but those that name one are made")
    arguments, rest = parser.parse_known_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads leave a busy machine to others
    DEVICE = arguments.device
    TRAIN, SAMPLE = str(Path(arguments.train).resolve()), str(Path(arguments.sample).resolve())
    unittest.main(argv=[sys.argv[0], *rest])


if __name__ == "__main__":
    main()
