//! The work of hostile answers is bounded; the counters are tested, not the clock.
//!
//! `cargo test --release -p rlvr-rewards --test bounds -- --ignored --nocapture` prints the processor time of each.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use rlvr_rewards::{Outcome, Response, Reward, RewardConfig, Task, Verdict, score_one};
use serde_json::json;

/// Work that no input may pass; a few milliseconds on a slow core.
const MAX_WORK: u64 = 60_000;

fn inputs() -> Vec<(String, String)> {
    let mut list = Vec::new();
    // Whole responses: what makes scanners quadratic.
    for piece in [
        "\\boxed{",
        "{",
        "\\boxed{4}",
        "\\boxed{4} or ",
        "\\boxed{\\frac{",
        "the answer is ",
        "the answer is 4. ",
        "<answer>",
        "</answer>",
        "<answer>4</answer>",
        "#### 4\n",
        "####",
        "答案是",
        "answer: $",
        "$",
        "\\(",
        "if the answer is ",
        "scratch that ",
        "\"answer\": \"",
        "**4** ",
        "4 or ",
        "the answer to ",
        "not ",
        "1,000,",
        "**Answer**\n",
        "{'answer': '",
        "gives the answer ",
        "wrong that the ",
        "((((",
        "é",
        "\\fbox4 ",
        "=> ",
        "The result is ",
        "\\begin{align*} x &= 1 \\\\ ",
        "&= 1 + 1 ",
        "$x = 1$ and ",
        "1 = 1, ",
        "If 1, then 1 = ",
        "<<1+1=2>>",
        "<<1+1",
        "-\\boxed{4}\\frac",
        "a = ",
        "x=1 or y=2 and ",
        "$1 \\equiv 2 \\pmod 3$ ",
    ] {
        list.push(("42".to_string(), piece.repeat(100_000 / piece.len())));
        list.push(("42".to_string(), format!("\\boxed{{41}} {}", piece.repeat(60_000 / piece.len()))));
    }
    // Answer spans: what makes parsers and arithmetic expensive.
    for gold in [
        "42",
        "x^2+1",
        "\\{1,2,3\\}",
        "(0,1)\\cup(2,3)",
        "\\sqrt{2}+\\sqrt{3}",
        "y=2x+1",
        "1,2,3,4,5,6,7,8,9",
    ] {
        for piece in [
            "(",
            "{",
            "-",
            "1/",
            "x^",
            "9!",
            "9^",
            "2^{",
            "\\frac{1}{",
            "\\frac12+",
            "|",
            "\\pm 1",
            "\\cap A",
            "\\cup(1,2)",
            "5000!+",
            "7999!+",
            "7999!/",
            "1/7^{9999}+",
            "1/7^{22000}+",
            "\\sqrt{2}+",
            "\\sqrt{x}+",
            "\\sqrt{7^{9999}}+",
            "\\binom{9999}{3999}+",
            "\\text{",
            "1,",
            "x=1,",
            "\\sqrt2,",
            "x,",
            "1<x,",
            "x<1,",
            "x\\ne 2,",
            "1=",
            "x=",
            "\\{1,2\\}\\setminus",
            "\\mathbb{R}\\setminus\\{1\\}\\setminus",
            "\\sin ",
            "\\ln 5^{999},",
            "0.1(3)+",
            "1.5e999+",
            "1e9999*",
            "\\begin{pmatrix}1\\\\2\\end{pmatrix}+",
            "\\lfloor 9^{99} \\rfloor,",
            "3^{20000}-",
            "(x+1)^{99}+",
            "\\log_2 3^{9999},",
            "1:2:",
            "\\binom{x}{30},",
            "\\gcd(7^{9000},3^{9000})+",
            "\\sqrt[3]{2^{9999}},",
            "x!+",
            "7^{20000}/3^{20000}+",
            "(1,\\ln 2)\\cup",
            "1 \\text{ or } ",
            "x \\in ",
            "twenty-",
            "5 hundred ",
            "\\sqrt{\\sqrt{",
            "\\sum_{k=1}^{19999} k+",
            "\\sum_{k=1}^{2000}\\frac{1}{k}+",
            "\\prod_{k=1}^{9999} k+",
            "\\sum_{i=1}^{999}\\sum_{j=1}^{999} ij+",
            "\\sum_{k=1}^{n} k+",
            "\\int_0^1 e^{-x^2} dx+",
            "\\int_0^1 |\\sin 99x| dx+",
            "\\int_0^1 \\frac1x dx+",
            "\\int_0^1\\int_0^1\\int_0^1 \\sin xyz dx dy dz+",
            "\\int_0^1 (x+1)^{60} dx+",
            "\\int ",
            "\\int dx",
            "\\int_0^1 ",
            "A\\cap ",
            "A\\cup ",
            "x=1,y=2,",
            "(x,y)=(1,2),",
            "1 \\approx ",
            "1<2x<3,",
            "5 times ",
            "5 squared ",
            "5 feet ",
            "5 und ",
            "五万",
            "三分之",
            "1.234,5 ",
            "1,23,456 ",
            "5个",
            "a:b=",
            "A/BC",
        ] {
            list.push((gold.to_string(), format!("\\boxed{{{}1}}", piece.repeat(4000 / piece.len()))));
        }
    }
    for text in [
        "\\binom{100000}{4000}",
        "10^{10^{10}}",
        "2^{2^{2^{2^{2^2}}}}",
        "99999999999!",
        "7^{23000}/3^{40000}",
    ] {
        list.push(("42".to_string(), format!("\\boxed{{{text}}}")));
    }
    list
}

