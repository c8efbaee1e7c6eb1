# SPDX-License-Identifier: Apache-2.0
"""The language model of bench_train_step in PyTorch, and the process in which bench/compare_torch.py times it.

The worker reads a count from each line of its input, makes so many training steps, and answers with one JSON line, as
`bench_train_step --turns` does.
"""
import dataclasses
import json
import logging
import os
import re
import resource
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


@dataclasses.dataclass(frozen=True)
class Variant:
    experts: str  # loop, grouped_mm, padded; dense has none of them
    compiled: bool
    tcmalloc: bool

    @property
    def name(self):
        return "-".join([self.experts, "compiled" if self.compiled else "eager", "tcmalloc" if self.tcmalloc else "glibc"])

    @staticmethod
    def named(name):
        experts, compiled, malloc = name.split("-")
        return Variant(experts, compiled == "compiled", malloc == "tcmalloc")


@dataclasses.dataclass(frozen=True)
class Settings:
    """As bench_train_step writes them beside the weights."""
    layers: int
    width: int
    heads: int
    experts: int
    top_k: int
    hidden: int
    time: int
    batch: int
    dense: bool
    dtype: str  # of activations and matmuls: f32, or bf16 by autocast
    perturbed: bool  # the router is the perturbed cosine, otherwise linear
    erc: bool
    tau_expert: float
    tau_token: float
    erc_alpha: float
    balance_weight: float
    epsilon: float
    rope_base: float
    lr: float
    lr_warmup: int
    beta1: float
    beta2: float
    adam_epsilon: float
    weight_decay: float
    clip: float


def rope_tables(s):
    half = s.width // s.heads // 2
    frequency = s.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(s.time)[:, None] * frequency[None]
    return angle.cos().float(), angle.sin().float()


def rotate(x, cosine, sine):
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def swiglu(x):
    gate, up = x.chunk(2, -1)
    return F.silu(gate) * up


def swiglu_ffn(x, gate_up, down):
    return F.linear(swiglu(F.linear(x, gate_up)), down)


class Dense(torch.nn.Module):
    def __init__(self, s):
        super().__init__()
        self.gate_up = torch.nn.Parameter(torch.empty(2 * s.top_k * s.hidden, s.width))
        self.down = torch.nn.Parameter(torch.empty(s.width, s.top_k * s.hidden))

    def forward(self, x, _):
        return swiglu_ffn(x, self.gate_up, self.down), x.new_zeros(()), x.new_zeros(())


