"""Rewards as functions in TRL's convention: `f(completions, answer=[…])` gives a score a completion, or None.

Every kind with defaults is an attribute (`rewards.math`, `rewards.choice`, …); `make` gives kinds settings, and
`from_toml` reads a reward as the command `rlvr` does.
"""
from ._rlvr import KINDS, Reward, from_toml, make

__all__ = ["KINDS", "Reward", "from_toml", "make"]


def __getattr__(name):
    if name not in KINDS:
        raise AttributeError(f"module {__name__!r} has no reward {name!r}; there are {', '.join(KINDS)}")
    try:
        reward = make(name)
    except ValueError as error:
        raise AttributeError(f"{error}; give it settings: rewards.make({name!r}, …)") from None
    globals()[name] = reward
    return reward


def __dir__():
    return sorted({*globals(), *KINDS})
