#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One MoE layer on a GPU, moxie against compiled PyTorch, forward and backward in bf16.

Needs PyTorch 2.11 or later with a GPU, and a built gpu_layer:
  python bench/gpu_layer_torch.py --bench build/cuda/bin/gpu_layer
The PyTorch layer: softmax router in f32, experts' rows by a stable sort and a gather, grouped_mm, SwiGLU, and a sum over
the assignments. First it is checked against a loop over the experts.
"""
import argparse
import json
import statistics
import subprocess

import torch
import torch.nn.functional as F

SHAPES = [(40960, 768, 256, 128, 8), (40960, 768, 512, 64, 4), (40960, 768, 1024, 32, 2), (24576, 1536, 256, 128, 8),
          (24576, 1536, 1024, 32, 2), (32768, 4096, 512, 128, 8), (32768, 4096, 2048, 64, 4)]
grouped_mm = getattr(F, "grouped_mm", None) or torch._grouped_mm


class Layer(torch.nn.Module):
    def __init__(self, width, hidden, experts, top_k):
        super().__init__()
        self.top_k, self.experts = top_k, experts
        self.router = torch.nn.Parameter(torch.randn(experts, width) * width**-0.5)
        self.gate_up = torch.nn.Parameter(torch.randn(experts, 2 * hidden, width, dtype=torch.bfloat16) * width**-0.5)
        self.down = torch.nn.Parameter(torch.randn(experts, width, hidden, dtype=torch.bfloat16) * hidden**-0.5)

    def forward(self, x):
        scores = x.float() @ self.router.T
        top, chosen = scores.topk(self.top_k, dim=-1)
        weights = top.softmax(-1)
        experts, order = chosen.flatten().sort(stable=True)
        ends = torch.searchsorted(experts, torch.arange(self.experts, device=x.device), right=True).to(torch.int32)
        rows = x[order // self.top_k]
        gate, up = grouped_mm(rows, self.gate_up.transpose(1, 2), offs=ends).chunk(2, -1)
        out = grouped_mm(F.silu(gate) * up, self.down.transpose(1, 2), offs=ends)
        slot = torch.empty_like(order)
        slot[order] = torch.arange(order.numel(), device=x.device)
        picked = out[slot].view(x.shape[0], self.top_k, -1)
        return (picked * weights.to(x.dtype)[..., None]).sum(1)


def verify():
    torch.manual_seed(0)
    layer, x = Layer(64, 32, 6, 2), torch.randn(200, 64, dtype=torch.bfloat16)
    top, chosen = (x.float() @ layer.router.T).topk(2, dim=-1)
    wanted = torch.zeros(200, 64)
    for expert in range(6):
        token, place = (chosen == expert).nonzero(as_tuple=True)
        gate, up = (x[token].float() @ layer.gate_up[expert].float().T).chunk(2, -1)
        out = (F.silu(gate) * up) @ layer.down[expert].float().T
        wanted.index_add_(0, token, out * top.softmax(-1)[token, place][:, None])
    error = ((layer(x).float() - wanted).norm() / wanted.norm()).item()
    assert error < 2e-2, f"the layer differs from a loop over the experts by {error:.2g}"


def milliseconds(f, rounds, calls=5):
    for _ in range(3):
        f()
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            f()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / calls)
    return statistics.median(times)


def time_shape(shape, rounds):
    tokens, width, hidden, experts, top_k = shape
    torch.manual_seed(0)
    layer = Layer(width, hidden, experts, top_k)
    compiled = torch.compile(layer)
    x = torch.randn(tokens, width, dtype=torch.bfloat16, requires_grad=True)
    dy = torch.randn(tokens, width, dtype=torch.bfloat16)
    forward = milliseconds(lambda: compiled(x), rounds)

    def both():
        layer.zero_grad()
        x.grad = None
        compiled(x).backward(dy)

    backward = milliseconds(both, rounds) - forward
    flops = 6 * tokens * top_k * width * hidden
    return forward, backward, flops / forward * 1e-9, 2 * flops / backward * 1e-9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", help="gpu_layer, for the ratio")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--short", action="store_true", help="the first, third and last shape only")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    options = parser.parse_args()
    torch.set_default_device("cuda")
    verify()
    shapes = [SHAPES[0], SHAPES[2], SHAPES[-1]] if options.short else SHAPES
    for shape in shapes:
        torch.compiler.reset()
        forward, backward, forward_tflops, backward_tflops = time_shape(shape, options.rounds)
        row = dict(zip(("tokens", "width", "hidden", "experts", "top_k"), shape), forward_ms=forward,
                   backward_ms=backward, forward_tflops=forward_tflops, backward_tflops=backward_tflops)
        if options.bench:
            torch.cuda.empty_cache()
            command = [options.bench, "--json", "--unverified", "--shape", *map(str, shape)]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            row["forward_ratio"] = forward / ours["layer_forward_ms"]
            row["backward_ratio"] = backward / ours["layer_backward_ms"]
        if options.json:
            print(json.dumps(row), flush=True)
        else:
            print("  ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                            for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
