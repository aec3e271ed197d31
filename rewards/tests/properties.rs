//! Properties that hold for every input: no panic, determinism, reflexive equality, bounded scores.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rlvr_rewards::{Response, RewardConfig, Task, Verdict, score_one};
use serde_json::json;

/// Fragments that reach deep into parsers, in random order.
fn fragments() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "\\boxed{",
        "}",
        "{",
        "\\frac",
        "\\sqrt",
        "[",
        "]",
        "(",
        ")",
        "|",
        "1",
        "12",
        "0.5",
        ".",
        ",",
        "x",
        "y",
        "\\pi",
        "e",
        "i",
        "^",
        "_",
        "-",
        "+",
        "*",
        "/",
        "!",
        "%",
        "°",
        "\\pm",
        "=",
        "<",
        "\\le",
        "\\cup",
        "\\{",
        "\\}",
        "\\text{",
        " or ",
        " and ",
        " not ",
        "the answer is ",
        "Answer: ",
        "<answer>",
        "</answer>",
        "<think>",
        "</think>",
        "####",
        "\n",
        " ",
        "$",
        "**",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "&",
        "\\\\",
        "\\overline{",
        "\\log",
        "\\sin",
        "é",
        "答案是",
        "½",
        "²",
        "A",
        "B.",
        "(C)",
        "\\infty",
        "\\left",
        "\\right",
        "\\binom",
        "99999",
        "0",
        "\\in",
        "≤",
        "\"answer\": ",
        "\"",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|list| list.concat())
}

fn kinds() -> Vec<(&'static str, Box<dyn rlvr_rewards::Reward>)> {
    let plain = ["math", "numeric", "exact", "choice", "format", "length", "lingshu_rl", "think_then_answer"];
    let text = [
        "yes_no",
        "yes_no_maybe",
        "any_of",
        "contains",
        "rouge",
        "bleu",
        "token_f1",
        "json_schema",
        "instructions",
        "language",
        "repetition",
        "cosine_length",
    ];
    let generated = ["countdown", "sudoku", "logic", "procedural"];
    (plain.into_iter().chain(text).chain(generated))
        .map(|kind| (kind, RewardConfig::from_kind(kind).unwrap().build().unwrap()))
        .collect()
}

fn holds(gold: &str, text: &str) {
    for (kind, reward) in kinds() {
        let reference = match kind {
            "countdown" => json!({"numbers": [1, 12, 3, 3], "target": 24}),
            "sudoku" => json!({"puzzle": "1... .4.. ..1. ...3"}),
            "logic" => json!({"formula": "(x or y) and not e"}),
            _ => json!({"answer": gold, "options": ["1", "x y", gold]}),
        };
        let task = Task::new("t", reference);
        let _ = reward.check_task(&task);
        let outcome = score_one(&*reward, &task, Response::new(text));
        assert!(!outcome.reason.contains("panicked"), "{kind} {gold:?} {text:?} {}", outcome.reason);
        assert_eq!(outcome.score.is_none(), outcome.verdict.is_masked(), "{kind} {gold:?} {text:?}");
        if let Some(score) = outcome.score {
            let low = if matches!(kind, "length" | "repetition" | "cosine_length") { -1.0 } else { 0.0 };
            assert!((low..=1.5).contains(&score), "{kind} {score}");
        }
        assert_eq!(outcome, score_one(&*reward, &task, Response::new(text)), "{kind} is not deterministic");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_on_any_string(gold in "\\PC{0,40}", text in "\\PC{0,300}") {
        holds(&gold, &text);
    }

    #[test]
    fn nothing_panics_on_fragments(gold in fragments(), text in fragments()) {
        holds(&gold, &text);
        holds(&gold, &format!("\\boxed{{{text}}}"));
    }

    #[test]
    fn a_fraction_equals_itself_in_other_forms(n in -5000i64..5000, d in 1i64..500, k in 1i64..50) {
        let reward = RewardConfig::from_kind("math").unwrap().build().unwrap();
        let task = Task::new("t", json!({"answer": format!("{n}/{d}")}));
        for form in [
            format!("\\frac{{{n}}}{{{d}}}"),
            format!("\\dfrac{{{}}}{{{}}}", n * k, d * k),
            format!("{} / {}", n * k, d * k),
            format!("x = \\frac{{{n}}}{{{d}}}"),
            format!("\\frac{{{}}}{{{d}}} + 1 - \\frac{{{}}}{{{}}}", n, k, k),
        ] {
            let outcome = score_one(&*reward, &task, Response::new(&format!("\\boxed{{{form}}}")));
            prop_assert_eq!(outcome.verdict, Verdict::Correct, "{} {}", form, outcome.reason);
        }
        let wrong = format!("\\boxed{{\\frac{{{}}}{{{d}}}}}", n + 1);
        prop_assert_eq!(score_one(&*reward, &task, Response::new(&wrong)).verdict, Verdict::Incorrect);
    }

    #[test]
    fn math_accepts_its_own_gold(gold in fragments()) {
        let reward = RewardConfig::from_kind("math").unwrap().build().unwrap();
        let task = Task::new("t", json!({"answer": gold}));
        let balanced = !gold.contains(['<', '\n']) && !gold.contains("boxed") && !gold.contains("###");
        // What the braces of a box cannot hold is no fault of the equality.
        let mut depth = 0i32;
        let closed = gold.replace("\\{", "").replace("\\}", "").chars().all(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth >= 0
        }) && depth == 0;
        let words = ["answer", "not", "or", "and", "Answer", "答案", "\""].iter().any(|w| gold.contains(w));
        if balanced && closed && !words && !gold.ends_with('\\') && reward.check_task(&task).is_ok() {
            let outcome = score_one(&*reward, &task, Response::new(&format!("so \\boxed{{{gold}}}")));
            prop_assert_eq!(outcome.verdict, Verdict::Correct, "{} {:?}", outcome.reason, outcome.extracted);
        }
    }
}

/// Inputs that make quadratic scanners and unbounded arithmetic hang; together they take well under a second.
#[test]
fn hostile_inputs_end_soon() {
    let mut inputs: Vec<String> = Vec::new();
    for piece in [
        "\\boxed{",
        "{",
        "the answer is ",
        "the answer is 4. ",
        "<answer>4</answer>",
        "\\boxed{4} or ",
        "#### 4\n",
        "A. ",
        "A or B ",
        "B is correct. ",
        "I choose B. ",
        "答案是",
        "é",
        "if the answer is ",
        "scratch that ",
        "$",
        "1,000,",
    ] {
        inputs.push(piece.repeat(100_000 / piece.len()));
    }
    for piece in [
        "(",
        "-",
        "1/",
        "x^",
        "9!",
        "9^",
        "\\frac{1}{",
        "|",
        "\\pm 1",
        "\\cap A",
        "5000!+",
        "1/7^{9999}+",
        "\\text{",
    ] {
        inputs.push(format!("\\boxed{{{}1}}", piece.repeat(3600 / piece.len())));
    }
    inputs.push("\\boxed{\\binom{100000}{4000}}".into());
    inputs.push("\\boxed{10^{10^{10}}}".into());
    for text in &inputs {
        holds("42", text);
        holds("x^2 + 1", text);
    }
}
