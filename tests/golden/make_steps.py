#!/usr/bin/env python3
"""Values of what happens around optimizer steps: python3 tests/golden/make_steps.py

Writes steps.json beside this file. Needs numpy only. The coefficient of the KL penalty by the controller of arXiv:1909.08593;
averages of weights, in float64; the order of groups by Philox4x32-10 (Salmon et al., SC 2011) and Fisher and Yates, written from
their papers.
"""

import json
import pathlib

import numpy as np

MASK = 2**32 - 1


def philox(counter, key):
    """Ten rounds of a block of four words under a key of two."""
    for _ in range(10):
        left, right = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [right >> 32 ^ counter[1] ^ key[0], right & MASK, left >> 32 ^ counter[3] ^ key[1], left & MASK]
        key = [key[0] + 0x9E3779B9 & MASK, key[1] + 0xBB67AE85 & MASK]
    return counter


def checksum(data):
    """The 64-bit hash of the run's names."""
    wrap, mix_word = 2**64 - 1, lambda s, w: (s ^ w) * 0x9E3779B97F4A7C15 & 2**64 - 1
    state = 0x243F6A8885A308D3
    tail = data + b"\0" * (-len(data) % 8) if len(data) % 8 else data + b"\0" * 8
    words = [int.from_bytes(tail[i : i + 8], "little") for i in range(0, len(tail), 8)]
    for word in words + [len(data)]:
        state = mix_word(state, word)
        state ^= state >> 32
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & wrap
    state = (state ^ state >> 27) * 0x94D049BB133111EB & wrap
    return state ^ state >> 31


def order(seed, step, number, groups):
    """Position i from the last to 1 changes places with one below or at it, by the first 64 of its random bits."""
    key = checksum(f"minibatches {seed}".encode())
    found = list(range(groups))
    for i in range(groups - 1, 0, -1):
        words = philox([i, 0, number, step], [key & MASK, key >> 32])
        j = (words[0] | words[1] << 32) * (i + 1) >> 64
        found[i], found[j] = found[j], found[i]
    return found


def controlled(coef, target, horizon, measured):
    """beta (1 + K e), e = clip((KL - target) / target, -0.2, 0.2), K = completions / horizon."""
    out = []
    for kl, completions in measured:
        error = np.clip((kl - target) / target, -0.2, 0.2)
        coef = coef * (1 + completions / horizon * error)
        out.append(coef)
    return out


def averaged(start, policies, decay):
    """e <- d e + (1 - d) theta, kept in float64."""
    average, out = np.array(start), []
    for policy in policies:
        average = decay * average + (1 - decay) * np.array(policy)
        out.append(average.tolist())
    return out


def main():
    random = np.random.default_rng(1909)
    control = []
    for coef, target, horizon in [(0.05, 0.02, 10000.0), (1e-3, 0.5, 512.0), (2.0, 1e-3, 100.0)]:
        measured = [[float(target * random.uniform(0.3, 2.0)), int(random.integers(8, 100))] for _ in range(20)]
        found = [float(c) for c in controlled(coef, target, horizon, measured)]
        control.append({"coef": coef, "target": target, "horizon": horizon, "measured": measured, "coefs": found})
    start = random.normal(size=50).astype(np.float32)
    policies = [(start + random.normal(scale=0.1, size=50)).astype(np.float32).astype(float).tolist() for _ in range(12)]
    start = start.astype(float).tolist()
    average = [{"decay": d, "averages": averaged(start, policies, d)} for d in [0.0, 0.4, 0.99]]
    shuffled = [
        {"seed": seed, "step": step, "pass": number, "order": order(seed, step, number, groups)}
        for seed, groups in [(0, 7), (5, 16)]
        for step in [1, 2, 1000]
        for number in [0, 1]
    ]
    document = {
        "how": "formulas of the papers in numpy, float64: make_steps.py",
        "adaptive_kl": control,
        "average": {"start": start, "policies": policies, "cases": average},
        "shuffled": shuffled,
    }
    path = pathlib.Path(__file__).with_name("steps.json")
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
