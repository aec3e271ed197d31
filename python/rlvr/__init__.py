"""Reinforcement learning with verifiable rewards: the rewards, for Python.

>>> from rlvr import rewards
>>> rewards.math(["So it is \\\\boxed{0.5}.", "I think 3."], answer=["1/2", "1/2"])
[1.0, 0.0]
"""
from . import rewards
from ._rlvr import VERIFIER_VERSION, __version__

__all__ = ["VERIFIER_VERSION", "__version__", "rewards"]
