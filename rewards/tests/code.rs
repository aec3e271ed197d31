//! The `code` reward: what passes, what fails, and what cannot be judged.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::process::Command;

use rlvr_rewards::code::{Code, CodeConfig, Language};
use rlvr_rewards::sandbox::{Isolation, Sandbox};
use rlvr_rewards::{Outcome, Response, Reward, RewardConfig, Task, Verdict, score_batch, score_one};
use serde_json::{Value, json};

/// Whether the tests can run here; says so where they cannot.
fn available(language: Language) -> bool {
    let name = if language == Language::Python { "python3" } else { "bash" };
    let found = Command::new(name).arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no {name}");
    }
    found
}

/// Short limits, on whatever isolation there is.
fn config(language: Language) -> CodeConfig {
    CodeConfig { language, timeout_s: 10.0, min_isolation: Isolation::Process, ..CodeConfig::default() }
}

fn judge(config: CodeConfig, reference: Value, code: &str) -> Outcome {
    let reward = Code::new(config).unwrap();
    score_one(&reward, &Task::new("t", reference), Response::new(&format!("```\n{code}\n```")))
}

fn check(language: Language, reference: &Value, code: &str, want: Verdict) {
    let outcome = judge(config(language), reference.clone(), code);
    assert_eq!(outcome.verdict, want, "{code}\n{reference}\n{outcome:?}");
}

#[test]
fn python_programs_read_and_write() {
    if !available(Language::Python) {
        return;
    }
    let sum = json!({"tests": [{"input": "2 3\n", "output": "5\n"}, {"input": "-1 1\n", "output": "0"}]});
    let check = |reference: &Value, code, want| check(Language::Python, reference, code, want);
    check(&sum, "a, b = map(int, input().split())\nprint(a + b)", Verdict::Correct);
    check(&sum, "import sys\nprint(sum(map(int, sys.stdin.read().split())))\nexit()", Verdict::Correct);
    check(
        &sum,
        "if __name__ == '__main__':\n    print(sum(map(int, open(0).read().split())))",
        Verdict::Correct,
    );
    check(&sum, "print(5)", Verdict::Incorrect);
    check(&sum, "a, b = map(int, input().split())\nprint(a + b)\n1 / 0", Verdict::Incorrect);
    check(&sum, "def f(:", Verdict::Incorrect);
    let others = json!({"tests": [{"args": ["x"], "files": {"data.txt": "é"}, "output": ["x", "é"]}]});
    check(&others, "import sys\nprint(sys.argv[1])\nprint(open('data.txt').read())", Verdict::Correct);
    // Threads, event loops and files in the directory are allowed.
    let code = "import threading\nt = threading.Thread(target=lambda: print(sum(map(int, input().split()))))\nt.start()\nt.join()";
    check(&sum, code, Verdict::Correct);
    let code = "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    print(sum(map(int, input().split())))\nasyncio.run(main())";
    check(&sum, code, Verdict::Correct);
    let code = "open('x', 'w').write(input())\nprint(sum(map(int, open('x').read().split())))";
    check(&sum, code, Verdict::Correct);
}

