"""verl: `custom_reward_function.path=verl_reward.py`, `custom_reward_function.name=compute_score`."""
from rlvr import rewards

JUDGES = {"gsm8k": rewards.math, "medqa": rewards.choice}


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    judge = JUDGES.get(data_source, rewards.math)
    (score,) = judge([solution_str], answer=[ground_truth], options=[(extra_info or {}).get("options")])
    return 0.0 if score is None else score