/// The strict reward and the lenient one.
fn rewards() -> Vec<Box<dyn Reward>> {
    let lenient: RewardConfig =
        serde_json::from_value(json!({"kind": "math", "extract": "lenient"})).unwrap();
    vec![RewardConfig::from_kind("math").unwrap().build().unwrap(), lenient.build().unwrap()]
}

fn score(reward: &dyn Reward, gold: &str, text: &str) -> Outcome {
    score_one(reward, &Task::new("t", json!({ "answer": gold })), Response::new(text))
}

#[test]
fn work_is_bounded() {
    for (reward, (gold, text)) in rewards().iter().flat_map(|r| inputs().into_iter().map(move |i| (r, i))) {
        let outcome = score(&**reward, &gold, &text);
        let shown = &text[..text.char_indices().nth(60).map_or(text.len(), |(i, _)| i)];
        assert!(outcome.work <= MAX_WORK, "{} for {gold:?} {shown:?}", outcome.work);
        assert_ne!(outcome.verdict, Verdict::Error, "{gold:?} {shown:?} {}", outcome.reason);
        assert_eq!(outcome, score(&**reward, &gold, &text), "{gold:?} {shown:?}");
    }
}

#[test]
fn long_answers() {
    let reward = RewardConfig::from_kind("math").unwrap().build().unwrap();
    let check = |text: String, want: Verdict| {
        assert_eq!(score(&*reward, "42", &text).verdict, want, "{}", &text[..40])
    };
    check("x ".repeat(50_000) + "\\boxed{42}", Verdict::Correct);
    check("\\boxed{41} ".to_string() + &"x ".repeat(50_000) + "\\boxed{42}", Verdict::Correct);
    // Only the last 64 KiB are read.
    check("\\boxed{42} ".to_string() + &"x ".repeat(50_000), Verdict::NoAnswer);
    check(format!("\\boxed{{{}42}}", "0+".repeat(1_900)), Verdict::Correct);
    check(format!("\\boxed{{{}42}}", "0+".repeat(2_100)), Verdict::NoAnswer);
}

/// Processor time of this thread in nanoseconds.
fn spent() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[test]
#[ignore = "prints processor times"]
fn times() {
    let mut rows = Vec::new();
    for (reward, (gold, text)) in rewards().iter().flat_map(|r| inputs().into_iter().map(move |i| (r, i))) {
        let best = (0..3)
            .map(|_| {
                let start = spent();
                let work = score(&**reward, &gold, &text).work;
                (spent() - start, work)
            })
            .min()
            .unwrap();
        let shown: String = text.chars().take(48).collect();
        rows.push((best.0, best.1, gold, shown));
    }
    rows.sort();
    for (nanos, work, gold, text) in rows.iter().rev().take(25) {
        println!("{:8.2} ms  work {work:8}  {gold:?} {text:?}", *nanos as f64 / 1e6);
    }
}
