"""datasets: verdicts as columns, in batches and on several processes."""
from datasets import Dataset

from rlvr import rewards

answers = Dataset.from_dict({"completion": ["\\boxed{0.5}", "\\boxed{4}"] * 50, "answer": ["1/2", "3"] * 50})


def judge(batch):
    verdicts = rewards.math.verdicts(batch["completion"], answer=batch["answer"])
    return {"score": [v["score"] for v in verdicts], "verdict": [v["verdict"] for v in verdicts]}


if __name__ == "__main__":
    judged = answers.map(judge, batched=True, num_proc=2)
    print(judged[:2], sum(judged["score"]) / len(judged))
