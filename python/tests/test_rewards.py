"""The module as it is installed; with the standard library only. `RLVR_BINARY` is the command to compare with."""
import ast
import json
import math
import multiprocessing
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings

import rlvr
from rlvr import rewards

BINARY = os.environ.get("RLVR_BINARY") or shutil.which("rlvr", path=pathlib.Path(sys.executable).parent)
PLUGIN = """
import json, sys
def send(x): sys.stdout.write(json.dumps(x) + "\\n"); sys.stdout.flush()
sys.stdin.readline()
send({"type": "hello", "protocol": 1, "name": "n", "version": "1", "capabilities": ["batch", "group"]})
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "bye": break
    size = lambda it: sum(x["group"] == it["group"] for x in m["items"])
    send({"type": "result", "batch": m["batch"], "items": [
        {"i": it["i"], "score": 1 / size(it)} if it["completion"] != "break" else
        {"i": it["i"], "verdict": "error", "reason": "on purpose: " + it["meta"]["note"]}
        for it in m["items"]]})
"""


def judged_in_a_fork(answer):
    return rewards.math(["\\boxed{4}"] * 100, answer=[answer] * 100)[0]


class Scores(unittest.TestCase):
    def test_texts_and_conversations_are_judged_alike(self):
        texts = ["So it is \\boxed{0.5}.", "It is \\boxed{3}.", ""]
        answer = ["1/2", "1/2", "1/2"]
        self.assertEqual(rewards.math(texts, answer=answer), [1.0, 0.0, 0.0])
        messages = [[{"role": "assistant", "content": text}] for text in texts]
        self.assertEqual(rewards.math(messages, answer=answer), [1.0, 0.0, 0.0])
        parts = [[{"role": "assistant", "content": [{"type": "text", "text": text}]}] for text in texts]
        self.assertEqual(rewards.math(parts, answer=answer), [1.0, 0.0, 0.0])
        tools = [
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "\\boxed{7}"},
            {"role": "assistant", "content": "\\boxed{0.5}"},
        ]
        self.assertEqual(rewards.math([tools, tools[:2], []], answer=answer), [1.0, 0.0, 0.0])

    def test_as_a_trainer_calls_it(self):
        scores = rewards.choice(
            prompts=["a", "b"],
            completions=["The answer is B.", "The answer is C."],
            completion_ids=[[1, 2], [3]],
            answer=["B", "A"],
            options=[["x", "y", "z"]] * 2,
            trainer_state=object(),
            log_extra=print,
            log_metric=print,
            image=[object(), object()],
        )
        self.assertEqual(scores, [1.0, 0.0])
        self.assertEqual(rewards.choice(["p"], ["B"], answer=["B"], options=[["x", "y"]]), [1.0])
        long = rewards.make("length", max=4, soft=2, unit="tokens")
        self.assertEqual(long(["a", "b", "c"], completion_ids=[[1], [1, 2, 3], [1, 2, 3, 4]]), [0.0, -0.5, -1.0])

    def test_a_task_without_a_reference_gets_none(self):
        self.assertEqual(rewards.math(["\\boxed{4}"] * 3, answer=[None, 4, math.nan]), [None, 1.0, None])
        verdicts = rewards.math.verdicts(["\\boxed{4}"], answer=[None])
        self.assertEqual((verdicts[0]["score"], verdicts[0]["verdict"]), (None, "unverifiable"))
        self.assertEqual(rewards.math([], answer=[]), [])

    def test_whole_references_and_other_names(self):
        self.assertEqual(rewards.math(["\\boxed{4}"], reference=[{"answer": "4"}], answer=["5"]), [1.0])
        other = rewards.math.reading(answer="solution")
        self.assertEqual(other(["\\boxed{4}"], solution=["4"]), [1.0])
        self.assertEqual(other(["\\boxed{4}"], solution=["4"], answer=["5"]), [1.0])

    def test_numbers_of_any_size(self):
        self.assertEqual(rewards.math(["\\boxed{10^{30}+1}"], answer=[10**30 + 1]), [1.0])
        self.assertEqual(rewards.numeric(["\\boxed{0.1}", "\\boxed{-7}"], answer=[0.1, -7]), [1.0, 1.0])

    def test_surrogates_are_text(self):
        self.assertEqual(rewards.math(["\ud800 \\boxed{4}"], answer=["4"]), [1.0])

    def test_settings_trees_and_documents(self):
        self.assertEqual(rewards.make("numeric", relative=0.1)(["\\boxed{10.5}"], answer=[10]), [1.0])
        terms = [{"weight": 1, "reward": rewards.math}, {"weight": 0.5, "reward": {"kind": "format"}}]
        both = rewards.make("sum", terms=terms)
        text = "<think>2+2</think><answer>4</answer>"
        self.assertEqual(both([text, "\\boxed{4}"], answer=[4, 4]), [1.5, 1.0])
        parts = both.verdicts([text], answer=[4])[0]["parts"]
        self.assertEqual([(part["name"], part["score"]) for part in parts], [("math", 1.0), ("format", 1.0)])
        document = "[rewards]\nkind = 'numeric'\nrelative = 0.1\n"
        self.assertEqual(rewards.from_toml(document)(["\\boxed{10.5}"], answer=[10]), [1.0])
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "reward.toml")
            path.write_text(document)
            for given in (path, str(path)):
                self.assertEqual(rewards.from_toml(given)(["\\boxed{10.5}"], answer=[10]), [1.0])

    def test_names_and_copies(self):
        reward = rewards.make("math", percent="same").reading(answer="gold")
        self.assertEqual((rewards.math.__name__, both_name(reward)), ("math", "accuracy"))
        copy = pickle.loads(pickle.dumps(reward))
        self.assertEqual((copy.__name__, copy.config), ("accuracy", reward.config))
        self.assertEqual(copy(["\\boxed{4}"], gold=["4"]), [1.0])
        self.assertIn("math", repr(copy))


