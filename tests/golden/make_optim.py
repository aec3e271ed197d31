#!/usr/bin/env python3
"""Optimizers over parts of a policy, in float64 with PyTorch: python3 tests/golden/make_optim.py

Four steps on tiny-qwen2 with the tokens of tiny-qwen2.safetensors, mean negative log-likelihood, clipped to norm 1, betas 0.9 and
0.99. Writes optim.json: for each case the gradient norms and of every tensor SAMPLES values at equal distances. Parameters that
are frozen have requires_grad = False, groups are parameter groups with a schedule each, Muon is torch.optim.Muon whose iteration
is left in float64, and the 8-bit moments are quantised here, from the description in arXiv:2110.02861 and the maps of
bitsandbytes. With bitsandbytes installed, optim_8bit.safetensors has three steps of its own AdamW8bit on the CPU as well.
"""

import json
import math
import pathlib

import numpy as np
import torch
import torch.optim._muon as muon_module
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
SAMPLES, STEPS, BETAS, EPS = 24, 4, (0.9, 0.99), 1e-8


class InDouble:
    """torch, with a bfloat16 that is none."""

    bfloat16 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


muon_module.torch = InDouble()


def exponents_map(signed):
    """Dynamic 8-bit numbers: per decade 10^-6 to 10^0 the middles of equal parts of [0.1, 1], twice as many each decade up."""
    values = [0.0, 1.0]
    for decade in range(7):
        parts = 2**decade if signed else 2 ** (decade + 1)
        edges = np.linspace(0.1, 1, parts + 1, dtype=np.float32)
        middles = (edges[:-1] + edges[1:]) / np.float32(2)
        scaled = [10.0 ** (decade - 6) * float(m) for m in middles]
        values += scaled + ([-v for v in scaled] if signed else [])
    return np.array(sorted(values), dtype=np.float32).astype(np.float64)


MAPS = exponents_map(True), exponents_map(False)


def rounded(x, table):
    """x as it is when it is read back: blocks of 256 scaled by their largest magnitude, to the nearest number of the table."""
    flat, out = x.ravel(), np.empty(x.size)
    middles = (table[:-1] + table[1:]) / 2
    for at in range(0, flat.size, 256):
        block = flat[at : at + 256]
        largest = np.abs(block).max()
        scaled = block / largest if largest > 0 else block
        out[at : at + 256] = table[np.searchsorted(middles, scaled, side="left")] * largest
    return out.reshape(x.shape)


class AdamW8:
    """AdamW whose moments are rounded after every step; tensors below 4096 elements keep theirs."""

    def __init__(self, params, lr, decay):
        self.params, self.lr, self.decay, self.t = params, lr, decay, 0
        self.state = [[np.zeros(p.shape), np.zeros(p.shape)] for p in params]

    def step(self):
        self.t += 1
        for p, state in zip(self.params, self.state):
            g = p.grad.numpy()
            m = BETAS[0] * state[0] + (1 - BETAS[0]) * g
            v = BETAS[1] * state[1] + (1 - BETAS[1]) * g * g
            root = np.sqrt(v) / math.sqrt(1 - BETAS[1] ** self.t) + EPS
            with torch.no_grad():
                p.mul_(1 - self.lr * self.decay)
                p.sub_(torch.from_numpy(self.lr / (1 - BETAS[0] ** self.t) * m / root))
            small = p.numel() < 4096
            state[0], state[1] = (m, v) if small else (rounded(m, MAPS[0]), rounded(v, MAPS[1]))


def hidden_matrix(name, p):
    return p.ndim == 2 and "embed_tokens" not in name


def adamw(params, lr, decay):
    return torch.optim.AdamW(params, lr=lr, betas=BETAS, eps=EPS, weight_decay=decay, foreach=False)


