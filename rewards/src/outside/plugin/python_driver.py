"""Runs a function in TRL's convention, f(prompts, completions, **columns), for the host of rlvr-plugin/1."""
import asyncio
import importlib.util
import inspect
import json
import math
import os
import sys
import traceback

OWN = ("prompts", "completions")


class Refused(Exception):
    """What is wrong, in one sentence."""


def load(path, name):
    sys.path.insert(0, os.path.dirname(path))
    if not os.path.isfile(path):
        raise Refused(f"{path} is no file")
    spec = importlib.util.spec_from_file_location("reward_functions", path)
    if spec is None:
        raise Refused(f"{path} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["reward_functions"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        traceback.print_exc()
        raise Refused(f"{path} cannot be loaded: {said(error)}") from None
    found = getattr(module, name, None)
    if not callable(found):
        there = sorted(
            key for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        )
        raise Refused(f"{path} has no function {name!r}; it has {', '.join(there) or 'none'}")
    return found


def said(error):
    text = f"{type(error).__name__}: {error}"
    return text.encode("utf-8", "replace").decode()


def parameters(function):
    """The names that it takes (None for any), and those that it must get."""
    try:
        kinds = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None, set()
    named = [p for p in kinds if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    any_ = any(p.kind is p.VAR_KEYWORD for p in kinds)
    return None if any_ else {p.name for p in named}, {p.name for p in named if p.default is p.empty}


def text_of(prompt):
    return "\n\n".join(str(message.get("content") or "") for message in prompt)


def columns_of(items, settings):
    """The arguments of the function: a list for every name of any row, None where a row does not have it."""
    rows = []
    for item in items:
        reference = item.get("reference")
        row = {"id": item["id"], "truncated": item.get("truncated", False), "reference": reference}
        row.update(reference if isinstance(reference, dict) else {"answer": reference})
        row.update(item.get("meta") or {})
        if item.get("images"):
            row["images"] = item["images"]
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row if name not in OWN)
    columns = {name: [row.get(name) for row in rows] for name in names}
    if settings["conversational"]:
        columns["prompts"] = [item["prompt"] for item in items]
        columns["completions"] = [[{"role": "assistant", "content": item["completion"]}] for item in items]
    else:
        columns["prompts"] = [text_of(item["prompt"]) for item in items]
        columns["completions"] = [item["completion"] for item in items]
    return {**columns, **settings["arguments"]}


def scores_of(function, takes, needs, items, settings, loop):
    columns = columns_of(items, settings)
    lacking = sorted(needs - set(columns))
    if lacking:
        known = ", ".join(sorted(set(columns) - set(settings["arguments"])))
        raise Refused(f"the function needs {', '.join(lacking)}, which the rows do not have; they have {known}")
    if takes is not None:
        columns = {name: column for name, column in columns.items() if name in takes}
    values = function(**columns)
    if inspect.isawaitable(values):
        values = loop.run_until_complete(values)
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, (str, bytes, dict)) or not hasattr(values, "__iter__"):
        raise Refused(f"the function returned a {type(values).__name__}, not a list with one entry a completion")
    values = list(values)
    if len(values) != len(items):
        raise Refused(f"the function returned {len(values)} scores for {len(items)} completions")
    return [scored(item["i"], value) for item, value in zip(items, values)]


def scored(i, value):
    """One entry of what the function returned: a number, None, or a dictionary with score, parts and metrics."""
    fields = dict(value) if isinstance(value, dict) else {"score": value}
    for beside in ("parts", "metrics"):
        numbers = {name: None if n is None else float(n) for name, n in (fields.pop(beside, None) or {}).items()}
        if numbers:
            fields[beside] = {name: n if n is not None and math.isfinite(n) else None for name, n in numbers.items()}
    number = fields.get("score")
    if number is None:
        fields.pop("score", None)
        return {"i": i, "verdict": "unverifiable", "reason": "the function gave None", **fields}
    try:
        fields["score"] = float(number)
    except (TypeError, ValueError):
        return {"i": i, "verdict": "error", "reason": f"a score is a {type(number).__name__}, not a number"}
    if not math.isfinite(fields["score"]):
        return {"i": i, "verdict": "error", "reason": f"the score {number} is not finite"}
    return {"i": i, **fields}


def judged(judge, items):
    """Scores for all at once; where that fails, for one group after the other, so that only those that fail are errors."""
    try:
        return judge(items)
    except Exception as error:
        groups = sorted({item["group"] for item in items})
        if len(groups) == 1:
            if not isinstance(error, Refused):
                complain()
            reason = str(error) if isinstance(error, Refused) else said(error)
            return [{"i": item["i"], "verdict": "error", "reason": reason} for item in items]
    return [
        result for group in groups for result in judged(judge, [item for item in items if item["group"] == group])
    ]


shown = set()


def complain():
    text = traceback.format_exc()
    if text not in shown:
        shown.add(text)
        print(text, file=sys.stderr, flush=True)


def main():
    out, sys.stdout = sys.stdout.buffer, sys.stderr

    def send(answer):
        out.write(json.dumps(answer).encode() + b"\n")
        out.flush()

    settings = json.loads(sys.stdin.buffer.readline())["config"]
    try:
        function = load(settings["path"], settings["function"])
    except Refused as error:
        sys.stderr.flush()
        send({"type": "refused", "reason": str(error)})
        return
    takes, needs = parameters(function)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    hello = {"protocol": 1, "name": settings["function"], "version": "", "capabilities": ["batch", "group"]}
    send({"type": "hello", **hello})
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if message["type"] == "bye":
            return
        results = judged(
            lambda items: scores_of(function, takes, needs, items, settings, loop), message["items"]
        )
        sys.stderr.flush()
        send({"type": "result", "batch": message["batch"], "items": results})


main()