def both_name(reward):
    reward.__name__ = "accuracy"
    return reward.__name__


class Mistakes(unittest.TestCase):
    def test_each_is_one_sentence(self):
        math_ = rewards.math
        for make, kind, message in [
            (lambda: math_(["a"]), ValueError, 'no column "answer"; given: no columns'),
            (lambda: math_(["a"], solution=["1"]), ValueError, 'no column "answer"; given: solution'),
            (lambda: math_.reading(answer="gold")(["a"], answer=["1"]), ValueError, 'no column "gold"; given: answer'),
            (lambda: math_(["a"], answer=["1", "2"]), ValueError, "answer must have one entry a completion; there are 2 for 1"),
            (lambda: math_(["p"], ["a", "b"], answer=["1", "2"]), ValueError, "prompts must have one entry"),
            (lambda: math_(["a"], answer="1"), TypeError, "answer must be a list with one entry a completion; it is a str"),
            (lambda: math_("a", answer=["1"]), TypeError, "completions must be a list"),
            (lambda: math_(["a"], answer={"x": 1}), ValueError, '"answer" cannot be used: it is a dict'),
            (lambda: math_(["a"], answer=[object()]), ValueError, "for which there is no JSON"),
            (lambda: math_([3], answer=[1]), TypeError, "completion 0 must be a text or a list of messages; it is 3"),
            (lambda: math_([[{"x": 1}]], answer=[1]), TypeError, "no message with a role"),
            (lambda: math_(), TypeError, "there are no completions"),
            (lambda: math_(["a"], ["b"], ["c"]), TypeError, "columns are given by name"),
            (lambda: rewards.mat, AttributeError, "no reward 'mat'"),
            (lambda: rewards.sum, AttributeError, "rewards.make('sum', …)"),
            (lambda: rewards.make("mth"), ValueError, 'did you mean "math"?'),
            (lambda: rewards.make("math", percnt="same"), ValueError, "unknown field `percnt`"),
            (lambda: rewards.make("numeric", relative=-1), ValueError, "numeric"),
            (lambda: rewards.from_toml("none.toml"), FileNotFoundError, "none.toml: "),
            (lambda: rewards.from_toml("\n[rewards]\nkind = 'mth'"), ValueError, "<text>:3: rewards: "),
            (lambda: rewards.make("plugin", command=["./none"])(["a"]), RuntimeError, "none"),
        ]:
            with self.assertRaises(kind) as caught:
                make()
            self.assertIn(message, str(caught.exception))
            self.assertNotIn("\n", str(caught.exception).strip())


