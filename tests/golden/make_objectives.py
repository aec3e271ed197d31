#!/usr/bin/env python3
"""Values of objectives and advantages from the formulas of their papers: python3 tests/golden/make_objectives.py

Writes objectives.json beside this file. Needs numpy only; float64 throughout. Every objective is written as its paper has it,
as a function of the log-probabilities, and differentiated by complex steps, f'(x) = Im f(x + ih)/h, which is exact to rounding;
nothing is derived by hand. A stop-gradient takes the real part.
"""

import json
import pathlib

import numpy as np

STEP = 1e-30
LENGTHS = [5, 3, 8, 1, 6, 4, 7, 2, 9, 5, 3, 6]
GROUP = 3
EPSILON = 1e-4  # of whitening; the paper gives none


def stop(x):
    return np.real(x)


def minimum(a, b):
    return np.where(np.real(a) <= np.real(b), a, b)


def clip(x, low, high):
    return np.where(np.real(x) < low, low, np.where(np.real(x) > high, high, x))


# Objectives of one sequence, to be maximised, a value a token; lp and mu are of its trained tokens, A its advantage.


def gmpo(lp, old, mu, A, log_clip):
    """arXiv:2507.20673: {prod_t |min(rho_t A, clip(rho_t) A)|}^(1/n) sgn(A), for every token of the sequence."""
    rho = np.exp(lp - old)
    smaller = minimum(rho * A, clip(rho, np.exp(-log_clip), np.exp(log_clip)) * A)
    if A == 0:
        return 0 * lp
    size = np.where(np.real(smaller) < 0, -smaller, smaller)
    return np.sign(A) * np.prod(size) ** (1 / len(lp)) * np.ones(len(lp))


def dppo_tv(lp, old, mu, A, bound):
    """arXiv:2602.04879: M_t r_t A, M_t = 0 where the update leads further away from a policy that is too far already."""
    r = np.exp(lp - mu)
    far = np.abs(np.exp(stop(lp)) - np.exp(mu)) > bound
    away = ((A > 0) & (stop(r) > 1)) | ((A < 0) & (stop(r) < 1))
    return np.where(far & away, 0.0, 1.0) * r * A


def topr(lp, old, mu, A):
    """arXiv:2503.14286 with a ratio a token: A lp for A >= 0, sg[clip(pi/mu, 0, 1)] A lp below."""
    return A * lp if A >= 0 else stop(clip(np.exp(lp - mu), 0, 1)) * A * lp


def topr_sequence(lp, old, mu, A):
    """The same with the geometric mean of the ratios."""
    return A * lp if A >= 0 else min(1.0, stop(np.exp(np.mean(lp - mu)))) * A * lp


def vespo(lp, old, mu, A, k_pos, lambda_pos, k_neg, lambda_neg):
    """arXiv:2602.10693: sg[phi(W)] A lp, W the product of the ratios, phi(W) = W^k exp(lambda (1 - W)), k and lambda by A's sign."""
    W = np.prod(np.exp(stop(lp) - mu))
    k, decay = (k_pos, lambda_pos) if A >= 0 else (k_neg, lambda_neg)
    return W**k * np.exp(decay * (1 - W)) * A * lp


def ppo_clip(lp, old, mu, A):
    """arXiv:2503.14476: min(r A, clip(r, 1 - 0.2, 1 + 0.28) A)."""
    r = np.exp(lp - old)
    return minimum(r * A, clip(r, 0.8, 1.28) * A)


def reinforce(lp, old, mu, A):
    """Williams 1992."""
    return A * lp


# Advantages of a group; None is a completion that could not be judged.


def rloo(rewards):
    """arXiv:2402.14740: R less the mean of the others."""
    judged = [r for r in rewards if r is not None]
    others = lambda r: (sum(judged) - r) / (len(judged) - 1)
    return [0.0 if r is None or len(judged) < 2 else r - others(r) for r in rewards]


def max_rl(rewards):
    """arXiv:2602.02710: the mean score of what succeeded, r/K, less the baseline 1/N, times N."""
    judged = [r for r in rewards if r is not None]
    total, n = sum(judged), len(judged)
    return [0.0 if r is None or total == 0 else n * (r / total - 1 / n) for r in rewards]


def reinforce_pp_baseline(groups, tokens):
    """arXiv:2501.03262: R less the mean of its group, whitened over the tokens of the batch."""
    centred, each = [], []
    for rewards, counts in zip(groups, tokens):
        mean = np.mean([r for r in rewards if r is not None] or [0.0])
        centred.append([None if r is None else r - mean for r in rewards])
        for a, n in zip(centred[-1], counts):
            each += [] if a is None else [a] * n
    mean, std = np.mean(each), np.std(each)
    return [[0.0 if a is None else (a - mean) / (std + EPSILON) for a in group] for group in centred]


def high_entropy(batch, share):
    """arXiv:2506.01939: the indicator of tokens whose entropy is at least the quantile at 1 - share over all trained tokens."""
    trained = np.concatenate([h[m] for h, m in zip(batch["entropy"], batch["mask"])])
    threshold = np.quantile(trained, 1 - share)
    return [(h >= threshold)[m] for h, m in zip(batch["entropy"], batch["mask"])]


