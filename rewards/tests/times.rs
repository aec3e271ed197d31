//! Processor time of hostile texts of 64 KiB, for every kind of verifier that reads texts.
//!
//! `cargo test --release -p rlvr-rewards --test times -- --ignored --nocapture` prints the slowest of each kind;
//! `TIMES_KIND=choice` takes one kind, `TIMES_ROWS=50` prints more.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use rlvr_rewards::{Response, Reward, RewardConfig, Task, Verdict, score_one};
use serde_json::{Value, json};

#[path = "support/hostile.rs"]
mod hostile;

/// As many bytes of a response as verifiers read.
const BYTES: usize = 64 << 10;

/// What is repeated.
const PIECES: &[&str] = &[
    // Words and letters.
    "a ",
    "A ",
    "B ",
    "I ",
    "é ",
    "word ",
    "the ",
    "is ",
    "not ",
    "so ",
    "or ",
    "and ",
    "but ",
    "no ",
    "yes ",
    "maybe ",
    "if ",
    "答",
    "是",
    "不",
    "한 ",
    "ж ",
    "ا ",
    "ไ",
    "a",
    "aB",
    "\u{301}",
    "a\u{301}",
    "ab\n",
    "\n",
    " ",
    "\t\n",
    ". ",
    "x. ",
    "? ",
    "!",
    ";",
    "。",
    // Choices.
    "so B ",
    "not B but ",
    "B is correct. ",
    "B is correct ",
    "A is wrong, ",
    "I choose B. ",
    "it must be B ",
    "leaving B ",
    "rule out A and C. ",
    "the answer is B. ",
    "the answer is ",
    "The answer is B or ",
    "if the answer is ",
    "Answer: ",
    "Answer: B ",
    "Answer: B\n",
    "Answer:\n",
    "answer B ",
    "选A。",
    "选A",
    "答案是B",
    "答案是",
    "不选B，",
    "不是A而是B。",
    "Aではなく、Bです。",
    "정답은 B ",
    "la respuesta es B ",
    "die Antwort ist B, ",
    "правильный ответ B. ",
    "الجواب هو B ",
    "उत्तर B है। ",
    "**A**",
    "**A** ",
    "(A) ",
    "(A",
    "A) ",
    "A. ",
    "A. Fever\n",
    "A. Mitral stenosis B. Aortic stenosis ",
    "A. Mitral stenosis\nB. Aortic stenosis\n",
    "A\n",
    "A\nB\n",
    "A: no\nB: yes\n",
    "A, ",
    "A or ",
    "A, B, C, D and ",
    "option ",
    "option A ",
    "options ",
    "A ✓\n",
    "A ✗\n",
    "A - incorrect\n",
    "Aortic stenosis ",
    "Aortic stenosis, ",
    "not Aortic stenosis. ",
    "C. difficile ",
    "x.",
    "x.y ",
    "if a, so B ",
    "not Aortic stenosis. ",
    "Answer:\nA\n",
    "<answer>A</answer>\n",
    "<ans>",
    "<ans> ",
    "</ans>",
    "\"answer\": \"a",
    "\"answer\": '",
    "\"answer\": [",
    "could B ",
    "1a",
    "1,",
    "A+ B ",
    "A, B+ ",
    "(",
    "first option ",
    "the second one ",
    "1. A\n",
    "wait, ",
    "Wait, no: ",
    "actually B, ",
    "B, no wait, C ",
    "could be B ",
    "I don't think ",
    "unlikely ",
    "because ",
    "n't ",
    "cannot be A ",
    "the only one ",
    "correct ",
    "correct: ",
    "**Answer**\n",
    "A->B ",
    "=> B ",
    "∴ B ",
    "A/B/",
    "A-B-",
    // Marked answers.
    "\\boxed{",
    "\\boxed{A} ",
    "\\boxed{A}, ",
    "\\boxed{4} or ",
    "\\boxed{\\text{",
    "<answer>",
    "</answer>",
    "<answer>A</answer>",
    "<answer>4</answer> ",
    "<think>",
    "</think>",
    "<think>a</think>",
    "<|begin_of_box|>",
    "#### A\n",
    "#### ",
    "####",
    "\"answer\": \"A\", ",
    "\"answer\": \"",
    "{\"answer\": ",
    "{'answer': '",
    "{\"a\": ",
    "{\"a\": 1}\n",
    "[",
    "]",
    "[1, ",
    "{",
    "}",
    "(",
    ")",
    "((((",
    "[[1]] ",
    "\"",
    "'",
    "`",
    "```\n",
    "```json\n",
    "$",
    "$$",
    "$x$ ",
    "\\(",
    "\\",
    "*",
    "**",
    "_",
    "#",
    "# a\n",
    "- a\n",
    "> ",
    "|",
    "<",
    ">",
    "</",
    "<a>",
    "&",
    ":",
    "：",
    "-",
    "–",
    "=",
    "==",
    "\"\"",
    "“",
    "（",
    "【",
    "「",
    // Numbers.
    "1",
    "1 ",
    "12, ",
    "1,000,",
    "1.5 ",
    "-1 ",
    "1/2 ",
    "1e9 ",
    "5%",
    "$5 ",
    "5 kg ",
    "5 feet ",
    "one ",
    "twenty-",
    "five hundred ",
    "五万",
    "三分之",
    "½½½½½½½½½½ ",
    "½",
    "²",
    "1:2:",
    "4 or ",
    "<<1+1=2>>",
    "= 4 ",
    "x = 1 ",
    "4. ",
    "the answer is 4. ",
    "The result is ",
    "approximately 4 ",
    "between 3 and ",
    // Mathematics.
    "\\frac{1}{2} ",
    "\\frac",
    "\\sqrt{",
    "x^",
    "x^2+",
    "\\begin{align*} x &= 1 \\\\ ",
    "\\begin{",
    "\\text{",
    "\\left(",
    "a = ",
    "x=1 or y=2 and ",
    // Words that retract, hedge, deny and refuse.
    "scratch that ",
    "I take it back. ",
    "I am not sure. ",
    "I don't know. ",
    "cannot be determined ",
    "either A or B ",
    "perhaps ",
    "probably ",
    "never ",
    "neither ",
    "nor ",
    "however, ",
    "therefore ",
    "yes, ",
    "no, ",
    "Yes.\n",
    "No.\n",
    "not yes ",
    "yes or no ",
    "нет ",
    "да ",
    "是的",
    "不是",
    // Forms.
    "Paris ",
    "Paris, ",
    "the Paris ",
    "First. Second. ",
    "word, word. ",
    "* item\n",
    "1. item\n",
    "P.S. ",
    "<<title>> ",
    "[name] ",
    "HELLO ",
    "Hello\n\n",
    "\n***\n",
    "Highlighted *a* ",
    "e.g. ",
    "https://a.b/ ",
    "a@b.c ",
];

