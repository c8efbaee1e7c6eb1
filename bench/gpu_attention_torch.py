#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The shapes of bench/gpu_attention.cpp with PyTorch's scaled_dot_product_attention, for the same machine and the same count of
operations: TFLOP/s of forward and backward in bf16. Sliding windows are left out, since there it needs a mask."""
import argparse
import json
import statistics
import sys

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def milliseconds(call, rounds=9):
    """The median over `rounds` of batches that keep the GPU busy for about 10 ms each."""
    def batch(calls):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / calls
    batch(2)
    calls = max(1, int(10 / batch(1)))
    return statistics.median(batch(calls) for _ in range(rounds))


def shapes(everything):
    """(batch, heads, kv_heads, length, head_dim, causal)"""
    for head_dim in (128, 64, 96, 32):
        heads = 2048 // head_dim
        for length in (1024, 4096, 16384) if everything else (4096,):
            yield 16384 // length, heads, heads, length, head_dim, True
        if everything or head_dim == 128:
            yield 4, heads, heads, 4096, head_dim, False
            yield 4, heads, heads // 4, 4096, head_dim, True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="more shapes")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu_attention_torch: no GPU")
    if not arguments.json:
        print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}")
        print("backend batch   heads length  dim causal | forward ms  TFLOP/s | backward ms  TFLOP/s")
    for batch, heads, kv_heads, length, head_dim, causal in shapes(arguments.all):
        def numbers(count):
            return torch.randn(batch, length, count, head_dim, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
        q, k, v = (numbers(count).requires_grad_() for count in (heads, kv_heads, kv_heads))
        dout = numbers(heads)
        pairs = length * (length + 1) / 2 if causal else length * length
        operations = 4 * batch * heads * head_dim * pairs
        for name, backend in BACKENDS.items():
            def forward():
                return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=heads != kv_heads)
            try:
                with sdpa_kernel(backend):
                    with torch.no_grad():
                        forward_ms = milliseconds(forward)
                    out = forward()
                    backward_ms = milliseconds(lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True))
            except RuntimeError as error:
                print(f"{name}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            forward_rate, backward_rate = operations * 1e-9 / forward_ms, 2.5 * operations * 1e-9 / backward_ms
            if arguments.json:
                print(json.dumps({"benchmark": "gpu_attention_torch", "backend": name, "dtype": "bf16", "batch": batch,
                                  "heads": heads, "kv_heads": kv_heads, "q_length": length, "k_length": length,
                                  "head_dim": head_dim, "causal": causal, "forward_ms": forward_ms,
                                  "forward_tflops": forward_rate, "backward_ms": backward_ms,
                                  "backward_tflops": backward_rate}), flush=True)
            else:
                print(f"{name:7} {batch:5} {f'{heads}/{kv_heads}':>7} {length:6} {head_dim:4} {str(causal).lower():>6} | "
                      f"{forward_ms:10.3f} {forward_rate:8.1f} | {backward_ms:11.3f} {backward_rate:8.1f}", flush=True)


if __name__ == "__main__":
    main()
