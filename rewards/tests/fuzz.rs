//! Seeded fuzzing of tokenizer, parser, extraction and equality: no panic, bounded work, an answer equals itself, equality
//! of numbers is symmetric.
//!
//! The normal run takes a few thousand inputs. More: `FUZZ_INPUTS=10000000 FUZZ_SEED=1 cargo test --release
//! -p rlvr-rewards --test fuzz -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use rlvr_rewards::{Outcome, Response, Reward, RewardConfig, Task, Verdict, score_one};
use serde_json::{Value, json};

/// Work of one score that no input may pass: 64 KiB of text, twice the budget of arithmetic of a comparison and its items.
const MAX_WORK: u64 = 60_000;

#[path = "../../tests/fuzz/targets/random.rs"]
mod random;

use random::Random;

const PIECES: &[&str] = &[
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
    "\\cap",
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
    "(A) ",
    "C) ",
    "\\infty",
    "\\left",
    "\\right",
    "\\binom",
    "\\over",
    "\\choose",
    "99999",
    "\\in",
    "≤",
    "\"answer\": ",
    "twenty",
    "-one",
    " million",
    "\\mathbb{R}",
    "\\setminus",
    ":",
    "...",
    "\\ldots",
    "2A_{16}",
    "\\sum_{k=1}^{",
    "\\prod_{k=1}^{9}",
    "\\int_0^1 ",
    " dx",
    "k",
    "\\approx ",
    "x=",
    " squared",
    " times ",
    " more than ",
    " feet ",
    " at most",
    "五万",
    "分之",
    "的平方",
    " und ",
    "1.234,5",
    "\u{feff}",
    "\\$",
    " cm",
    "^\\circ",
    "^{o}",
    "{}",
    "_5C_2",
    "]0,1[",
    "\\color{red}",
    "\\phantom{",
    "U",
    "\0",
    "\u{200b}",
    "٣",
];

/// A formula of a small grammar; numbers only where `closed`.
fn formula(rng: &mut Random, depth: usize, closed: bool) -> String {
    let choices = if depth == 0 { 3 } else { 14 };
    let sub = |rng: &mut Random| formula(rng, depth.saturating_sub(1), closed);
    match rng.below(choices) {
        0 => rng.below(1000).to_string(),
        1 if !closed => (*rng.of(&["x", "y", "n", "\\theta"])).into(),
        1 => format!("{}.{}", rng.below(100), rng.below(1000)),
        2 => (*rng.of(&["\\pi", "2", "7", "e", "\\frac12"])).into(),
        3 => format!("\\frac{{{}}}{{{}}}", sub(rng), sub(rng)),
        4 => format!("{} + {}", sub(rng), sub(rng)),
        5 => format!("{} - {}", sub(rng), sub(rng)),
        6 => format!("({})({})", sub(rng), sub(rng)),
        7 => format!("\\sqrt{{{}}}", sub(rng)),
        8 => format!("{{({})}}^{{{}}}", sub(rng), rng.below(7)),
        9 => format!("-({})", sub(rng)),
        10 => format!("\\left|{}\\right|", sub(rng)),
        11 => format!("\\sin({})", sub(rng)),
        12 => format!("{} \\cdot ({})", rng.below(40), sub(rng)),
        _ => format!("\\ln\\left({}\\right)", sub(rng)),
    }
}

fn corpus() -> Vec<(String, String)> {
    (include_str!("corpus/math.jsonl").lines())
        .map(|l| serde_json::from_str::<Value>(l).unwrap())
        .map(|row| {
            let gold = row["gold"].as_str().map_or_else(|| row["gold"].to_string(), str::to_string);
            (gold, row["completion"].as_str().unwrap().to_string())
        })
        .collect()
}

/// One change at a random place: a byte dropped, doubled, or a piece put in; two texts crossed.
fn mutate(rng: &mut Random, text: &str, other: &str) -> String {
    let mut chars: Vec<char> = text.chars().take(2000).collect();
    for _ in 0..=rng.below(4) {
        let at = rng.below(chars.len() + 1);
        match rng.below(5) {
            0 if at < chars.len() => drop(chars.remove(at)),
            1 if at < chars.len() => chars.insert(at, chars[at]),
            2 => {
                let end = (at + rng.below(8)).min(chars.len());
                drop(chars.splice(at..end, rng.of(PIECES).chars()));
            }
            3 => {
                let tail: Vec<char> = other.chars().take(2000).collect();
                chars.truncate(at);
                chars.extend(&tail[rng.below(tail.len() + 1)..]);
            }
            _ => drop(chars.splice(at..at, rng.of(PIECES).chars())),
        }
    }
    chars.into_iter().collect()
}

