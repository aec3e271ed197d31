"""The protocol rlvr-plugin/1 around a function. Only the standard library."""
import json
import math
import sys
import traceback

config = {}


def _result(i, value):
    """The line's part for item i: of a number, None, (either, reason), or a dict with score, verdict, reason, parts,
    metrics."""
    reason = ""
    if isinstance(value, tuple):
        value, reason = value
    fields = dict(value) if isinstance(value, dict) else {"score": value, "reason": str(reason)}
    number = fields.get("score")
    if number is None:
        fields.pop("score", None)
        fields.setdefault("verdict", "unverifiable")
    elif not math.isfinite(float(number)):
        fields = {"verdict": "error", "reason": f"score {number} is not finite"}
    else:
        fields["score"] = float(number)
    return {"i": i, **fields}


_shown = set()


def _broken(i, error):
    text = traceback.format_exc()
    if text not in _shown:
        _shown.add(text)
        print(text, file=sys.stderr, flush=True)
    text = f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode()
    return {"i": i, "verdict": "error", "reason": text}


def _each(score, items):
    for item in items:
        try:
            yield _result(item["i"], score(item))
        except Exception as error:
            yield _broken(item["i"], error)


def _groups(rank, items):
    for group in sorted({item["group"] for item in items}):
        members = [item for item in items if item["group"] == group]
        try:
            values = list(rank(members))
            if len(values) != len(members):
                raise ValueError(f"{len(values)} scores for a group of {len(members)}")
            results = [_result(item["i"], value) for item, value in zip(members, values)]
        except Exception as error:
            results = [_broken(item["i"], error) for item in members]
        yield from results


def serve(score=None, rank=None, name="reward", version="1", deterministic=True):
    """Answers the host until it says bye: with score(item) for each item, or rank(items) for the items of a task."""
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    capabilities = ["batch"] + ["group"] * (rank is not None) + ["deterministic"] * deterministic
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message["type"] == "bye":
            return
        if message["type"] == "hello":
            config.update(message.get("config") or {})
            answer = {"protocol": 1, "name": name, "version": version, "capabilities": capabilities}
            answer = {"type": "hello", **answer}
        else:
            items = message["items"]
            results = list(_groups(rank, items) if rank else _each(score, items))
            answer = {"type": "result", "batch": message["batch"], "items": results}
        out.write(json.dumps(answer).encode() + b"\n")
        out.flush()
