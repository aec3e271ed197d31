"""verifiers: a rubric of which rlvr judges the answer and the format."""
import verifiers as vf

from rlvr import rewards

in_box = rewards.make("format", style="boxed")


def correct(completion, answer, **_):
    return rewards.math([completion], answer=[answer])[0] or 0.0


def boxed(completion, **_):
    return in_box([completion])[0]


rubric = vf.Rubric(funcs=[correct, boxed], weights=[1.0, 0.1])