class Experts(torch.nn.Module):
    def __init__(self, s, how, compiled):
        super().__init__()
        self.s = s
        self.router = torch.nn.Parameter(torch.empty(s.experts, s.width))
        self.bias = torch.nn.Parameter(torch.empty(s.experts))
        self.gate_up = torch.nn.Parameter(torch.empty(s.experts, 2 * s.hidden, s.width))
        self.down = torch.nn.Parameter(torch.empty(s.experts, s.width, s.hidden))
        self.run = {"loop": self.loop, "grouped_mm": self.grouped, "padded": self.padded}[how]
        # Around the graph breaks of loop and grouped; padded has none.
        self.ffn = torch.compile(swiglu_ffn, dynamic=True) if compiled else swiglu_ffn
        self.swiglu = torch.compile(swiglu) if compiled else swiglu

    def scores(self, x):
        if not self.s.perturbed:
            return F.linear(x, self.router)
        norms = (x.norm(dim=-1, keepdim=True) + self.s.tau_token) * (self.router.norm(dim=-1) + self.s.tau_expert)
        return F.linear(x, self.router) / norms

    def erc(self, uniform):
        """The ERC loss; `uniform` [experts, width] in (-1, 1) is the noise of the proxies."""
        with torch.no_grad():
            distance = torch.cdist(self.router, self.router, compute_mode="donot_use_mm_for_euclid_dist")
            distance.fill_diagonal_(torch.inf)
            delta = 1 + (distance.amin(1) / (2 * self.router.norm(dim=-1)))[:, None] * uniform
        gate = self.gate_up[:, :self.s.hidden]
        m = ((self.router * delta) @ gate.transpose(1, 2)).norm(dim=-1).T
        own = self.s.erc_alpha * m.diagonal()[:, None]
        hinges = (F.relu(m - own) + F.relu(m.T - own)) * (1 - torch.eye(self.s.experts))
        return hinges.sum() / self.s.experts**2

    def forward(self, x, uniform):
        scores = self.scores(x)
        best, chosen = scores.topk(self.s.top_k, -1)
        weights = (best + self.bias[chosen]).softmax(-1).flatten()
        flat = chosen.flatten()
        load = torch.zeros(self.s.experts, dtype=torch.int64).scatter_add(0, flat, torch.ones_like(flat))
        balance = self.s.experts * (load / flat.numel() * scores.softmax(-1).mean(0)).sum()
        order = flat.argsort(stable=True)
        token = order // self.s.top_k
        rows = x.index_select(0, token)  # its backward pass is faster than that of x[token]
        out = self.run(rows, load) * weights.index_select(0, order)[:, None]
        erc = self.erc(uniform) if self.s.erc else x.new_zeros(())
        return torch.zeros_like(x).index_add(0, token, out), balance, erc

    @torch.compiler.disable  # but its FFN is compiled, for any number of rows
    def loop(self, rows, load):
        parts = rows.split(load.tolist())
        return torch.cat([self.ffn(part, self.gate_up[e], self.down[e]) for e, part in enumerate(parts)])

    @torch.compiler.disable  # tracing refuses f32 here, though the op itself takes it on the CPU
    def grouped(self, rows, load):
        ends = load.cumsum(0).to(torch.int32)
        projected = F.grouped_mm(rows, self.gate_up.transpose(1, 2), offs=ends)
        return F.grouped_mm(self.swiglu(projected), self.down.transpose(1, 2), offs=ends)

    def padded(self, rows, load):
        expert = torch.repeat_interleave(torch.arange(self.s.experts), load, output_size=rows.shape[0])
        place = torch.arange(rows.shape[0]) - (load.cumsum(0) - load)[expert]
        capacity = int(load.max())
        slot = expert * capacity + place
        space = rows.new_zeros(self.s.experts * capacity, self.s.width).index_copy(0, slot, rows)
        projected = torch.bmm(space.view(self.s.experts, capacity, -1), self.gate_up.transpose(1, 2))
        return torch.bmm(swiglu(projected), self.down.transpose(1, 2)).flatten(0, 1).index_select(0, slot)


class Block(torch.nn.Module):
    def __init__(self, s, variant):
        super().__init__()
        self.heads = s.heads
        self.norm1, self.norm2 = torch.nn.RMSNorm(s.width, eps=s.epsilon), torch.nn.RMSNorm(s.width, eps=s.epsilon)
        self.qkv = torch.nn.Linear(s.width, 3 * s.width, bias=False)
        self.output = torch.nn.Linear(s.width, s.width, bias=False)
        self.feed_forward = Dense(s) if s.dense else Experts(s, variant.experts, variant.compiled)

    def forward(self, x, cosine, sine, uniform):
        batch, steps, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q, cosine, sine), rotate(k, cosine, sine), v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, steps, width))
        y, balance, erc = self.feed_forward(self.norm2(x).view(-1, width), uniform)
        return x + y.view_as(x), balance, erc


