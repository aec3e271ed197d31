#!/usr/bin/env python3
"""Two rlvr binaries compute the same: python3 tests/same_results.py OLD NEW [POLICY]

Ten steps of every stage of the examples that need no files (of the medical one the controls, with flipped verdicts), the
golden runs of tests/golden, an evaluation of what addition leaves, and, with POLICY (a folder or GGUF file of a chat model),
two steps of examples/smollm2. The example of a component is left out: it needs another build. The rows of metrics.jsonl
without times, rollouts.jsonl, the final weights and the verdicts must be the same bytes. Prints a table; exit code 1 where
something differs.
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


GOLDEN = ROOT / "tests" / "golden"


def golden(path, scratch):
    """A run from rollouts in a file, as tests/it/golden_runs.rs writes it: its config."""
    run = json.loads(path.read_text())
    c = run["config"]
    dir = scratch / path.stem
    dir.mkdir()
    rows = [
        {"step": step, "group": i // c["num_generations"], "prompt_tokens": prompt, "completion_tokens": completion, "reward": reward}
        for step, batch in enumerate(run["generation_batches"])
        for i, (prompt, completion, reward) in enumerate(zip(batch["prompt_ids"], batch["completion_ids"], batch["rewards"]))
    ]
    (dir / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    aggregate = {"dapo": "token_mean", "grpo": "sequence_mean", "dr_grpo": "constant"}[c["loss_type"]]
    advantage = "dr_grpo" if c["scale_rewards"] == "none" else "grpo"
    (low, high), (b1, b2, eps) = c["epsilon"], c["adam"]
    text = f"""
name = "golden"
device = "cpu"
[policy]
path = {json.dumps(str(GOLDEN / "models" / c["model"]))}
[[stage]]
kind = "grpo"
group_size = {c["num_generations"]}
updates_per_rollout = {c["num_iterations"]}
rollouts = {{ path = "rollouts.jsonl" }}
sampling = {{ temperature = {float(c["temperature"])}, max_tokens = {c["max_completion_length"]} }}
[stage.loss]
advantage = "{advantage}"
aggregate = "{aggregate}"
objective = {{ kind = "clip", low = {low}, high = {high} }}
kl_coef = {float(c["beta"])}
kl_estimator = "k3_unbiased"
[stage.optim]
lr = {c["lr"]}
betas = [{b1}, {b2}]
eps = {eps}
max_grad_norm = {c["max_grad_norm"]}
"""
    (dir / "config.toml").write_text(text)
    return dir / "config.toml"


def runs(policy, scratch, pool):
    """Name, config and options of each run; `{warmup}` stands for the same binary's run of that name."""

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
    small = ["--set=data.heldout.tasks=50"]
    yield "warmup", "medical/controls_warmup.toml", steps(10, 0) + small
    noisy = ["--set=policy.path={warmup}", f"--set=data.train.path={pool}", "--set=rewards.flip_frac=0.2"]
    noisy += ["--set=stage.0.prompts_per_step=8", "--set=preflight.refuse=false", "--set=eval.every=5"]
    yield "medical controls", "medical/controls.toml", steps(10, 0) + small + noisy
    for path in sorted(GOLDEN.glob("grpo_train_*.json")):
        yield path.stem, golden(path, scratch), []
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
        pool = scratch / "pool.jsonl"
        generate = ["data", "generate", "addition", "--set", "min_digits=2", "--count", "500", "--seed", "1", "--out", pool]
        subprocess.run([binaries[0], *generate], check=True, capture_output=True)
        for name, config, options in runs(sys.argv[3] if len(sys.argv) == 4 else None, scratch, pool):
            outs = [scratch / f"{name}-{i}" for i in (0, 1)]
            of = [[option.replace("{warmup}", str(scratch / f"warmup-{i}")) for option in options] for i in (0, 1)]
            results = [train(b, config, own, out) for b, own, out in zip(binaries, of, outs)]
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