def of_groups(named):
    """A frozen embedding, a frozen first block, frozen keys of the second; norms that warm up; an MLP with its own rate."""
    frozen = lambda n: n.startswith(("model.embed_tokens", "model.layers.0.")) or n.startswith("model.layers.1.self_attn.k_proj")
    for name, p in named:
        p.requires_grad_(not frozen(name))
    live = [(n, p) for n, p in named if p.requires_grad]
    norms = [p for n, p in live if "norm" in n]
    mlp = [p for n, p in live if "layers.2.mlp" in n]
    rest = [p for n, p in live if "norm" not in n and "layers.2.mlp" not in n]
    optims = [adamw(norms, 0.02, 0.0), adamw(mlp, 0.005, 0.1), adamw(rest, 0.01, 0.05)]
    warm = torch.optim.lr_scheduler.LambdaLR(optims[0], lambda s: min(1.0, s / 2))
    return optims, [warm]


def of_muon(scale):
    def make(named):
        matrices = [p for n, p in named if hidden_matrix(n, p)]
        others = [p for n, p in named if not hidden_matrix(n, p)]
        return [torch.optim.Muon(matrices, lr=0.02, weight_decay=0.05, adjust_lr_fn=scale), adamw(others, 0.01, 0.05)], []

    return make


CASES = {
    "groups": of_groups,
    "muon": of_muon("original"),
    "muon_match_rms_adamw": of_muon("match_rms_adamw"),
    "adamw_8bit": lambda named: ([AdamW8([p for _, p in named], 0.01, 0.05)], []),
}


def run(make):
    ids = load_file(HERE / "tiny-qwen2.safetensors")["input_ids"].long()
    model = AutoModelForCausalLM.from_pretrained(
        HERE / "models" / "tiny-qwen2", dtype=torch.float64, attn_implementation="eager"
    )
    named = list(model.named_parameters())
    optims, schedules = make(named)
    norms = []
    for _ in range(STEPS):
        model.zero_grad()
        logps = model(input_ids=ids).logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])
        (-logps.mean()).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_([p for _, p in named if p.requires_grad], 1.0)))
        for optim in optims:
            optim.step()
        for schedule in schedules:
            schedule.step()
    picked = lambda p: [p.detach().ravel()[i * p.numel() // SAMPLES].item() for i in range(min(SAMPLES, p.numel()))]
    return {"norms": norms, "tensors": {n: [float(f"{v:.9g}") for v in picked(p)] for n, p in named}}


def of_bitsandbytes():
    """Three steps of AdamW8bit on one vector of blocks that are full, partly zero, and short."""
    import bitsandbytes as bnb

    generator = torch.Generator().manual_seed(7)
    n = 4096 + 130
    p = torch.nn.Parameter(torch.randn(n, generator=generator))
    start = p.detach().clone()
    optim = bnb.optim.AdamW8bit([p], lr=0.01, betas=BETAS, eps=EPS, weight_decay=0.05)
    grads = []
    for step in range(3):
        g = torch.randn(n, generator=generator) * 10 ** torch.linspace(-6, 1, n)
        g[512:900] = 0
        grads.append(g)
        p.grad = g.clone()
        optim.step()
    state = optim.state[p]
    found = {"start": start, "params": p.detach()} | {f"grad{i}": g for i, g in enumerate(grads)}
    for i in "12":
        found |= {f"codes{i}": state[f"state{i}"], f"largest{i}": state[f"absmax{i}"], f"map{i}": state[f"qmap{i}"]}
    for ours, theirs in zip(MAPS, ("map1", "map2")):
        assert np.abs(ours - found[theirs].numpy()).max() < 1e-7
    return {name: t.contiguous() for name, t in found.items()}


(HERE / "optim.json").write_text(json.dumps({name: run(make) for name, make in CASES.items()}) + "\n")
try:
    values = of_bitsandbytes()
except ImportError:
    print("no bitsandbytes: optim_8bit.safetensors stays as it is")
else:
    save_file(values, HERE / "optim_8bit.safetensors")