/// A text that people write.
const PROSE: &str = "The patient presents with chest pain that radiates to the left arm, and an electrocardiogram shows changes in \
    the inferior leads. In this case we consider each of the possible causes. Mitral stenosis gives a murmur in diastole, so it does \
    not fit, whereas aortic stenosis is heard in systole. If the murmur were louder, one could think of regurgitation. Therefore the \
    most likely finding is narrowing of the valve, because the pulse rises slowly.\n\n";

/// A text of other languages.
const POLYGLOT: &str = "Der Patient hat Schmerzen, aber kein Fieber; also ist die Antwort nicht klar. El paciente no tiene fiebre, por lo \
    tanto la respuesta no es obvia. 患者没有发烧，所以答案不清楚。Пациент не имеет лихорадки, поэтому ответ неясен. 환자는 열이 없으므로 답이 명확하지 \
    않다. المريض ليس لديه حمى لذلك الجواب غير واضح.\n";

/// Whole responses: each piece again and again, alone and beside an answer.
fn texts() -> Vec<String> {
    let mut list = Vec::new();
    for piece in PIECES.iter().chain(&[PROSE, POLYGLOT]) {
        let long = |bytes: usize| piece.repeat(bytes / piece.len());
        list.push(long(BYTES));
        list.push(format!("The answer is B. {}", long(BYTES - 64)));
        list.push(format!("{} So the answer is 42.", long(BYTES - 64)));
        list.push(format!("<answer>{}</answer>", long(BYTES - 64)));
        list.push(format!("{{\"answer\": \"{}\"}}", long(BYTES - 64)));
    }
    // Pairs, in an order that does not depend on chance.
    let mut state = 7usize;
    for _ in 0..400 {
        let mut text = String::new();
        let mut pick = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            PIECES[(state >> 33) % PIECES.len()]
        };
        let (a, b, c) = (pick(), pick(), pick());
        while text.len() + a.len() + b.len() + c.len() < BYTES {
            text.extend([a, b, c]);
        }
        list.push(text);
    }
    list
}

