#!/usr/bin/env python3
"""Two rlvr binaries compute the same: python3 tests/same_results.py OLD NEW [POLICY]

Ten steps of every stage of the examples that need no files, an evaluation of what they leave, and, with POLICY (a folder or
GGUF file of a chat model), two steps of examples/smollm2. The rows of metrics.jsonl without times, rollouts.jsonl, the
final weights and the verdicts must be the same bytes. Prints a table; exit code 1 where something differs.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Depend on the machine or the moment.
VARY = ("time/", "throughput/", "memory/", "seconds")


def runs(policy):
    def steps(n, *stages):
        return [f"--set=stage.{stage}.steps={n}" for stage in stages]

    yield "addition", "addition/config.toml", steps(10, 0, 1) + ["--set=eval.every=5"]
    yield "countdown", "countdown/config.toml", steps(10, 0, 1) + ["--set=eval.every=5", "--set=preflight.refuse=false"]
    yield "plugin", "plugin/config.toml", steps(10, 0)
    variants = {
        "cispo, no baseline": ["loss.objective=cispo", "loss.advantage=dr_grpo", "loss.aggregate=constant"],
        "gspo": ["loss.importance=sequence", "loss.aggregate=sequence_mean"],
        "rloo, KL in the reward": ["loss.advantage=rloo", "loss.kl_coef=0.05", "loss.kl_place=reward"],
    }
    for name, sets in variants.items():
        yield name, "plugin/config.toml", steps(10, 0) + [f"--set=stage.0.{s}" for s in sets]
    if policy:
        yield "smollm2", "smollm2/config.toml", steps(2, 0) + [f"--set=policy.path={policy}", "--set=eval.every=2", "--set=eval.batch=8"]


def metrics(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(VARY)} for row in rows]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def train(binary, config, options, out):
    done = subprocess.run([binary, "train", ROOT / "examples" / config, *options, "--out", out], capture_output=True, text=True)
    if done.returncode:
        return f"exit code {done.returncode}: {done.stderr[-400:]}"
    return {
        "metrics": metrics(out / "metrics.jsonl"),
        "rollouts": digest(out / "rollouts.jsonl"),
        "weights": {p.name: digest(p) for p in sorted((out / "final").glob("*.safetensors"))},
    }


def evaluate(binary, policy, out):
    command = [binary, "eval", "run", "--policy", policy, "--tasks", "addition", "--limit", "40", "--samples", "2", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return f"exit code {done.returncode}: {done.stderr[-400:]}"
    return metrics(out / "samples.jsonl")


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    binaries = [pathlib.Path(b).resolve() for b in sys.argv[1:3]]
    differ = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for number, (name, config, options) in enumerate(runs(sys.argv[3] if len(sys.argv) == 4 else None)):
            outs = [scratch / f"{number}-{i}" for i in (0, 1)]
            results = [train(b, config, options, out) for b, out in zip(binaries, outs)]
            parts = {"run": results}
            if all(isinstance(r, dict) for r in results):
                parts = {key: [r[key] for r in results] for key in results[0]}
                if name == "addition":
                    parts["eval run"] = [evaluate(b, out, scratch / f"e{i}") for i, (b, out) in enumerate(zip(binaries, outs))]
            for part, (old, new) in parts.items():
                failed = part == "run" and isinstance(old, str)
                same = old == new and not failed
                differ += not same
                print(f"{name:24} {part:10} {'same' if same else old if failed else 'DIFFERENT'}")
                if not same and isinstance(old, list) and isinstance(new, list):
                    first = next(((a, b) for a, b in zip(old, new) if a != b), (len(old), len(new)))
                    print(f"  {str(first[0])[:400]}\n  {str(first[1])[:400]}")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
