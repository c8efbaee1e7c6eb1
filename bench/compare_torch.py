#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole training steps, moxie against PyTorch on the same CPU, in turns.

Needs PyTorch (pip install torch==2.13.0 in a virtual environment) and a built bench_train_step:
  python bench/compare_torch.py --shape tiny --bench build/cpu/bin/bench_train_step
The PyTorch model is the same one: byte vocabulary, RoPE, RMSNorm, SwiGLU experts, softmax over the chosen experts,
balance loss, scaled_dot_product_attention, fused AdamW, clipping; its experts run as a loop or as grouped_mm.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F

SHAPES = {  # layers, width, heads, experts, top_k, hidden, time, batch
    "tiny": (4, 128, 4, 8, 2, 128, 128, 16),
    "small": (8, 256, 8, 16, 2, 256, 256, 16),
    "fine": (8, 256, 8, 64, 8, 64, 256, 16),
}


def rope_tables(time_steps, head_dim):
    frequency = 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    angle = torch.arange(time_steps)[:, None] * frequency[None]
    return angle.cos(), angle.sin()


def rotate(x, cosine, sine):
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


class Experts(torch.nn.Module):
    def __init__(self, width, experts, top_k, hidden, grouped):
        super().__init__()
        self.top_k, self.experts, self.grouped = top_k, experts, grouped
        self.router = torch.nn.Linear(width, experts, bias=False)
        self.up = torch.nn.Parameter(torch.randn(experts, 2 * hidden, width) * width**-0.5)
        self.down = torch.nn.Parameter(torch.randn(experts, width, hidden) * hidden**-0.5)

    def forward(self, x):
        scores = self.router(x)
        best, chosen = scores.topk(self.top_k, -1)
        weights = best.softmax(-1).flatten()
        flat = chosen.flatten()
        count = torch.bincount(flat, minlength=self.experts)
        balance = self.experts * (count / flat.numel() * scores.softmax(-1).mean(0)).sum()
        order = flat.argsort(stable=True)
        token = order // self.top_k
        rows = x[token]
        if self.grouped:
            offsets = count.cumsum(0).to(torch.int32)
            gate, up = F.grouped_mm(rows, self.up.transpose(1, 2), offs=offsets).chunk(2, -1)
            out = F.grouped_mm(F.silu(gate) * up, self.down.transpose(1, 2), offs=offsets)
        else:
            parts = []
            for expert, part in enumerate(rows.split(count.tolist())):
                gate, up = (part @ self.up[expert].T).chunk(2, -1)
                parts.append((F.silu(gate) * up) @ self.down[expert].T)
            out = torch.cat(parts)
        out = out * weights[order, None]
        return torch.zeros_like(x).index_add(0, token, out), balance


class Block(torch.nn.Module):
    def __init__(self, width, heads, experts, top_k, hidden, grouped):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.RMSNorm(width, eps=1e-5), torch.nn.RMSNorm(width, eps=1e-5)
        self.qkv = torch.nn.Linear(width, 3 * width, bias=False)
        self.output = torch.nn.Linear(width, width, bias=False)
        self.experts = Experts(width, experts, top_k, hidden, grouped)

    def forward(self, x, cosine, sine):
        batch, steps, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q, cosine, sine), rotate(k, cosine, sine), v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, steps, width))
        y, balance = self.experts(self.norm2(x).view(-1, width))
        return x + y.view_as(x), balance


class Model(torch.nn.Module):
    def __init__(self, shape, grouped):
        super().__init__()
        layers, width, heads, experts, top_k, hidden, steps, _ = shape
        self.embedding = torch.nn.Embedding(256, width)
        self.blocks = torch.nn.ModuleList(Block(width, heads, experts, top_k, hidden, grouped) for _ in range(layers))
        self.norm = torch.nn.RMSNorm(width, eps=1e-5)
        self.head = torch.nn.Linear(width, 256, bias=False)
        self.tables = rope_tables(steps, width // heads)

    def forward(self, tokens, targets):
        x, balance = self.embedding(tokens), 0
        for block in self.blocks:
            x, term = block(x, *self.tables)
            balance = balance + term
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, 256), targets.view(-1)) + 0.01 * balance / len(self.blocks)


class TorchPeer:
    def __init__(self, shape, grouped):
        torch.manual_seed(1)
        self.model = Model(shape, grouped)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        self.tokens = torch.randint(256, (shape[7], shape[6]))
        self.targets = torch.randint(256, (shape[7], shape[6]))

    def milliseconds(self, steps):
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            self.model(self.tokens, self.targets).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--bench", default="build/cpu/bin/bench_train_step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="timed steps per round")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peers = {name: TorchPeer(SHAPES[arguments.shape], name == "grouped_mm") for name in ("loop", "grouped_mm")}
    for peer in peers.values():
        peer.milliseconds(3)
    ratios = {name: [] for name in peers}
    for _ in range(arguments.rounds):
        command = [arguments.bench, "--shape", arguments.shape, "--steps", str(arguments.steps), "--threads", str(arguments.threads), "--json"]
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["ms"]
        row = {"shape": arguments.shape, "moxie_ms": round(ours, 1)}
        for name, peer in peers.items():
            theirs = peer.milliseconds(arguments.steps)
            ratios[name].append(ours / theirs)
            row[f"torch_{name}_ms"] = round(theirs, 1)
        print(json.dumps(row), flush=True)
    print(json.dumps({f"ratio_to_{name}": round(statistics.median(values), 3) for name, values in ratios.items()}))


if __name__ == "__main__":
    main()
