"""Speed and agreement beside math-verify, called from Python in one process, in turn: `python beside_math_verify.py`.

The inputs are made here, from a seed: references of several forms, each with responses that state it, in the same or
another form, or something else.
"""
import argparse
import json
import platform
import random
import statistics
import time
from importlib.metadata import version

from math_verify import parse, verify

from rlvr import rewards


def pair(rng):
    """A reference and what is equal to it, written in other ways."""
    a, b, c = rng.randint(2, 60), rng.randint(2, 60), rng.randint(2, 9)
    return rng.choice([
        (str(a * b), [str(a * b), f"{a * b:,}", f"{a * b}.0"]),
        (f"\\frac{{{a}}}{{{b}}}", [f"\\frac{{{a * c}}}{{{b * c}}}", f"{a}/{b}", f"\\dfrac{{{a}}}{{{b}}}"]),
        (f"{a / 8}", [f"{a}/8", f"\\frac{{{a}}}{{8}}", f"{a / 8:.4f}"]),
        (f"x^2+{a}x+{b}", [f"{b}+{a}x+x^2", f"x^{{2}} + {a}x + {b}", f"x(x+{a})+{b}"]),
        (f"({a},{b})", [f"({a}, {b})", f"\\left({a},{b}\\right)"]),
        (f"{c}\\sqrt{{2}}", [f"\\sqrt{{{2 * c * c}}}", f"{c} \\sqrt 2"]),
        (f"[{a},{a + b}]", [f"[{a}, {a + b}]", f"\\left[{a},{a + b}\\right]"]),
        (f"\\{{{a},{a + b}\\}}", [f"\\{{{a + b}, {a}\\}}"]),
        (f"2^{{{c}}}", [str(2**c), f"2^{c}"]),
    ])


def rows(n, seed):
    rng = random.Random(seed)
    found = []
    for _ in range(n):
        gold, equal = pair(rng)
        right = rng.random() < 0.5
        other = rng.choice(equal) if right else rng.choice(pair(rng)[1])
        thought = " ".join(f"Step {i}: we get {rng.randint(1, 99)}." for i in range(rng.randint(1, 12)))
        found.append((f"{thought} So the answer is $\\boxed{{{other}}}$.", gold, right))
    return found


def theirs(texts, golds):
    return [
        float(verify(parse(f"${gold}$"), parse(text))) for text, gold in zip(texts, golds)
    ]


def ours(texts, golds):
    return rewards.math(texts, answer=golds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    made = rows(args.rows, args.seed)
    texts, golds = [text for text, _, _ in made], [gold for _, gold, _ in made]
    times, scores = {"rlvr": [], "rlvr, one by one": [], "math-verify": []}, {}
    ways = {
        "rlvr": ours,
        "rlvr, one by one": lambda texts, golds: [rewards.math([t], answer=[g])[0] for t, g in zip(texts, golds)],
        "math-verify": theirs,
    }
    for _ in range(args.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            scores[name] = way(texts, golds)
            times[name].append((time.perf_counter() - start) / args.rows * 1e6)
    medians = {name: statistics.median(each) for name, each in times.items()}
    right = [float(r) for _, _, r in made]
    # A wrong answer may by chance be the right one.
    share = lambda a, b: sum(x == y for x, y in zip(a, b)) / len(a)
    split = [
        {"reference": g, "response": t[-60:], "rlvr": x, "math-verify": y}
        for t, g, x, y in zip(texts, golds, scores["rlvr"], scores["math-verify"]) if x != y
    ]
    print(json.dumps({
        "python": platform.python_version(), "math-verify": version("math-verify"), "rows": args.rows,
        "microseconds a row, median": {name: round(median, 2) for name, median in medians.items()},
        "all rounds": {name: [round(t, 2) for t in each] for name, each in times.items()},
        "times as fast": round(medians["math-verify"] / medians["rlvr"], 1),
        "times as fast, one by one": round(medians["math-verify"] / medians["rlvr, one by one"], 1),
        "agreement": round(share(scores["rlvr"], scores["math-verify"]), 4),
        "as made: rlvr": round(share(scores["rlvr"], right), 4),
        "as made: math-verify": round(share(scores["math-verify"], right), 4),
        "disagreements": split[:12],
    }, indent=1))


if __name__ == "__main__":
    main()