fn score(reward: &dyn Reward, gold: &str, text: &str) -> Outcome {
    let outcome = score_one(reward, &Task::new("t", json!({ "answer": gold })), Response::new(text));
    assert!(outcome.verdict != Verdict::Error, "{gold:?} {text:?} {}", outcome.reason);
    assert!(outcome.work <= MAX_WORK, "work {} {gold:?} {text:?}", outcome.work);
    outcome
}

/// The other extractors: whatever the text, there is a verdict and it is not an error.
fn others() -> Vec<(Box<dyn Reward>, Task)> {
    let options = json!({"answer": "B", "options": ["4", "x^2", "the answer", "none of these"]});
    [("choice", options), ("numeric", json!({"answer": "42"})), ("yes_no", json!({"answer": "yes"}))]
        .into_iter()
        .map(|(kind, reference)| {
            (RewardConfig::from_kind(kind).unwrap().build().unwrap(), Task::new("t", reference))
        })
        .collect()
}

fn run(inputs: usize, seed: u64) {
    let others = others();
    let extract = |i: usize, text: &str| {
        let (reward, task) = &others[i % others.len()];
        let outcome = score_one(&**reward, task, Response::new(text));
        assert!(outcome.score.is_some(), "{} {text:?} {}", reward.name(), outcome.reason);
    };
    let reward = RewardConfig::from_kind("math").unwrap().build().unwrap();
    let corpus = corpus();
    let mut rng = Random(seed);
    let mut most = 0;
    for i in 0..inputs {
        let (gold, text) = &corpus[rng.below(corpus.len())];
        match i % 5 {
            0 => {
                let bytes: Vec<u8> = (0..rng.below(80)).map(|_| rng.next() as u8).collect();
                let noise = String::from_utf8_lossy(&bytes).into_owned();
                score(&*reward, gold, &noise);
                extract(i / 5, &noise);
                most = most.max(score(&*reward, &noise, &format!("\\boxed{{{noise}}}")).work);
            }
            1 => {
                let noise: String = (0..rng.below(40)).map(|_| *rng.of(PIECES)).collect();
                score(&*reward, gold, &noise);
                extract(i / 5, &noise);
                most = most.max(score(&*reward, gold, &format!("\\boxed{{{noise}}}")).work);
            }
            2 => {
                let other = &corpus[rng.below(corpus.len())];
                let changed = mutate(&mut rng, text, &other.1);
                most = most.max(score(&*reward, gold, &changed).work);
                extract(i / 5, &changed);
                let changed = mutate(&mut rng, gold, &other.0);
                score(&*reward, &changed, text);
            }
            3 => {
                let a = formula(&mut rng, 3, false);
                let b = formula(&mut rng, 2, false);
                let own = score(&*reward, &a, &format!("\\boxed{{{a}}}"));
                assert!(own.verdict == Verdict::Correct || own.score.is_none(), "{a:?} {}", own.reason);
                most = most.max(score(&*reward, &a, &format!("\\boxed{{{b}}}")).work);
            }
            _ => {
                let a = formula(&mut rng, 2, true);
                let b = match rng.below(3) {
                    0 => format!("{a} + 0"),
                    1 => format!("({a}) \\cdot 1"),
                    _ => formula(&mut rng, 1, true),
                };
                let ab = score(&*reward, &a, &format!("\\boxed{{{b}}}")).verdict;
                let ba = score(&*reward, &b, &format!("\\boxed{{{a}}}")).verdict;
                let masked = ab.is_masked() || ba.is_masked();
                assert!(
                    masked || (ab == Verdict::Correct) == (ba == Verdict::Correct),
                    "{a:?} {b:?} {ab:?} {ba:?}"
                );
            }
        }
    }
    println!("{inputs} inputs, seed {seed}, most work {most}");
}

#[test]
fn a_few_inputs() {
    run(4000, 7);
}

#[test]
#[ignore = "as many as FUZZ_INPUTS says"]
fn many_inputs() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |v| v.parse().unwrap());
    run(number("FUZZ_INPUTS", 10_000_000) as usize, number("FUZZ_SEED", 1));
}
