"""lm-evaluation-harness: a metric of one answer, and a filter that judges all answers of a task at once."""
from lm_eval.api.filter import Filter

from rlvr import rewards


def process_results(doc, results):
    return {"correct": rewards.math([results[0]], answer=[doc["answer"]])[0] or 0.0}


class Judged(Filter):
    """Puts a score in the place of every response."""

    def apply(self, resps, docs):
        texts = [text for texts in resps for text in texts]
        scores = iter(rewards.math(texts, answer=[doc["answer"] for texts, doc in zip(resps, docs) for _ in texts]))
        return [[next(scores) for _ in texts] for texts in resps]