/// Settings and references of every kind that reads a text.
fn kinds() -> Vec<(Value, Value)> {
    let options =
        json!(["Mitral stenosis", "Aortic stenosis", "Aortic regurgitation", "C. difficile colitis"]);
    let many: Vec<String> =
        (0..26).map(|i| format!("option text {i} of many words that stand here")).collect();
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}});
    let ids = |list: &[(&str, Value)]| {
        list.iter().map(|(id, kwargs)| json!({"id": id, "kwargs": kwargs})).collect::<Vec<_>>()
    };
    let instructions = ids(&[
        ("keywords:existence", json!({"keywords": ["paris", "valve"]})),
        ("keywords:frequency", json!({"keyword": "word", "frequency": 3, "relation": "at least"})),
        ("keywords:letter_frequency", json!({"letter": "a", "let_frequency": 4, "let_relation": "at least"})),
        ("length_constraints:number_sentences", json!({"num_sentences": 2, "relation": "at least"})),
        ("length_constraints:number_words", json!({"num_words": 2, "relation": "at least"})),
        ("length_constraints:number_paragraphs", json!({"num_paragraphs": 2})),
        ("detectable_format:number_bullet_lists", json!({"num_bullets": 2})),
        ("detectable_format:number_highlighted_sections", json!({"num_highlights": 2})),
        ("detectable_format:title", json!({})),
        ("detectable_format:json_format", json!({})),
        ("detectable_content:number_placeholders", json!({"num_placeholders": 2})),
        ("punctuation:no_comma", json!({})),
        ("change_case:english_lowercase", json!({})),
        (
            "change_case:capital_word_frequency",
            json!({"capital_frequency": 2, "capital_relation": "at least"}),
        ),
        ("startend:quotation", json!({})),
        ("language:response_language", json!({"language": "de"})),
    ]);
    let lenient = |kind: &str| json!({"kind": kind, "extract": "lenient"});
    let kind = |kind: &str| json!({ "kind": kind });
    let answer = |a: &str| json!({ "answer": a });
    let judged = json!({"answer": "B", "options": options});
    vec![
        (kind("math"), answer("42")),
        (lenient("math"), answer("42")),
        (kind("numeric"), answer("42")),
        (lenient("numeric"), answer("42")),
        (kind("exact"), answer("Paris")),
        (kind("any_of"), json!({"answer": ["Paris", "the city of light", "4"]})),
        (kind("yes_no"), answer("yes")),
        (lenient("yes_no"), answer("no")),
        (kind("yes_no_maybe"), answer("maybe")),
        (kind("choice"), judged.clone()),
        (kind("choice"), answer("B")),
        (kind("choice"), json!({"answer": "B", "options": many})),
        (lenient("choice"), judged.clone()),
        (json!({"kind": "choice", "several": true}), json!({"answer": "AB", "options": options})),
        (json!({"kind": "choice", "think": "require_closed"}), judged),
        (kind("format"), json!({})),
        (json!({"kind": "format", "style": "think", "think_opened": true}), json!({})),
        (json!({"kind": "regex", "pattern": "answer is ([A-Z])"}), answer("B")),
        (json!({"kind": "length", "max": 100, "soft": 20, "unit": "words"}), json!({})),
        (json!({"kind": "length", "max": 100, "soft": 20, "unit": "chars"}), json!({})),
        (json!({"kind": "cosine_length", "max": 1000}), answer("42")),
        (kind("contains"), json!({"all": ["art", "B"], "none": ["scratch"]})),
        (kind("json_schema"), json!({ "schema": schema })),
        (kind("instructions"), json!({ "instructions": instructions })),
        (kind("rouge"), answer("the patient presents with chest pain")),
        (json!({"kind": "rouge", "variant": "rouge_l"}), answer("the patient presents with chest pain")),
        (kind("bleu"), answer("the patient presents with chest pain")),
        (kind("token_f1"), answer("the patient presents with chest pain")),
        (json!({"kind": "repetition"}), json!({})),
        (kind("language"), json!({"language": "de"})),
        (kind("language"), json!({"language": "zh"})),
        (kind("countdown"), json!({"numbers": [3, 5, 2], "target": 16})),
        (kind("sudoku"), json!({"puzzle": "1..4..1..2....3."})),
        (kind("logic"), json!({"formula": "a & (b | !c)"})),
        (kind("lingshu_rl"), json!({"answer": "B", "options": options})),
        (kind("huatuo_o1"), json!({"answer": "B", "options": options})),
    ]
}

/// Processor time of this thread in nanoseconds.
#[cfg(unix)]
fn spent() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time`, which outlives it.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Time since the first call in nanoseconds.
#[cfg(not(unix))]
fn spent() -> u64 {
    static FIRST: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    FIRST.elapsed().as_nanos() as u64
}

/// The least time of a few tries; what is fast is tried once.
fn least(reward: &dyn Reward, task: &Task, text: &str) -> u64 {
    let time = || {
        let start = spent();
        let outcome = score_one(reward, task, Response::new(text));
        assert_ne!(outcome.verdict, Verdict::Error, "{} {}", reward.name(), outcome.reason);
        spent() - start
    };
    let first = time();
    if first < 3_000_000 { first } else { (0..3).map(|_| time()).fold(first, u64::min) }
}

#[test]
#[ignore = "prints processor times"]
fn times() {
    let wanted = std::env::var("TIMES_KIND").unwrap_or_default();
    let shown: usize = std::env::var("TIMES_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let texts = texts();
    for (config, reference) in kinds() {
        let kind = config["kind"].as_str().unwrap();
        if !kind.starts_with(&wanted) {
            continue;
        }
        let reward = serde_json::from_value::<RewardConfig>(config.clone()).unwrap().build().unwrap();
        let task = Task::new("t", reference.clone());
        let mut rows: Vec<(u64, String)> =
            texts.iter().map(|text| (least(&*reward, &task, text), text.clone())).collect();
        if kind == "math" {
            for (gold, text) in hostile::inputs() {
                rows.push((least(&*reward, &Task::new("t", json!({ "answer": gold })), &text), text));
            }
        }
        rows.sort();
        println!("{config} {}", reference.to_string().chars().take(60).collect::<String>());
        for (nanos, text) in rows.iter().rev().take(shown) {
            let begin: String = text.chars().take(72).collect();
            println!("    {:8.2} ms  {begin:?}", *nanos as f64 / 1e6);
        }
    }
}
