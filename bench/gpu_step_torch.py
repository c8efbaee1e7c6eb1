#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole training steps on a GPU, moxie against compiled PyTorch, and their ratio.

Needs PyTorch 2.11 or later with a GPU, and a built gpu_step:
  python bench/gpu_step_torch.py --shape small --bench build/cuda/bin/gpu_step
The PyTorch model is the same one: RoPE, RMSNorm, SwiGLU, softmax router, balance loss, scaled_dot_product_attention,
grouped_mm experts, cross entropy, clipping and fused AdamW; parameters in f32, computation in bf16 by autocast; its
blocks are compiled. First a small model of each is checked: the experts against a loop, and that the loss falls.
"""
import argparse
import json
import math
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

SHAPES = {
    "tiny": dict(vocabulary=256, layers=4, width=128, heads=4, experts=8, top_k=2, hidden=128, time=128, batch=16),
    "small": dict(vocabulary=256, layers=8, width=256, heads=8, experts=16, top_k=2, hidden=256, time=256, batch=64),
    "dense124m": dict(vocabulary=50304, layers=12, width=768, heads=12, experts=0, top_k=0, hidden=2048, time=1024, batch=16, tied=True),
    "erc3b": dict(vocabulary=50304, layers=12, width=1536, heads=16, experts=64, top_k=8, hidden=768, time=2048, batch=4, recompute=True, over_all=True),
}
grouped_mm = getattr(F, "grouped_mm", None) or torch._grouped_mm


def rope_tables(steps, head_dim, device):
    frequency = 10000.0 ** (-torch.arange(0, head_dim, 2, device=device) / head_dim)
    angle = torch.arange(steps, device=device)[:, None] * frequency[None]
    return angle.cos(), angle.sin()


def rotate(x, cosine, sine):
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1).to(x.dtype)


class Dense(torch.nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.up = torch.nn.Linear(width, 2 * hidden, bias=False)
        self.down = torch.nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        gate, up = self.up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up), x.new_zeros(())


class Experts(torch.nn.Module):
    def __init__(self, width, experts, top_k, hidden, over_all):
        super().__init__()
        self.top_k, self.experts, self.over_all = top_k, experts, over_all
        self.router = torch.nn.Linear(width, experts, bias=False)
        self.up = torch.nn.Parameter(torch.randn(experts, 2 * hidden, width) * width**-0.5)
        self.down = torch.nn.Parameter(torch.randn(experts, width, hidden) * hidden**-0.5)

    def route(self, x):
        with torch.autocast(x.device.type, enabled=False):
            scores = x.float() @ self.router.weight.T
            shares = scores.softmax(-1)
            best, chosen = (shares if self.over_all else scores).topk(self.top_k, -1)
            weights = best if self.over_all else best.softmax(-1)
        flat = chosen.flatten()
        count = torch.zeros(self.experts, dtype=torch.int64, device=x.device).scatter_add(0, flat, torch.ones_like(flat))
        balance = self.experts * (count / flat.numel() * shares.mean(0)).sum()
        return weights, flat, count, balance

    def forward(self, x):
        weights, flat, count, balance = self.route(x)
        order = flat.argsort(stable=True)
        place = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=x.device))
        offsets = count.cumsum(0).to(torch.int32)
        rows = x.to(torch.bfloat16)[order // self.top_k]
        gate, up = grouped_mm(rows, self.up.to(torch.bfloat16).transpose(1, 2), offs=offsets).chunk(2, -1)
        out = grouped_mm(F.silu(gate) * up, self.down.to(torch.bfloat16).transpose(1, 2), offs=offsets)
        out = out[place].view(x.shape[0], self.top_k, -1)
        return (out * weights[..., None].to(out.dtype)).sum(1), balance

    def loop(self, x):
        """The same by a loop over experts, to verify."""
        weights, flat, _, balance = self.route(x)
        out = torch.zeros_like(x, dtype=torch.float32)
        for expert in range(self.experts):
            token, slot = (flat.view(-1, self.top_k) == expert).nonzero(as_tuple=True)
            gate, up = (x[token].float() @ self.up[expert].T).chunk(2, -1)
            out.index_add_(0, token, weights[token, slot, None] * ((F.silu(gate) * up) @ self.down[expert].T))
        return out, balance


class Block(torch.nn.Module):
    def __init__(self, s):
        super().__init__()
        width = s["width"]
        self.heads = s["heads"]
        self.norm1, self.norm2 = torch.nn.RMSNorm(width, eps=1e-5), torch.nn.RMSNorm(width, eps=1e-5)
        self.qkv = torch.nn.Linear(width, 3 * width, bias=False)
        self.output = torch.nn.Linear(width, width, bias=False)
        moe = s["experts"] > 0
        self.feed_forward = Experts(width, s["experts"], s["top_k"], s["hidden"], s.get("over_all", False)) if moe else Dense(width, s["hidden"])

    def forward(self, x, cosine, sine):
        batch, steps, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q, cosine, sine), rotate(k, cosine, sine), v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, steps, width))
        y, balance = self.feed_forward(self.norm2(x).view(-1, width))
        return x + y.view_as(x), balance


class Model(torch.nn.Module):
    def __init__(self, s, device):
        super().__init__()
        self.recompute = s.get("recompute", False)
        self.embedding = torch.nn.Embedding(s["vocabulary"], s["width"])
        self.blocks = torch.nn.ModuleList(Block(s) for _ in range(s["layers"]))
        self.norm = torch.nn.RMSNorm(s["width"], eps=1e-5)
        self.head = torch.nn.Linear(s["width"], s["vocabulary"], bias=False)
        torch.nn.init.normal_(self.embedding.weight, std=0.02)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        if s.get("tied"):
            self.head.weight = self.embedding.weight
        self.tables = rope_tables(s["time"], s["width"] // s["heads"], device)

    def logits_loss(self, x, targets):
        return F.cross_entropy(self.head(self.norm(x)).float().view(-1, self.head.out_features), targets.view(-1))

    def forward(self, tokens, targets):
        x, balance = self.embedding(tokens).to(torch.bfloat16), 0
        for block in self.blocks:
            x, term = checkpoint(block, x, *self.tables, use_reentrant=False) if self.recompute else block(x, *self.tables)
            balance = balance + term
        loss = self.logits_loss(x, targets)
        return loss + 0.01 * balance / len(self.blocks)


class Peer:
    def __init__(self, s, device, compile_it, capturable=False):
        torch.manual_seed(1)
        with torch.device(device):
            self.model = Model(s, device)
            self.tokens = torch.randint(s["vocabulary"], (s["batch"], s["time"]))
            self.targets = torch.randint(s["vocabulary"], (s["batch"], s["time"]))
        if compile_it:
            for block in self.model.blocks:
                block.compile()
            self.model.logits_loss = torch.compile(self.model.logits_loss)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True,
                                           capturable=capturable)

    def capture(self):
        """From here on a step is one CUDA graph."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        self.step = graph.replay

    def step(self):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = self.model(self.tokens, self.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def milliseconds(self, rounds, steps):
        times = []
        for _ in range(rounds):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(steps):
                self.step()
            torch.cuda.synchronize()
            times.append((time.perf_counter() - start) * 1e3 / steps)
        return statistics.median(times)


def verify(device):
    peer = Peer(SHAPES["tiny"], device, False)
    x = torch.randn(200, 128, device=device)
    with torch.no_grad():
        experts = peer.model.blocks[0].feed_forward
        got, wanted = experts(x)[0].float(), experts.loop(x)[0]
    error = (got - wanted).abs().max().item() / wanted.abs().max().item()
    assert error < 0.03, f"grouped_mm and the loop differ by {error}"
    first = peer.step().item()
    for _ in range(20):
        last = peer.step().item()
    assert math.isfinite(last) and last < first, f"the loss went from {first} to {last}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--bench", default="build/cuda/bin/gpu_step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=0, help="sequences per step; 0: the shape's own")
    parser.add_argument("--eager", action="store_true", help="don't compile")
    parser.add_argument("--cuda-graph", action="store_true", help="each step as one CUDA graph, on both sides")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    shape = dict(SHAPES[arguments.shape])
    if arguments.batch:
        shape["batch"] = arguments.batch
    command = [arguments.bench, "--shape", arguments.shape, "--rounds", str(arguments.rounds), "--steps", str(arguments.steps), "--batch", str(arguments.batch), "--json"]
    if arguments.cuda_graph:
        command.append("--cuda-graph")
    run = subprocess.run(command, capture_output=True, text=True)
    ours = json.loads(run.stdout) if run.returncode == 0 else {"error": run.stderr.strip()}
    print(json.dumps({"moxie": ours}), flush=True)
    verify(arguments.device)
    peer = Peer(shape, arguments.device, not arguments.eager, arguments.cuda_graph)
    started = time.perf_counter()
    peer.milliseconds(1, 3)  # compiles
    if arguments.cuda_graph:
        peer.capture()
    print(json.dumps({"torch_compile_s": round(time.perf_counter() - started, 1)}), flush=True)
    theirs = peer.milliseconds(arguments.rounds, arguments.steps)
    tokens = shape["batch"] * shape["time"]
    row = {"shape": arguments.shape, "device": torch.cuda.get_device_name(), "torch": torch.__version__, "compiled": not arguments.eager, "cuda_graph": arguments.cuda_graph,
           "torch_ms": round(theirs, 3), "torch_tokens_per_s": round(tokens / theirs * 1e3),
           "torch_memory_gb": round(torch.cuda.max_memory_allocated() * 1e-9, 2)}
    if "ms" in ours:
        row |= {"moxie_ms": round(ours["ms"], 3), "moxie_tokens_per_s": round(ours["tokens_per_s"]), "moxie_over_torch_time": round(ours["ms"] / theirs, 3)}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