def loss(lps, batch, advantages, objective, aggregate):
    """The negative objective, aggregated over the trained tokens of the batch; with a share only some tokens have a term."""
    trained = [m.sum() for m in batch["mask"]]
    total = 0
    counted = high_entropy(batch, batch["share"]) if "share" in batch else [1] * len(lps)
    for lp, old, mu, mask, A, kept in zip(lps, batch["old"], batch["sampler"], batch["mask"], advantages, counted):
        n = mask.sum()
        terms = np.sum(kept * objective(lp[mask], old[mask], mu[mask], A)) if n else 0
        total = total + {
            "token_mean": lambda: terms / sum(trained),
            "sequence_mean": lambda: terms / max(n, 1) / len(lps),
            "sequence_sum": lambda: terms / len(lps),
            "constant": lambda: terms / (len(lps) * 12),
        }[aggregate]()
    return -total


def case(batch, advantages, objective, aggregate):
    lps = batch["logprobs"]
    grads = []
    for b, lp in enumerate(lps):
        grads.append([])
        for t in range(len(lp)):
            moved = [x.astype(complex) for x in lps]
            moved[b][t] += 1j * STEP
            grads[b].append(float(np.imag(loss(moved, batch, advantages, objective, aggregate)) / STEP))
    return {"loss": float(loss(lps, batch, advantages, objective, aggregate)), "grad": grads}


def main():
    random = np.random.default_rng(20261130)
    logprobs = [random.uniform(-2.5, -0.05, n) for n in LENGTHS]
    near = lambda width: [np.minimum(lp + random.uniform(-width, width, len(lp)), -1e-3) for lp in logprobs]
    batch = {"logprobs": logprobs, "old": near(0.7), "sampler": near(0.8)}
    batch["mask"] = [random.uniform(size=n) < 0.8 for n in LENGTHS]
    batch["mask"][3][:] = False
    advantages = random.uniform(-2, 2, len(LENGTHS))
    advantages[5] = 0.0
    on_old = {**batch, "sampler": batch["old"]}
    constant = {"kind": "constant", "max_tokens": 12}
    cases = {}
    for name, settings, objective, extra in [
        ("gmpo", {"log_clip": 0.4}, gmpo, {}),
        ("gmpo", {"log_clip": 0.1}, gmpo, {}),
        ("dppo_tv", {"bound": 0.2}, dppo_tv, {}),
        ("dppo_tv", {"bound": 0.05}, dppo_tv, {}),
        ("topr", {}, topr, {}),
        ("topr", {}, topr_sequence, {"importance": "sequence"}),
        ("reinforce", {}, reinforce, {}),
        ("vespo", {"k_pos": 2.0, "lambda_pos": 3.0, "k_neg": 3.0, "lambda_neg": 2.0}, vespo, {}),
        ("vespo", {"k_pos": 0.5, "lambda_pos": 0.7, "k_neg": 1.5, "lambda_neg": 0.4}, vespo, {}),
    ]:
        formula = lambda lp, old, mu, A: objective(lp, old, mu, A, *settings.values())
        for aggregate in ["token_mean", "sequence_mean", "sequence_sum", "constant"]:
            for sampler in [True, False]:
                label = [name, *map(str, settings.values()), *extra.values(), aggregate, "sampler" if sampler else "old"]
                config = {"objective": {"kind": name, **settings}, **extra}
                config["aggregate"] = constant if aggregate == "constant" else aggregate
                found = case(batch if sampler else on_old, advantages, formula, aggregate)
                cases["/".join(label)] = {"config": config, "sampler": sampler, **found}
    groups = [[1.0, 0.0, 0.0], [1.0, 0.0, None], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]
    graded = [[0.3, 1.2, 0.7], [None, 2.5, 0.1], [0.9, 0.9, 0.9], [0.4, 0.0, 1.6]]
    count = [int(m.sum()) for m in batch["mask"]]
    tokens = [count[i : i + GROUP] for i in range(0, len(count), GROUP)]
    estimated = {}
    for kind, of in [
        ("rloo", lambda rewards: [rloo(g) for g in rewards]),
        ("max_rl", lambda rewards: [max_rl(g) for g in rewards]),
        ("reinforce_pp_baseline", lambda rewards: reinforce_pp_baseline(rewards, tokens)),
    ]:
        for what, rewards in [("binary", groups), ("graded", graded)]:
            found = of(rewards)
            flat = [a for group in found for a in group]
            update = {aggregate: case(on_old, flat, reinforce, aggregate) for aggregate in ["token_mean", "sequence_mean"]}
            estimated[f"{kind}/{what}"] = {"kind": kind, "rewards": rewards, "advantages": found, "reinforce": update}
    batch["entropy"] = [random.uniform(0.0, 3.0, n) for n in LENGTHS]
    batch["entropy"][0][2] = batch["entropy"][6][1]
    chosen = {}
    for name, objective in [("clip", ppo_clip), ("gmpo", lambda *of: gmpo(*of, 0.4)), ("vespo", lambda *of: vespo(*of, 2, 3, 3, 2))]:
        for share in [0.05, 0.2, 0.5, 0.8]:
            for aggregate in ["token_mean", "sequence_mean"]:
                config = {"objective": name, "aggregate": aggregate, "top_entropy_frac": share}
                found = case({**batch, "share": share}, advantages, objective, aggregate)
                chosen[f"{name}/{share}/{aggregate}"] = {"config": config, "sampler": True, **found}
    rows = lambda arrays: [[float(v) for v in a] for a in arrays]
    document = {
        "how": "formulas of the papers in numpy, float64, gradients by complex steps: make_objectives.py",
        "arrays": {key: rows(batch[key]) for key in ["logprobs", "old", "sampler", "mask", "entropy"]},
        "advantages": [float(a) for a in advantages],
        "cases": cases,
        "top_entropy": chosen,
        "estimators": estimated,
    }
    path = pathlib.Path(__file__).with_name("objectives.json")
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