#[test]
fn python_assertions() {
    if !available(Language::Python) {
        return;
    }
    let check = |reference: Value, code: &str, want| check(Language::Python, &reference, code, want);
    let add = json!({"asserts": ["assert add(2, 3) == 5", "assert add(-1, 1) == 0"]});
    check(add.clone(), "def add(a, b):\n    return a + b", Verdict::Correct);
    check(add.clone(), "def add(a, b):\n    return 5", Verdict::Incorrect);
    check(add.clone(), "def sub(a, b):\n    return a - b", Verdict::Incorrect);
    check(add, "def add(a, b):\n    raise ValueError", Verdict::Incorrect);
    let types = json!({"asserts": [
        "assert f((1, 2)) == [(1, 2), {1}, {'a': None}, b'x', 2 ** 100, 1.5, True, 1j]",
        "assert isinstance(f(1)[0], int)",
        "import math\nassert math.isclose(f(1)[5], 1.5)",
        "try:\n    f(None)\n    assert False, 'no error'\nexcept ValueError:\n    pass",
    ]});
    let code = "def f(x):\n    if x is None:\n        raise ValueError('none')\n    return [x, {1}, {'a': None}, b'x', 2 ** 100, 1.5, True, 1j]";
    check(types, code, Verdict::Correct);
    let stack = json!({"asserts": [
        "s = Stack()\ns.push(1)\ns.push(2)\nassert s.pop() == 2 and len(s) == 1 and s.items == [1]",
        "assert list(count(3)) == [0, 1, 2]",
        "assert apply(lambda x: x + 1, 3) == 4",
        "xs = [3, 1]\nsort(xs)\nassert xs == [1, 3]",
        "from collections import Counter\nassert letters('aab') == Counter('aab')",
    ]});
    let code = "import collections\nclass Stack:\n    def __init__(self):\n        self.items = []\n    def push(self, x):\n        self.items.append(x)\n    def pop(self):\n        return self.items.pop()\n    def __len__(self):\n        return len(self.items)\ndef count(n):\n    yield from range(n)\ndef apply(f, x):\n    return f(x)\ndef sort(xs):\n    xs.sort()\ndef letters(s):\n    return collections.Counter(s)";
    check(stack, code, Verdict::Correct);
    let human = json!({"entry_point": "double", "test_code": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(0) == 0\n"});
    check(human.clone(), "def double(x):\n    return 2 * x", Verdict::Correct);
    check(human, "def double(x):\n    return 4", Verdict::Incorrect);
    let leet = json!({"entry_point": "Solution().add", "tests": [{"input": [1, 2], "output": 3}, {"input": [[1], [2]], "output": [1, 2]}], "setup": "from typing import List"});
    check(
        leet.clone(),
        "class Solution:\n    def add(self, a: List, b):\n        return a + b",
        Verdict::Correct,
    );
    check(leet, "class Solution:\n    def add(self, a, b):\n        return 3", Verdict::Incorrect);
    let unit = json!({"test_code": "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(one(), 1)\n"});
    check(unit.clone(), "def one():\n    return 1", Verdict::Correct);
    check(unit, "def one():\n    return 2", Verdict::Incorrect);
    // Tests that are broken themselves judge nobody.
    let code = "def f(x):\n    return x";
    check(json!({"asserts": ["assert f(1 == 1"]}), code, Verdict::Unverifiable);
    check(
        json!({"test_code": "def check(candidate):\n    assert candidate(1) == 1"}),
        code,
        Verdict::Unverifiable,
    );
    check(json!({"asserts": ["class A: pass", "assert f(A())"]}), code, Verdict::Unverifiable);
}

#[test]
fn shells() {
    if !available(Language::Bash) {
        return;
    }
    let sum = json!({"tests": [{"input": "2 3\n", "output": "5"}]});
    let double = json!({"asserts": ["[ \"$(double 2)\" = \"4\" ]", "[[ \"$(double 21)\" == 42 ]]"]});
    let files = json!({"tests": [{"files": {"a.txt": "b\na\nb\n"}, "output": "1 a\n2 b"}]});
    for language in [Language::Bash, Language::Sh] {
        check(language, &sum, "read a b\necho $((a + b))", Verdict::Correct);
        check(language, &sum, "read a b\necho $a", Verdict::Incorrect);
        check(language, &double, "double() { echo $(($1 * 2)); }", Verdict::Correct);
        check(language, &double, "double() { echo 4; }", Verdict::Incorrect);
        let code = "sort a.txt | uniq -c | awk '{print $1, $2}' > out && cat out";
        check(language, &files, code, Verdict::Correct);
    }
}

#[test]
fn partial_credit_tolerance_and_reasons() {
    if !available(Language::Python) {
        return;
    }
    let partial = || CodeConfig { partial: true, tolerance: Some(1e-6), ..config(Language::Python) };
    let tests = json!({"tests": [{"input": "2", "output": "1.41421356"}, {"input": "4", "output": "3"}]});
    let outcome = judge(partial(), tests, "print(float(input()) ** 0.5)");
    assert_eq!((outcome.score, outcome.verdict), (Some(0.5), Verdict::Partial), "{outcome:?}");
    assert_eq!(outcome.reason, "1 of 2 tests passed; test 2: another output");
    let asserts = json!({"asserts": ["assert f(1) == 1", "assert f(2) == 1", "assert f(3) == 3"]});
    let outcome = judge(partial(), asserts, "def f(x):\n    return x");
    assert_eq!(outcome.score.map(|s| (s * 3.0).round()), Some(2.0), "{outcome:?}");
    assert!(outcome.reason.contains("test 2: AssertionError"), "{outcome:?}");
    // A test that cannot be asked, or that nobody could decide, does not hide what failed before it.
    let asked =
        json!({"asserts": ["assert f(2) == 5", "class A: pass", "assert f(A())", "assert f(3) == 3"]});
    let outcome = judge(partial(), asked.clone(), "def f(x):\n    return x");
    assert_eq!((outcome.score, outcome.verdict), (Some(0.25), Verdict::Partial), "{outcome:?}");
    assert!(outcome.reason.contains("test 1: AssertionError"), "{outcome:?}");
    let outcome = judge(partial(), asked, "def f(x):\n    return 5");
    assert_eq!(outcome.verdict, Verdict::Unverifiable, "{outcome:?}");
    let calls = [json!({"input": [1], "output": 9}), json!({"input": [2], "output": [1, 2]})];
    let set = "def f(x):\n    return {1, 2}";
    let outcome = judge(partial(), json!({"entry_point": "f", "tests": calls}), set);
    assert_eq!(outcome.verdict, Verdict::Incorrect, "{outcome:?}");
    let outcome = judge(partial(), json!({"entry_point": "f", "tests": calls[1..]}), set);
    assert_eq!(outcome.verdict, Verdict::Unverifiable, "{outcome:?}");
    let level = Sandbox::detect().unwrap().isolation();
    assert!(outcome.method.starts_with(&format!("untagged/calls@{}", level.name())), "{}", outcome.method);
    println!("isolation: {} ({:?})", level.name(), Sandbox::detect().unwrap());
}

#[test]
fn what_an_object_says_of_itself_decides_nothing() {
    if !available(Language::Python) {
        return;
    }
    let says = "class E:\n    def equals(self, x): return True\ndef f(x): return E()";
    let outcome = judge(config(Language::Python), json!({"asserts": ["assert f(2).equals(5)"]}), says);
    assert_eq!(outcome.verdict, Verdict::Unverifiable, "{outcome:?}");
    assert!(outcome.reason.contains("equals"), "{outcome:?}");
    let both = json!({"asserts": ["assert f(2).equals(5)", "assert not f(2).equals(6)"]});
    check(Language::Python, &both, says, Verdict::Incorrect);
    check(Language::Python, &both, &says.replace("True", "x == 5"), Verdict::Correct);
    let bag = "class Bag:\n    def __init__(self, x): self.x = x\n    def __contains__(self, k): return k in self.x";
    let contains = |solution: &str| json!({"asserts": ["assert 1 in Bag([1]) and 2 not in Bag([1])"], "solution": solution});
    check(Language::Python, &contains(""), bag, Verdict::Unverifiable);
    check(Language::Python, &contains(bag), bag, Verdict::Correct);
    check(Language::Python, &contains("def Bag(x): return x"), bag, Verdict::Unverifiable);
}

#[test]
fn what_fails_on_objects_is_wrong_only_where_it_fails_in_one_process() {
    if !available(Language::Python) {
        return;
    }
    let run = |partial, asserts: &[&str], code: &str| {
        judge(CodeConfig { partial, ..config(Language::Python) }, json!({"asserts": asserts}), code)
    };
    let generator = "def g(n):\n    yield from range(n)";
    let is_one = "import types\nassert isinstance(g(1), types.GeneratorType)";
    let outcome = run(false, &[is_one], generator);
    assert_eq!(outcome.verdict, Verdict::Unverifiable, "{outcome:?}");
    assert!(outcome.method.contains("asserts+together@"), "{outcome:?}");
    assert!(outcome.reason.contains("in one process"), "{outcome:?}");
    // Wrong there, too, and a later test that is wrong decides as well.
    for asserts in [
        ["import types\nassert isinstance(g(1), types.FunctionType)", "pass"],
        [is_one, "assert list(g(1)) == [1]"],
    ] {
        let outcome = run(false, &asserts, generator);
        assert_eq!(outcome.verdict, Verdict::Incorrect, "{outcome:?}");
        assert!(outcome.method.contains("+together@"), "{outcome:?}");
    }
    // Values alone are wrong at once, and so is what ends itself.
    for code in ["def g(n): return 2", "import os\ndef g(n): os._exit(0)", "def g(n):\n    while True: pass"]
    {
        let outcome = run(false, &["assert g(1) == 1"], code);
        assert_eq!(outcome.verdict, Verdict::Incorrect, "{outcome:?}");
        assert!(!outcome.method.contains("together"), "{outcome:?}");
    }
    // Shares of tests are given only where nothing is open.
    let opinion = "class E:\n    def __eq__(self, o): return isinstance(o, E)\ndef g(n): return E()";
    let opinions = ["assert g(1) == g(2)", "assert g(1).x == 1"];
    let outcome = run(true, &opinions, opinion);
    assert_eq!(outcome.verdict, Verdict::Unverifiable, "{outcome:?}");
    // What is caught cheating has nothing, whatever has passed and whatever one process would say.
    let equal = opinion.replace("isinstance(o, E)", "True");
    for (partial, asserts) in [(true, opinions), (false, ["assert g(1) == 1"; 2])] {
        let outcome = run(partial, &asserts, &equal);
        assert_eq!((outcome.verdict, outcome.score), (Verdict::Incorrect, Some(0.0)), "{outcome:?}");
        assert!(outcome.reason.contains("caught: ") && !outcome.method.contains("together"), "{outcome:?}");
    }
    let outcome = run(true, &["assert list(g(1)) == [0]", "assert list(g(1)) == [1]"], generator);
    assert_eq!(outcome.score, Some(0.5), "{outcome:?}");
}

#[test]
fn what_is_no_code_or_no_task() {
    let reward = Code::new(config(Language::Python)).unwrap();
    let bad = [
        json!(null),
        json!({}),
        json!({"tests": [], "asserts": []}),
        json!({"tests": [{"input": "1"}]}),
        json!({"tests": [{"input": {}, "output": "1"}]}),
        json!({"tests": [{"inputs": "1", "output": "1"}]}),
        json!({"tests": [{"output": "1", "files": {"../x": ""}}]}),
        json!({"tests": [{"output": "1"}], "asserts": ["assert True"]}),
    ];
    for reference in bad {
        let task = Task::new("t", reference.clone());
        assert!(reward.check_task(&task).is_err(), "{reference}");
        assert_eq!(score_one(&reward, &task, Response::new("```\n1\n```")).verdict, Verdict::Unverifiable);
    }
    if available(Language::Python) {
        let reference =
            json!({"asserts": ["assert add(1, 2) == 3"], "solution": "def add(a, b):\n    return a + b"});
        let task = Task::new("t", reference);
        reward.check_task(&task).unwrap();
        assert_eq!(score_one(&reward, &task, Response::new("add")).verdict, Verdict::NoAnswer);
        let gold = reward.gold(&task).unwrap();
        assert_eq!(score_one(&reward, &task, Response::new(&gold)).verdict, Verdict::Correct);
    }
}

#[test]
fn broken_settings_and_machines_are_never_a_wrong_answer() {
    let missing = CodeConfig { interpreter: "/nowhere/python".into(), ..config(Language::Python) };
    let task = Task::new("t", json!({"asserts": ["assert f() == 1"]}));
    let reward = Code::new(missing).unwrap();
    let outcome = score_one(&reward, &task, Response::new("```\n1\n```"));
    assert_eq!((outcome.score, outcome.verdict), (None, Verdict::Error), "{outcome:?}");
    assert!(outcome.reason.contains("/nowhere/python"), "{outcome:?}");
    assert!(reward.check_task(&task).is_err());
    for config in [
        CodeConfig { timeout_s: 0.0, ..CodeConfig::default() },
        CodeConfig { timeout_s: f64::NAN, ..CodeConfig::default() },
        CodeConfig { tolerance: Some(-1.0), ..CodeConfig::default() },
        CodeConfig { min_isolation: Isolation::None, ..CodeConfig::default() },
    ] {
        assert!(RewardConfig::Code(config).build().is_err());
    }
}

#[test]
fn a_level_below_the_minimum_runs_nothing() {
    let level = Sandbox::detect().unwrap().isolation();
    let reward = Code::new(CodeConfig::default()).unwrap();
    let task = Task::new("t", json!({"asserts": ["assert True"]}));
    let refused = reward.check_task(&task).is_err_and(|e| e.to_string().contains("min_isolation"));
    assert_eq!(refused, level < Isolation::Seccomp, "{level:?}");
}

#[test]
fn a_batch_keeps_its_order_with_fewer_workers_than_threads() {
    if !available(Language::Python) {
        return;
    }
    let reward = Code::new(CodeConfig { workers: 1, ..config(Language::Python) }).unwrap();
    let task = Task::new("t", json!({"tests": [{"output": "1"}]}));
    let texts: Vec<String> = (0..6).map(|i| format!("```\nprint({})\n```", i % 2)).collect();
    let items: Vec<_> = texts.iter().map(|t| (&task, Response::new(t))).collect();
    let scores: Vec<_> = score_batch(&reward, &items).iter().map(|o| o.score).collect();
    assert_eq!(scores, [0.0, 1.0, 0.0, 1.0, 0.0, 1.0].map(Some));
}
