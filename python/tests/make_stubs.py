"""Writes rlvr/rewards.pyi from the rewards of the installed module: `python tests/make_stubs.py > rlvr/rewards.pyi`."""
from rlvr import rewards

HEAD = '''\
"""Rewards as functions in TRL's convention. Written by tests/make_stubs.py."""
from collections.abc import Sequence
from os import PathLike
from typing import Any, TypedDict, overload

from typing_extensions import NotRequired

class Part(TypedDict):
    """One term of a reward that is made of several."""

    name: str
    weight: float
    score: float | None
    verdict: str
    extracted: str | None
    method: str
    reason: str
    parts: NotRequired[list[Part]]

class Verdict(TypedDict):
    """What a reward says of a completion."""

    score: float | None
    verdict: str
    extracted: str | None
    reason: str
    method: str
    gold: str | None
    prediction: str | None
    parts: NotRequired[list[Part]]

class Reward:
    """A reward: `reward(completions, answer=[…])`, or with prompts, by place or by name."""

    __name__: str
    @property
    def config(self) -> dict[str, Any]: ...
    @overload
    def __call__(self, completions: Sequence[Any], /, **columns: Any) -> list[float | None]: ...
    @overload
    def __call__(self, prompts: Sequence[Any] | None, completions: Sequence[Any], /, **columns: Any) -> list[float | None]: ...
    @overload
    def __call__(self, *, completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any) -> list[float | None]: ...
    @overload
    def verdicts(self, completions: Sequence[Any], /, **columns: Any) -> list[Verdict]: ...
    @overload
    def verdicts(self, prompts: Sequence[Any] | None, completions: Sequence[Any], /, **columns: Any) -> list[Verdict]: ...
    @overload
    def verdicts(self, *, completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any) -> list[Verdict]: ...
    def reading(self, **columns: str) -> Reward: ...

KINDS: list[str]

def make(kind: str, /, **settings: Any) -> Reward: ...
def from_toml(document: str | PathLike[str], /) -> Reward: ...
'''

print(HEAD)
for kind in rewards.KINDS:
    if hasattr(rewards, kind):
        print(f"{kind}: Reward")
