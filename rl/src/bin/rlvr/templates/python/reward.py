"""A reward: score(item) gives a number for one completion, 1 for a right one and 0 for a wrong one."""
import re

import rlvr_plugin


def score(item):
    """item: completion, prompt (messages), reference, meta (the rest of the data row), id, truncated,
    group.

    Gives a number; or (number, reason); or a dict with score, reason, parts and metrics; or None where the task cannot be
    judged. An exception is the verdict `error`, never 0. print() goes to the log; rlvr_plugin.config is the `config` of the TOML file.
    """
    gold = (item["reference"] or {}).get("answer")
    if gold is None:
        return None, "the task has no reference.answer"
    found = re.findall(r"\\boxed\{([^{}]+)\}", item["completion"])
    if not found:
        return 0.0, "no \\boxed{} with an answer"
    return (1.0 if found[-1].strip() == str(gold).strip() else 0.0), "the last box"


if __name__ == "__main__":
    rlvr_plugin.serve(score)