class Processes(unittest.TestCase):
    def test_programs_see_rows_and_groups_and_break_with_a_warning(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "plugin.py")
            path.write_text(PLUGIN)
            reward = rewards.make("plugin", command=[sys.executable, str(path)], name="mine")
            self.assertEqual(reward.__name__, "mine")
            scores = reward(["p", "p", "q"], ["a", "b", "c"], note=["x", "y", "z"])
            self.assertEqual(scores, [0.5, 0.5, 1.0])
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                self.assertEqual(reward(["a", "break"], note=["x", "y"]), [1.0, None])
            self.assertEqual([w.category for w in seen], [RuntimeWarning])
            self.assertIn("broke for 1 of 2 completions, which get None: on purpose: y", str(seen[0].message))

    @unittest.skipUnless(hasattr(os, "fork"), "there is no fork here")
    def test_children_judge_after_a_fork(self):
        self.assertEqual(judged_in_a_fork("4"), 1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                self.assertEqual(pool.map_async(judged_in_a_fork, ["4", "5"] * 4).get(60), [1.0, 0.0] * 4)
        self.assertEqual(judged_in_a_fork("5"), 0.0)

    def test_other_threads_run_meanwhile(self):
        """A program that waits must not stop Python."""
        code = rewards.make("code", min_isolation="process")
        ticks, end = [0], threading.Event()

        def tick():
            while not end.wait(0.01):
                ticks[0] += 1

        thread = threading.Thread(target=tick)
        thread.start()
        start = time.monotonic()
        code(["```python\nimport time; time.sleep(1)\nprint(1)\n```"], tests=[[{"input": "", "output": "1"}]])
        end.set()
        thread.join()
        took = time.monotonic() - start
        if took > 0.5:
            self.assertGreater(ticks[0], 10)


class Agreement(unittest.TestCase):
    def test_the_stubs_name_every_reward(self):
        stub = pathlib.Path(rewards.__file__).with_suffix(".pyi").read_text()
        tree = ast.parse(stub)
        named = [n.target.id for n in tree.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.annotation) == "Reward"]
        with_defaults = [kind for kind in rewards.KINDS if hasattr(rewards, kind)]
        self.assertEqual(named, with_defaults)
        self.assertTrue(set(rewards.KINDS) <= set(dir(rewards)))

    @unittest.skipUnless(BINARY, "there is no binary to compare with")
    def test_the_versions_are_one(self):
        said = subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout
        self.assertEqual(said.split()[1], rlvr.__version__)

    @unittest.skipUnless(BINARY, "there is no binary to compare with")
    def test_the_command_gives_the_same_verdicts(self):
        math_texts = ["\\boxed{%s}", "The answer is %s.", "<think>%s</think>", "it may be %s or 7", "\\boxed{%s}, \\boxed{2}"]
        values = ["1/2", "0.5", "50\\%", "x^2+1", "(1,2)", "\\sqrt{2}", "3", "\ud83d\ude00", "1e400", ""]
        texts = [form % value for form in math_texts for value in values]
        letters = ["The answer is %s.", "(%s)", "%s is wrong.", "**%s**", "%s or A"]
        tasks = {
            "math": [(text, {"answer": answer}) for text in texts for answer in ("1/2", "x^2+1", 3, None)],
            "numeric": [(text, {"answer": answer}) for text in texts for answer in (0.5, 1e-7, 3)],
            "choice": [(form % a, {"answer": "B", "options": ["x", "y", "z"]}) for form in letters for a in "ABC"],
            "yes_no": [(text, {"answer": "yes"}) for text in ("Yes.", "No", "yes and no", "not yes", "")],
            "exact": [(text, {"answer": ["Paris", "paris, France"]}) for text in ("<answer>Paris</answer>", "Rome")],
            "rouge": [(text, {"answer": "the cat sat on the mat"}) for text in ("a cat sat", "the mat", "")],
            "lingshu_rl": [("<think>a</think><answer>B</answer>", {"answer": "B", "options": ["x", "y"]})],
        }
        for kind, rows in tasks.items():
            lines = [
                json.dumps({"id": i, "completion": text, "reference": reference})
                for i, (text, reference) in enumerate(rows)
            ]
            command = [BINARY, "score", "--reward", kind, "-"]
            done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, encoding="utf-8")
            self.assertEqual(done.returncode, 0, done.stderr)
            wanted = [json.loads(line) for line in done.stdout.splitlines()]
            wanted = [{key: value for key, value in row.items() if key != "id"} for row in wanted]
            names = sorted({name for _, reference in rows for name in reference})
            columns = {name: [reference.get(name) for _, reference in rows] for name in names}
            found = getattr(rewards, kind).verdicts([text for text, _ in rows], **columns)
            self.assertEqual(len(found), len(wanted))
            for (text, reference), one, other in zip(rows, found, wanted):
                self.assertEqual(one, other, (kind, text, reference))


if __name__ == "__main__":
    unittest.main()
