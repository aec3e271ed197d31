//! Equality and the reward as a whole, as a table.

use super::*;
use crate::reward::score_one;

fn verdict(gold: &str, response: &str) -> Outcome {
    let reward = Math::new(MathConfig::default()).unwrap();
    score_one(&reward, &Task::new("t", serde_json::json!({ "answer": gold })), Response::new(response))
}

fn check(gold: &str, pred: &str, want: Verdict) {
    let outcome = verdict(gold, &format!("so \\boxed{{{pred}}}"));
    assert_eq!(outcome.verdict, want, "gold {gold:?} pred {pred:?} {} {}", outcome.method, outcome.reason);
}

#[test]
fn equal() {
    for (gold, pred) in [
        ("42", "42"),
        ("\\frac{1}{2}", "\\text{one half}"),
        ("\\frac{3}{4}", "three-quarters"),
        ("\\ln 2", "\\log 2"),
        ("\\frac{\\log 3}{2}", "\\ln\\sqrt3"),
        ("\\emptyset", "\\text{no solution}"),
        ("\\text{no solution}", "\\varnothing"),
        ("\\binom52", "C(5, 2)"),
        ("42", "42.0"),
        ("1/2", "0.5"),
        ("\\frac{1}{2}", "\\frac12"),
        ("\\frac{3}{4}", "0.75"),
        ("-\\frac{1}{2}", "\\frac{-1}{2}"),
        ("1000", "1,000"),
        ("10", "\\$10"),
        ("10", "10\\text{ cm}"),
        ("10 \\text{ cm}", "10"),
        ("10 \\text{ cm}", "0.1 m"),
        ("5", "x = 5"),
        ("x = 5", "5"),
        ("50\\%", "50"),
        ("50\\%", "0.5"),
        ("0.5", "50\\%"),
        ("45^\\circ", "45"),
        ("\\sqrt{12}", "2\\sqrt{3}"),
        ("\\frac{1}{\\sqrt{2}}", "\\frac{\\sqrt{2}}{2}"),
        ("\\sqrt{2}\\sqrt{3}", "\\sqrt6"),
        ("2\\pi", "\\pi \\cdot 2"),
        ("x^2 + 2x + 1", "(x+1)^2"),
        ("(x-1)(x+1)", "x^2-1"),
        ("\\frac{x^2-1}{x-1}", "x+1"),
        ("1, 2", "2, 1"),
        ("\\{1, 2\\}", "\\{2, 1\\}"),
        ("(1, 2)", "(1,2)"),
        ("[1, 2)", "[1,2)"),
        ("(2, \\infty)", "x > 2"),
        ("(1, 3]", "1 < x \\le 3"),
        ("(-\\infty, 1) \\cup (3, \\infty)", "x < 1 \\text{ or } x > 3"),
        ("(-\\infty,1)\\cup(3,\\infty)", "(3,\\infty)\\cup(-\\infty,1)"),
        ("1 \\pm \\sqrt{2}", "1+\\sqrt{2}, 1-\\sqrt{2}"),
        ("y = 2x + 1", "2x + 1"),
        ("y = 2x + 1", "2x - y + 1 = 0"),
        ("3x + 4y = 12", "6x + 8y - 24 = 0"),
        ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}"),
        ("\\text{Evelyn}", "Evelyn"),
        ("\\text{(C)}", "C"),
        ("3 + 4i", "4i + 3"),
        ("\\frac{1}{3}", "0.333333"),
        ("\\pi", "3.14159"),
        ("3\\frac{1}{2}", "3.5"),
        ("0.\\overline{3}", "\\frac13"),
        ("2^{10}", "1024"),
        ("101_2", "101"),
        ("\\ln 4", "2 \\ln 2"),
        ("42", "6 \\cdot 7 = 42"),
        ("\\frac{\\pi}{4}", "\\arctan 1"),
        ("6", "3!"),
        ("10", "\\binom{5}{2}"),
        ("11,\\! 111,\\! 100", "11111100"),
        ("5", "5 \\text{ apples}"),
        ("x \\in [-2, 7]", "[-2,7]"),
        ("1, 2, 3", "1, 2 \\text{ and } 3"),
    ] {
        check(gold, pred, Verdict::Correct);
    }
}

