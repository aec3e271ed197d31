"""The examples against the packages that they are for; those that are not installed are skipped."""
import asyncio
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def has(package):
    return importlib.util.find_spec(package) is not None


def run(example, folder):
    done = subprocess.run([sys.executable, EXAMPLES / example], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Adapters(unittest.TestCase):
    @unittest.skipUnless(has("trl") and has("torch"), "trl is not installed")
    def test_trl_trains_three_steps(self):
        with tempfile.TemporaryDirectory() as folder:
            steps = [line for line in run("trl_grpo.py", folder).splitlines() if line.startswith("{'rewards/numeric/mean")]
        self.assertEqual(len(steps), 3)
        self.assertIn("rewards/length/mean", steps[0])

    @unittest.skipUnless(has("datasets"), "datasets is not installed")
    def test_datasets_map(self):
        with tempfile.TemporaryDirectory() as folder:
            said = run("datasets_map.py", folder).splitlines()[-1]
        self.assertIn("'verdict': ['correct', 'incorrect']", said)
        self.assertTrue(said.endswith(" 0.5"), said)

    @unittest.skipUnless(has("verl") and has("omegaconf"), "verl is not installed")
    def test_verl_loads_and_calls_the_function(self):
        from omegaconf import OmegaConf
        from verl.trainer.ppo.reward import get_custom_reward_fn

        function = {"path": str(EXAMPLES / "verl_reward.py"), "name": "compute_score", "reward_kwargs": {}}
        score = get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": function}}))
        for source, text, truth, info, want in [
            ("gsm8k", "#### 72", "72", {"num_turns": None}, 1.0),
            ("gsm8k", "#### 71", "72", None, 0.0),
            ("gsm8k", "#### 71", None, None, 0.0),
            ("medqa", "The answer is B.", "B", {"options": ["x", "y"]}, 1.0),
        ]:
            found = score(data_source=source, solution_str=text, ground_truth=truth, extra_info=info)
            self.assertEqual(found, want, (source, text))

    @unittest.skipUnless(has("verifiers"), "verifiers is not installed")
    def test_a_rubric_of_verifiers(self):
        import verifiers as vf

        if not hasattr(vf, "Rubric"):
            self.skipTest("this version of verifiers has no rubrics")
        rubric = module(EXAMPLES / "verifiers_rubric.py").rubric

        def state(text):
            completion = [{"role": "assistant", "content": text}]
            prompt = [{"role": "user", "content": "1/4 + 1/4?"}]
            return vf.State(prompt=prompt, completion=completion, answer="1/2", info={}, task="default", timing=timing())

        def timing():
            return {"scoring_ms": 0.0, "total_ms": 0.0, "generation_ms": 0.0}

        states = [state("\\boxed{0.5}"), state("The answer is 0.5."), state("\\boxed{3}")]

        async def judge():
            for one in states:
                await rubric.score_rollout(one)

        asyncio.run(judge())
        self.assertEqual([one["reward"] for one in states], [1.1, 1.0, 0.1])
        self.assertEqual([one["metrics"]["correct"] for one in states], [1.0, 1.0, 0.0])

    @unittest.skipUnless(has("lm_eval"), "lm_eval is not installed")
    def test_a_metric_and_a_filter_of_lm_eval(self):
        from lm_eval import simple_evaluate
        from lm_eval.api.model import LM
        from lm_eval.tasks import TaskManager

        class Canned(LM):
            def generate_until(self, requests):
                return ["\\boxed{%s}" % ("4" if "2+2" in r.args[0] else "7") for r in requests]

            def loglikelihood(self, requests):
                raise NotImplementedError

            loglikelihood_rolling = loglikelihood

        with tempfile.TemporaryDirectory() as folder:
            rows = [{"question": "2+2", "answer": "4"}, {"question": "3+3", "answer": "6"}]
            data = pathlib.Path(folder, "sums.jsonl")
            data.write_text("".join(json.dumps(row) + "\n" for row in rows))
            for name in ("sums.yaml", "judge.py"):
                text = (EXAMPLES / "lm_eval" / name).read_text().replace("sums.jsonl", str(data))
                pathlib.Path(folder, name).write_text(text)
            os.environ["HF_DATASETS_CACHE"] = str(pathlib.Path(folder, "cache"))
            tasks = TaskManager(include_path=folder, include_defaults=False)
            results = simple_evaluate(model=Canned(), tasks=["sums"], task_manager=tasks, bootstrap_iters=0)
        self.assertEqual(results["results"]["sums"]["correct,none"], 0.5)
        judged = module(EXAMPLES / "lm_eval" / "judge.py").Judged()
        found = judged.apply([["\\boxed{4}", "5"], ["\\boxed{6}"]], [{"answer": "4"}, {"answer": "6"}])
        self.assertEqual(found, [[1.0, 0.0], [1.0]])


if __name__ == "__main__":
    unittest.main()