class Model(torch.nn.Module):
    def __init__(self, s, variant):
        super().__init__()
        self.s = s
        self.embedding = torch.nn.Embedding(256, s.width)
        self.blocks = torch.nn.ModuleList(Block(s, variant) for _ in range(s.layers))
        self.norm = torch.nn.RMSNorm(s.width, eps=s.epsilon)
        self.head = torch.nn.Linear(s.width, 256, bias=False)
        self.tables = rope_tables(s)
        if variant.compiled:
            for block in self.blocks:
                block.compile()
            self.cross_entropy = torch.compile(self.cross_entropy)

    def cross_entropy(self, x, targets):
        return F.cross_entropy(self.head(self.norm(x)).view(-1, 256), targets.view(-1))

    def forward(self, tokens, targets, uniform):
        x, balance, erc = self.embedding(tokens), 0, 0
        for i, block in enumerate(self.blocks):
            x, balance_term, erc_term = block(x, *self.tables, uniform[i] if self.s.erc else None)
            balance, erc = balance + balance_term, erc + erc_term
        loss = self.cross_entropy(x, targets)
        layers = len(self.blocks)
        return loss, loss + self.s.balance_weight * balance / layers + erc / layers

    def load(self, path):
        """Takes the weights of a moxie model."""
        names = {"embedding.weight": "embedding.weight", "norm.weight": "norm.weight", "head.weight": "head"}
        for i in range(len(self.blocks)):
            block = f"blocks.{i}."
            names |= {block + ours: block + theirs for ours, theirs in {
                "norm1.weight": "attention_norm.weight", "norm2.weight": "feed_forward_norm.weight",
                "qkv.weight": "attention.qkv.weight", "output.weight": "attention.output.weight"}.items()}
            names |= {block + "feed_forward." + ours: block + theirs for ours, theirs in ({
                "gate_up": "dense.up.weight", "down": "dense.down.weight"} if self.s.dense else {
                "router": "moe.router.weight", "bias": "moe.router.bias",
                "gate_up": "moe.experts.gate_up", "down": "moe.experts.down"}).items()}
        weights = load_file(path)
        assert set(names.values()) == set(weights), set(names.values()) ^ set(weights)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(weights[names[name]])

    def optimizer(self):
        plain = re.compile(r"(embedding|norm\d?)\.weight|bias")  # without weight decay
        kept = [p for name, p in self.named_parameters() if plain.search(name)]
        decayed = [p for name, p in self.named_parameters() if not plain.search(name)]
        return torch.optim.AdamW([{"params": decayed}, {"params": kept, "weight_decay": 0.0}], lr=self.s.lr,
                                 betas=(self.s.beta1, self.s.beta2), eps=self.s.adam_epsilon,
                                 weight_decay=self.s.weight_decay, fused=True)


def status_megabytes(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024e-6 for line in status if line.startswith(field + ":"))


def serve(settings, variant, folder, threads):
    """Answers counts of steps with times until the input ends; the peak begins anew where a line says so."""
    torch.set_num_threads(threads)
    torch._logging.set_logs(dynamo=logging.ERROR)  # which would name every graph break
    model = Model(settings, variant)
    model.load(os.path.join(folder, "model.safetensors"))
    data = load_file(os.path.join(folder, "data.safetensors"))
    tokens, targets = data["tokens"].long(), data["targets"].long()
    optimizer, step = model.optimizer(), 0
    print(json.dumps({"ready": variant.name}), flush=True)
    for line in sys.stdin:
        if line.strip() == "reset":
            with open("/proc/self/clear_refs", "w") as clear:
                clear.write("5")
            continue
        answer = {"ms": [], "cross_entropy": [], "total": []}
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(int(line)):
            at = step % tokens.shape[0]
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.dtype == "bf16"):
                loss, total = model(tokens[at], targets[at], data["uniform"][at] if settings.erc else None)
            total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip, foreach=True)
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * min(1.0, (step + 1) / settings.lr_warmup)
            optimizer.step()
            optimizer.zero_grad()
            answer["cross_entropy"].append(loss.item())
            answer["total"].append(total.item())
            answer["ms"].append((time.perf_counter() - start) * 1e3)
            step += 1
        answer["peak_mb"] = status_megabytes("VmHWM")
        answer["page_faults"] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _, folder, variant_name, threads = sys.argv
    with open(os.path.join(folder, "settings.json")) as file:
        serve(Settings(**json.load(file)), Variant.named(variant_name), folder, int(threads))