#[test]
fn different() {
    for (gold, pred) in [
        ("42", "43"),
        ("42", "-42"),
        ("1/2", "0.4"),
        ("\\frac{1}{3}", "0.33"),
        ("\\pi", "3.14"),
        ("10 \\text{ cm}", "10 m"),
        ("42", "42x"),
        ("42", "x - x + 42"),
        ("42", "x"),
        ("42", "x = x"),
        ("x^2", "x^2 + 1"),
        ("\\sqrt{x^2}", "x"),
        ("(1, 2)", "(2, 1)"),
        ("[1, 2)", "[1, 2]"),
        ("(2, \\infty)", "x \\ge 2"),
        ("x = 5", "y = 6"),
        ("y = 2x+1", "0 = 0"),
        ("1, 2", "1"),
        ("1, 2", "1, 2, 3"),
        ("\\{1,2\\}", "\\{1,3\\}"),
        ("\\text{Evelyn}", "Carla"),
        ("2^{100}", "2^{100}+1"),
        ("50", "0.5"),
        ("0.5", "50"),
        ("42", "10^{10^{10}}"),
        ("1,000", "(1,000)"),
        ("101_2", "5"),
        ("5", "5 not"),
        ("12", "1 2"),
    ] {
        check(gold, pred, Verdict::Incorrect);
    }
}

#[test]
fn attacks() {
    for (gold, pred) in [
        ("42", "42, 43, 44"),
        ("42", "41 or 42"),
        ("42", "42 \\text{ or } 43"),
        ("42", "\\text{either } 42 \\text{ or } 43"),
        ("42", "42?"),
        ("42", "\\pm 42"),
    ] {
        check(gold, pred, Verdict::Ambiguous);
    }
    assert_eq!(verdict("42", "\\boxed{41} \\boxed{42} \\boxed{43}").verdict, Verdict::Ambiguous);
    assert_eq!(verdict("42", "<think>\\boxed{42}").verdict, Verdict::NoAnswer);
    assert_eq!(verdict("42", "It is not 42").verdict, Verdict::Incorrect);
    assert_eq!(verdict("42", "The answer is not 42").verdict, Verdict::NoAnswer);
    assert_eq!(
        verdict("42", "<think>42</think> I cannot solve this one, I am afraid.").verdict,
        Verdict::NoAnswer
    );
    assert_eq!(verdict("42", &"\\boxed{".repeat(20_000)).verdict, Verdict::NoAnswer);
    assert_eq!(verdict("42", &format!("\\boxed{{{}}}", "(1".repeat(1500))).verdict, Verdict::Incorrect);
}

#[test]
fn bad_golds_are_named() {
    let reward = Math::new(MathConfig::default()).unwrap();
    for gold in ["", "  ", "\\frac{1}{", "???", &"9".repeat(5000)] {
        let task = Task::new("t", serde_json::json!({ "answer": gold }));
        assert!(reward.check_task(&task).is_err(), "{gold:?}");
        let outcome = score_one(&reward, &task, Response::new("\\boxed{1}"));
        assert_eq!((outcome.score, outcome.verdict), (None, Verdict::Unverifiable), "{gold:?}");
    }
    assert!(reward.check_task(&Task::new("t", serde_json::json!({ "answer": "\\frac12" }))).is_ok());
}

#[test]
fn decimals() {
    let check = |decimal: DecimalPolicy, gold: &str, pred: &str, want: bool| {
        let reward = Math::new(MathConfig { decimal, ..MathConfig::default() }).unwrap();
        let task = Task::new("t", serde_json::json!({ "answer": gold }));
        let outcome = score_one(&reward, &task, Response::new(&format!("\\boxed{{{pred}}}")));
        assert_eq!(outcome.score == Some(1.0), want, "{decimal:?} {gold} {pred} {}", outcome.reason);
    };
    let (exact, two, tenth) = (DecimalPolicy::Exact, DecimalPolicy::Digits(2), DecimalPolicy::Relative(0.1));
    check(exact, "\\frac{1}{3}", "0.3333333333", false);
    check(exact, "\\frac{1}{4}", "0.25", true);
    check(exact, "\\pi", "3.14159265", false);
    check(two, "\\frac{1}{3}", "0.33", true);
    check(two, "\\frac{1}{3}", "0.3", false);
    check(two, "\\pi", "3.1", true);
    check(two, "\\pi", "3.2", false);
    check(tenth, "100", "109", true);
    check(tenth, "100", "111", false);
    check(tenth, "-100", "-95", true);
    check(tenth, "100", "-100", false);
    check(tenth, "\\pi", "22/7", true);
    check(tenth, "\\sqrt{2}", "2", false);
    check(tenth, "0", "0.001", false);
    check(tenth, "x+1", "x+2", false);
    let config: MathConfig = serde_json::from_str(r#"{"decimal": {"relative": 0.5}}"#).unwrap();
    assert_eq!(config.decimal, DecimalPolicy::Relative(0.5));
    for bad in [DecimalPolicy::Digits(0), DecimalPolicy::Relative(1.0), DecimalPolicy::Relative(f64::NAN)] {
        assert!(Math::new(MathConfig { decimal: bad, ..MathConfig::default() }).is_err(), "{bad:?}");
    }
}
