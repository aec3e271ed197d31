//! `math`: the last explicit answer of the response equals the reference.
//!
//! Two stages. *Extraction* is [`crate::extract`]. *Equality* tries, in order: the same normalised string, the same exact
//! rational, the same rational function (values at seeded points of two prime fields), the same value in double
//! precision for what is algebraic or transcendental. Lists and sets are unordered; tuples, intervals and matrices are
//! ordered; values with names (`x = 3, y = 5`) are compared by name; an interval equals the same inequality in one unknown;
//! equations are compared up to a nonzero factor; unions, intersections and complements of named sets by membership.
//! Units, currency and a name in front (`x = …`, `S : S' = …`) may be left out; a unit that contradicts the reference's is
//! wrong. A decimal equals an exact value when it is it rounded to six significant digits or more (`decimal`).
//! Sums, products and integrals over a known range have their value (integrals of polynomials exactly, others by
//! quadrature); those over an unknown or infinite one equal others of the same range and body.
//!
//! Words behind a number change it ("5 squared", "3 quarters", "5万"); an answer with such words that are not understood
//! ("5 at most") is not read. A decimal comma is one where the response is written in a language that has it, or the number
//! can be nothing else (`decimal_mark`). A reference that is a whole solution counts as its marked answer.
//!
//! Not accepted: an expression with free symbols where the reference is a number, a list of alternatives or a hedge where
//! it is one value (`ambiguous`), a denial, what is only thought, a tautology.
//!
//! Bounded in work: 64 KiB of input, 4 KiB of answer, 4,096 tokens, depth 200, 65,536 bits, 20,000 comparisons. An answer
//! above a budget is wrong; a reference above one is unverifiable.

mod algebra;
mod atom;
mod bracket;
mod command;
mod complex;
mod decimal;
mod digits;
mod equal;
mod eval;
mod expand;
mod expr;
mod field;
mod lexicon;
mod logarithm;
mod named;
mod numerals;
mod over;
mod parameter;
mod parse;
mod phrase;
mod place;
mod quadrature;
mod region;
mod relation;
mod token;
mod units;
mod words;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

pub use self::decimal::DecimalPolicy;
pub use self::equal::PercentPolicy;
use self::equal::{Comparison, Equality};
use self::expr::{Expr, Parsed};
pub use self::place::DecimalMark;
pub(crate) use self::place::with_comma;
pub(crate) use self::token::Marks;
use crate::answer::extract::{self, Extract, ExtractPolicy, MultiAnswer, Rule, Think};
use crate::answer::reference::{self, Unusable};
use crate::answer::text;
use crate::answer::words::Phrases;
use crate::error::ConfigError;
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Settings of the `math` reward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MathConfig {
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
    /// What counts when no answer is marked: nothing (`strict`, the default) or what stands last (`lenient`). `fallback =
    /// "last_number"` is an older name of `lenient`.
    #[serde(alias = "fallback")]
    pub extract: Extract,
    /// How `x%` compares with a plain number. Default `either`.
    pub percent: PercentPolicy,
    /// Units. Default `ignore`.
    pub units: UnitPolicy,
    /// Rounded numbers. Default `{ digits = 6 }`.
    pub decimal: DecimalPolicy,
    /// Arithmetic that is left to be worked out. Default `accept`.
    pub calculation: Calculation,
    /// What separates decimals. Default `auto`.
    pub decimal_mark: DecimalMark,
}

/// Whether a unit matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitPolicy {
    /// It may be left out; one that contradicts the reference's is wrong.
    #[default]
    Ignore,
    /// It must be there when the reference has one.
    Require,
}

/// What to do with arithmetic that is left to be worked out where the reference is a plain number.
///
/// A policy can repeat `3 + 86` from the question; `reject` keeps that from earning what `89` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calculation {
    /// It counts as its value.
    #[default]
    Accept,
    /// A sum, difference, product or quotient of plain numbers is wrong, also where its value is the reference's.
    /// Fractions of a reference that is no integer, powers, roots, scientific notation and closed forms in constants
    /// count; so does `3 + 86 = 89`, which ends in the result.
    Reject,
}

/// The `math` reward.
pub struct Math {
    config: MathConfig,
}

/// A reference, parsed.
enum Gold {
    Value(Parsed),
    /// Words, or mathematics beyond the parser: compared as a string.
    Words,
}

/// The references of a task as they are compared: whole solutions are their answers.
fn golds(task: &Task) -> Result<Vec<String>, Unusable> {
    let mut golds = reference::answers(task)?;
    for gold in &mut golds {
        let unusable = |reason| Unusable { gold: gold.clone(), reason };
        let is_words = matches!(parse_gold(gold).map_err(unusable)?, Gold::Words);
        if !is_words && !reference::is_prose(gold) {
            continue;
        }
        let answer = match reference::behind_cue(gold) {
            Ok(answer) => answer,
            Err(reason) if is_words => return Err(unusable(reason)),
            Err(_) => continue,
        };
        if !is_words && matches!(answer, Cow::Borrowed(_)) {
            continue;
        }
        parse_gold(&answer).map_err(unusable)?;
        let is_value = |text: &&str| matches!(parse_gold(text), Ok(Gold::Value(_)));
        let stated = extract::stated(&answer).filter(is_value).map(str::to_string);
        *gold = stated.unwrap_or_else(|| answer.into_owned());
    }
    Ok(golds)
}

fn parse_gold(gold: &str) -> Result<Gold, String> {
    let trimmed = gold.trim();
    if trimmed.is_empty() {
        return Err("it is empty".into());
    }
    if trimmed.len() > extract::SPAN_BYTES {
        return Err(format!("it is longer than {} bytes", extract::SPAN_BYTES));
    }
    if !trimmed.chars().any(|c| c.is_alphanumeric() || matches!(c, '∞' | '∅' | '\\')) {
        return Err("it has neither digits nor letters".into());
    }
    if let Some(parsed) = parse::parse(trimmed, Marks::Grouped) {
        let words = matches!(parsed.expr, Expr::Text(_));
        return Ok(if words { Gold::Words } else { Gold::Value(parsed) });
    }
    let depth = trimmed.chars().try_fold(0i32, |depth, c| match c {
        '{' => Some(depth + 1),
        '}' => (depth > 0).then_some(depth - 1),
        _ => Some(depth),
    });
    if depth != Some(0) {
        return Err("its braces are not balanced".into());
    }
    if normal_string(trimmed).is_empty() {
        return Err("nothing is left of it after normalisation".into());
    }
    Ok(Gold::Words)
}

/// Comparison form of a formula as a string: no spaces, no sizing commands, one name a fraction.
fn normal_string(s: &str) -> String {
    let mut out = s.trim().to_string();
    for (from, to) in [
        ("\\left", ""),
        ("\\right", ""),
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\\displaystyle", ""),
        ("\\,", ""),
        ("\\!", ""),
        ("\\;", ""),
        ("\\ ", ""),
        ("\\(", ""),
        ("\\)", ""),
        ("\\[", ""),
        ("\\]", ""),
        ("$", ""),
        ("−", "-"),
    ] {
        if out.contains(from) {
            out = out.replace(from, to);
        }
    }
    // Spaces go, but not those between two numbers or two words.
    let mut joined = String::with_capacity(out.len());
    for word in out.split_whitespace() {
        let glue = joined.chars().next_back().is_some_and(char::is_alphanumeric)
            && word.chars().next().is_some_and(char::is_alphanumeric);
        if glue {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined.trim_end_matches(['.', ',']).to_string()
}

/// What a comparison of one reference with one span found.
struct SpanVerdict {
    verdict: Verdict,
    rule: &'static str,
    work: u64,
}

impl Math {
    /// Checks the settings.
    ///
    /// # Errors
    /// A `decimal` policy without meaning.
    pub fn new(config: MathConfig) -> Result<Self, ConfigError> {
        if let Some(reason) = config.decimal.problem() {
            return Err(ConfigError::Invalid { kind: "math", reason });
        }
        // The patterns are compiled here and not within the first check.
        extract::warm_up();
        choice_label("");
        Ok(Self { config })
    }

    /// A reference against an answer in each form that it is read in.
    fn against(&self, gold: &str, forms: &Forms<'_>, comma: bool) -> SpanVerdict {
        let Forms { text, given, stated } = *forms;
        let mut judged = self.judge(gold, text, comma);
        if judged.verdict == Verdict::Incorrect
            && given != text
            && !matches!(parse_gold(gold), Ok(Gold::Words))
        {
            let part = self.judge(gold, given, comma);
            judged = SpanVerdict { work: judged.work + part.work, ..part };
        }
        // `\frac{12}{5} (or 2.4)`: both are the reference.
        if matches!(judged.verdict, Verdict::Incorrect | Verdict::Ambiguous)
            && let Some((value, again)) = restated(given)
        {
            let parts = [value, again].map(|part| self.judge(gold, part, comma));
            let work = judged.work + parts.iter().map(|part| part.work).sum::<u64>();
            if parts.iter().all(|part| part.verdict == Verdict::Correct) {
                judged.verdict = Verdict::Correct;
                judged.rule = "restated";
            }
            judged.work = work;
        }
        // In an evaluation the last side of an equation is what it states.
        if matches!(judged.verdict, Verdict::Incorrect | Verdict::Ambiguous)
            && let Some(side) = stated
            && !is_relation(gold)
        {
            let part = self.judge(gold, side, comma);
            let work = judged.work + part.work;
            judged = if part.verdict == Verdict::Correct { part } else { judged };
            judged.work = work;
        }
        judged
    }

    /// Compares one reference with one span; a letter before the span, as in `(C) 5`, may be the answer or be left out.
    fn judge(&self, gold: &str, span: &str, comma: bool) -> SpanVerdict {
        let mut whole = self.judge_span(gold, span, comma);
        if whole.verdict != Verdict::Incorrect {
            return whole;
        }
        if let Some((letter, rest)) = choice_label(gold) {
            // A reference such as "(B) 15" asks for either.
            if words(span) == letter.to_lowercase().to_string() {
                return SpanVerdict { verdict: Verdict::Correct, rule: "letter", ..whole };
            }
            let (span_letter, span_rest) = choice_label(span).map_or((None, span), |(l, r)| (Some(l), r));
            let part = self.judge_span(rest, span_rest, comma);
            whole.work += part.work;
            if part.verdict == Verdict::Correct && span_letter.is_none_or(|l| l == letter) {
                whole.verdict = part.verdict;
                whole.rule = part.rule;
            }
            return whole;
        }
        let Some((letter, rest)) = choice_label(span) else { return whole };
        let gold_letter = words(gold);
        let is_letter = gold_letter.len() == 1 && gold_letter.starts_with(char::is_alphabetic);
        if is_letter && gold.contains(letter) {
            whole.verdict = Verdict::Correct;
            whole.rule = "letter";
        } else if !is_letter {
            let part = self.judge_span(gold, rest, comma);
            whole.work += part.work;
            if part.verdict == Verdict::Correct {
                whole.verdict = part.verdict;
                whole.rule = part.rule;
            }
        }
        whole
    }

    fn judge_span(&self, gold: &str, span: &str, comma: bool) -> SpanVerdict {
        let judged = |verdict, rule, work| SpanVerdict { verdict, rule, work };
        let Ok(parsed_gold) = parse_gold(gold) else { return judged(Verdict::Unverifiable, "gold", 1) };
        if normal_string(gold) == normal_string(span) {
            return judged(Verdict::Correct, "string", 1);
        }
        if is_prose(gold) && text::normalise(gold) == text::normalise(span) {
            return judged(Verdict::Correct, "text", 1);
        }
        let gold_value = match parsed_gold {
            Gold::Words => {
                let same = text::normalise(gold) == text::normalise(span)
                    || words(gold) == words(span)
                    || says_none(gold)
                        && (says_none(span)
                            || parse::parse(span, Marks::Grouped)
                                .is_some_and(|p| p.expr == Expr::Set(Vec::new())));
                let verdict = match same {
                    true => Verdict::Correct,
                    false if text::is_hedged(span) => Verdict::Ambiguous,
                    false => Verdict::Incorrect,
                };
                return judged(verdict, "text", 1);
            }
            Gold::Value(value) => value,
        };
        if text::is_negated(span) {
            return judged(Verdict::NoAnswer, "negated", 1);
        }
        if text::is_open_number(span) {
            return judged(Verdict::Ambiguous, "hedged", 1);
        }
        if gold_value.expr == Expr::Set(Vec::new()) && says_none(span) {
            return judged(Verdict::Correct, "set", gold_value.work);
        }
        let mut comparison = Comparison::new(self.config.percent, self.config.decimal, gold_value.work);
        let mut found = Equality::Different("unparsed");
        // A list where the gold is one too may have been written with bare thousands separators.
        let lists = matches!(gold_value.expr, Expr::List(..) | Expr::Set(_) | Expr::Tuple(..));
        let readings = readings(gold, comma, lists && span.contains(','));
        for marks in &readings {
            let Some(mut pred) = parse::parse(span, *marks) else { continue };
            // A reference is read by its own convention, which a list that is joined by commas may leave open.
            let gold_again = (*marks != Marks::Grouped && gold.contains(','))
                .then(|| parse::parse(gold, *marks))
                .flatten();
            let gold_value = gold_again.as_ref().unwrap_or(&gold_value);
            units::split_letter(gold_value, &mut pred);
            comparison.work += pred.work;
            found = match units::agree(gold_value.tail.as_deref(), pred.tail.as_deref()) {
                units::Agreement::Contradict => Equality::Different("unit"),
                units::Agreement::Missing if self.config.units == UnitPolicy::Require => {
                    Equality::Different("unit")
                }
                units::Agreement::Scale(factor) => {
                    comparison.compare(&gold_value.expr, &Expr::Mul(vec![factor, pred.expr.clone()]))
                }
                _ => comparison.compare(&gold_value.expr, &pred.expr),
            };
            let pred_expr = pred.expr;
            if found.is_equal()
                && self.config.calculation == Calculation::Reject
                && is_calculation(&gold_value.expr, &pred_expr)
            {
                found = Equality::Different("calculation");
            }
            if found.is_equal() {
                break;
            }
        }
        let (verdict, rule) = match found {
            Equality::Equal(rule) => (Verdict::Correct, rule),
            Equality::Different(rule) => (Verdict::Incorrect, rule),
            Equality::Several => (Verdict::Ambiguous, "several"),
            Equality::Unknown => (Verdict::Unverifiable, "budget"),
        };
        judged(verdict, rule, comparison.spent())
    }
}

/// A sentence that is typeset, as in `\text{There are } 15 \text{ ways}`, as plain text.
fn without_text(span: &str) -> Cow<'_, str> {
    static TEXT: LazyLock<regex::Regex> = LazyLock::new(|| text::fixed(r"\\text(?:rm)?\{([^{}\\]*)\}"));
    if !span.starts_with("\\text") {
        return Cow::Borrowed(span);
    }
    let plain = TEXT.replace_all(span, "$1");
    let words = plain.split_whitespace().filter(|w| w.chars().all(char::is_alphabetic)).count();
    if words > 2 { plain } else { Cow::Borrowed(span) }
}

/// A value and the same value in other words behind it: `2.4 (= 12/5)`, `\frac{12}{5} (or 2.4)`.
fn restated(span: &str) -> Option<(&str, &str)> {
    static AGAIN: LazyLock<regex::Regex> = LazyLock::new(|| {
        crate::answer::words::pattern(r"(?i)^(.+?)\s*\((?:=|≈|\\approx|(?:{or}),?\s)\s*([^()]+)\)$")
    });
    let m = AGAIN.captures(text::head(span.trim(), 256))?;
    Some((m.get(1)?.as_str(), m.get(2)?.as_str()))
}

/// How the marks of an answer may be read: with a decimal comma, and as a list joined by commas.
fn readings(gold: &str, comma: bool, listed: bool) -> Vec<Marks> {
    match (comma, listed) {
        (false, false) => vec![Marks::Grouped],
        (false, true) => vec![Marks::Grouped, Marks::Listed],
        (true, false) => vec![place::with_comma(gold)],
        (true, true) => vec![Marks::Listed, place::with_comma(gold)],
    }
}

/// Whether a reference is an equation or an inequality.
fn is_relation(gold: &str) -> bool {
    gold.contains(['=', '<', '>', '≤', '≥', '≠'])
        || ["\\le", "\\ge", "\\ne", "\\equiv"].iter().any(|sign| gold.contains(sign))
}

/// Several words and nothing else.
fn is_prose(gold: &str) -> bool {
    let mut words = gold.split_whitespace().map(|w| w.trim_matches([',', '.', ';']));
    gold.contains(' ') && words.all(|w| w.chars().count() > 1 && w.chars().all(char::is_alphabetic))
}

/// A plain number: digits with a sign, a fraction of two, a percentage.
fn is_literal(e: &Expr) -> bool {
    match e {
        Expr::Num { .. } | Expr::Based { .. } => true,
        Expr::Neg(a) | Expr::Percent(a) | Expr::Degree(a) => is_literal(a),
        Expr::Div(a, b) => {
            [a, b].iter().all(|e| matches!(&***e, Expr::Num { .. } | Expr::Neg(_)) && is_literal(e))
        }
        _ => false,
    }
}

/// Whether `pred` is arithmetic on plain numbers that is not worked out, where `gold` is a plain number.
fn is_calculation(gold: &Expr, pred: &Expr) -> bool {
    fn plain(e: &Expr) -> bool {
        match e {
            Expr::Num { .. } => true,
            Expr::Neg(a) | Expr::Percent(a) => plain(a),
            Expr::Div(a, b) => plain(a) && plain(b),
            Expr::Add(list) | Expr::Mul(list) => list.iter().all(plain),
            Expr::Over(_) => true,
            _ => false,
        }
    }
    let (gold, pred) = match (gold, pred) {
        (Expr::Chain(a, _), _) => (a.last().unwrap_or(gold), pred),
        _ => (gold, pred),
    };
    let pred = match pred {
        Expr::Chain(sides, _) => sides.last().unwrap_or(pred),
        _ => pred,
    };
    let fuel = eval::Fuel::new(eval::FUEL / 4);
    let whole = matches!(eval::exact(gold, &fuel), Ok(Some(value)) if value.is_integer());
    let quotient =
        matches!(pred, Expr::Div(..)) || matches!(pred, Expr::Neg(e) if matches!(**e, Expr::Div(..)));
    is_literal(gold) && plain(pred) && (!is_literal(pred) || whole && quotient)
}

/// The letter of `(C) 5`, `C) 5`, `\text{(C) } 5`, and what follows it.
fn choice_label(span: &str) -> Option<(char, &str)> {
    static LABEL: LazyLock<regex::Regex> = LazyLock::new(|| {
        text::fixed(
            r"^\s*(?:\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\s*\{\s*)?(?:\(([A-J])\)|([A-J])[).:])\s*(?:\}|\\;|\\,|\\ |\\quad|\\qquad|~|:|\s)*(\S.*)$",
        )
    });
    static OTHER: LazyLock<regex::Regex> =
        LazyLock::new(|| text::fixed(r"\([A-J]\)|\b[B-J][).]\s|^(?:or|and|\\text\{\s*(?:or|and))\b"));
    // `$\textbf{(B)}\ 18$` as a whole.
    let inner = span.trim().strip_prefix('$').and_then(|s| s.strip_suffix('$'));
    let m = LABEL.captures(inner.filter(|s| !s.contains('$')).unwrap_or(span))?;
    let letter = m.get(1).or_else(|| m.get(2))?.as_str().chars().next()?;
    let rest = m.get(3)?.as_str();
    (!OTHER.is_match(rest)).then_some((letter, rest))
}

/// Letters and digits only, for text answers: `\text{(C)}` is `c`, "There are no solutions" is `nosolution`.
fn words(s: &str) -> String {
    static LEAD: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["there", "article"]));
    let normal = text::normalise(s);
    let mut rest = &*normal;
    while let Some(end) = LEAD.opening(rest) {
        let after = rest[end..].trim_start();
        // "The" alone is an answer, and "a-b" begins with no article.
        if after.is_empty() || after.len() == rest.len() - end && !rest[..end].ends_with('\'') {
            break;
        }
        rest = after;
    }
    let parts: Vec<&str> = rest.split(' ').collect();
    let mut out = String::with_capacity(normal.len());
    for part in parts {
        let plural =
            part.len() > 4 && !part.ends_with("ss") && !part.ends_with("us") && !part.ends_with("is");
        let digits = part.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let ordinal = !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && matches!(&part[digits.len()..], "st" | "nd" | "rd" | "th");
        let part = match (ordinal, plural) {
            (true, _) => digits,
            (_, true) => part.strip_suffix('s').unwrap_or(part),
            _ => part,
        };
        out.extend(part.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '+' | '<' | '>' | '=')));
    }
    out
}

/// "No solution", which is the empty set.
fn says_none(span: &str) -> bool {
    static NONE: LazyLock<HashSet<String>> =
        LazyLock::new(|| crate::answer::words::entries("none").map(|e| words(e.phrase)).collect());
    !span.contains("\\empty") && NONE.contains(&words(span))
}

/// A rational value in canonical form, or the normalised string.
fn canonical(span: &str) -> String {
    let exact = parse::parse(span, Marks::Grouped)
        .and_then(|p| eval::exact(&p.expr, &eval::Fuel::new(eval::FUEL / 4)).ok().flatten());
    match exact {
        Some(value) if value.numer().bits() < 512 && value.denom().bits() < 512 => value.to_string(),
        _ => normal_string(span),
    }
}

/// What an answer is read as.
struct Forms<'a> {
    /// All of it.
    text: &'a str,
    /// The object that it gives, or all of it.
    given: &'a str,
    /// The last side of an equation, in evaluations.
    stated: Option<&'a str>,
}

impl Reward for Math {
    fn name(&self) -> &str {
        "math"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let golds = match golds(task) {
            Ok(golds) if golds.is_empty() => {
                return Ok(Outcome::of(Verdict::Unverifiable, "math", "the reference has no answer"));
            }
            Ok(golds) => golds,
            Err(Unusable { reason, .. }) => {
                let reason = format!("the reference cannot be used: {reason}");
                return Ok(Outcome::of(Verdict::Unverifiable, "math", reason));
            }
        };
        let MathConfig { multi_answer, think, extract, .. } = self.config;
        let work = response.text.len() as u64 / 64;
        let answer = match extract::answer(response.text, ExtractPolicy { multi_answer, think, extract }) {
            Ok(answer) => answer,
            Err(missing) => {
                return Ok(Outcome::of(Verdict::NoAnswer, "math", missing.reason())
                    .with_gold(canonical(&golds[0]))
                    .with_work(work));
            }
        };
        // Of a sentence the object that it gives.
        let marked = !matches!(answer.rule, Rule::Bare | Rule::Bold | Rule::Lenient);
        let plain = without_text(&answer.text);
        let object = if marked { extract::object(&plain) } else { None };
        let given = object.unwrap_or(&answer.text);
        let lenient = extract == Extract::Lenient && matches!(answer.rule, Rule::Bare | Rule::Lenient);
        let stated = if lenient { extract::last_side(&answer.text) } else { None };
        let forms = Forms { text: &answer.text, given, stated };
        let mut best: Option<SpanVerdict> = None;
        let mut total = work;
        for gold in &golds {
            let comma = self.config.decimal_mark.is_comma(gold, &answer.text, response.text);
            let judged = self.against(gold, &forms, comma);
            total += judged.work;
            let better = best
                .as_ref()
                .is_none_or(|b| judged.verdict == Verdict::Correct && b.verdict != Verdict::Correct);
            if better {
                best = Some(judged);
            }
        }
        let Some(best) = best else {
            return Ok(Outcome::of(Verdict::Unverifiable, "math", "the reference has no answer"));
        };
        let clash = answer.conflicting && multi_answer == MultiAnswer::RejectIfConflicting;
        // A joined list is one answer only where the reference is a list.
        let several = answer.joined && best.verdict == Verdict::Incorrect;
        let verdict = if clash || several && best.rule != "set" { Verdict::Ambiguous } else { best.verdict };
        let reason = match verdict {
            Verdict::Correct => format!("equals the reference ({})", best.rule),
            Verdict::Ambiguous if clash => "several different explicit answers".to_string(),
            Verdict::Ambiguous => "several or hedged answers where the reference is one".to_string(),
            Verdict::NoAnswer => "the answer is a denial".to_string(),
            Verdict::Unverifiable => "the reference is above the work budget".to_string(),
            _ => format!("is not the reference ({})", best.rule),
        };
        Ok(Outcome::of(verdict, format!("{}/{}", answer.rule.name(), best.rule), reason)
            .with_prediction(canonical(given))
            .with_gold(canonical(&golds[0]))
            .with_extracted(given)
            .with_work(total))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        golds(task).ok()?.first().map(|g| format!("<think>\n…\n</think>\nThe answer is \\boxed{{{g}}}."))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        match golds(task) {
            Ok(golds) if golds.is_empty() => {
                Err(TaskError::MissingField { reward: "math".into(), field: "answer" })
            }
            Ok(_) => Ok(()),
            Err(Unusable { gold, reason }) => Err(TaskError::BadGold { reward: "math".into(), gold, reason }),
        }
    }
}

/// A plain number, whose letters behind it can only be units.
fn parsed_one() -> Parsed {
    Parsed { expr: expr::integer(1), tail: None, apart: false, work: 0 }
}

/// The exact value of an answer span, for rewards that compare numbers; with it, the words after it and whether it has a
/// percent sign.
pub(crate) fn number(span: &str, marks: Marks) -> Option<(num_rational::BigRational, Option<String>, bool)> {
    let mut parsed = parse::parse(span, marks)?;
    units::split_letter(&parsed_one(), &mut parsed);
    // "98.6 °F" is a temperature and no angle.
    let degrees = match &parsed.expr {
        Expr::Degree(value) => Some((**value).clone()),
        Expr::Neg(inner) => match &**inner {
            Expr::Degree(value) => Some(Expr::Neg(value.clone())),
            _ => None,
        },
        _ => None,
    };
    let scale = parsed.tail.as_deref().filter(|tail| matches!(*tail, "C" | "F"));
    let temperature = degrees.and_then(|value| Some((value, format!("°{}", scale?))));
    if let Some((value, unit)) = temperature {
        (parsed.expr, parsed.tail) = (value, Some(unit));
    }
    let mut expr = &parsed.expr;
    if let Expr::Chain(sides, signs) = expr {
        // `x > 3` gives no number.
        expr = match (sides.as_slice(), signs.as_slice()) {
            ([Expr::Sym(_) | Expr::Text(_), value], [token::Rel::Eq | token::Rel::Approx]) => value,
            _ => return None,
        };
    }
    let percent = matches!(expr, Expr::Percent(_));
    if let Expr::Percent(inner) = expr {
        expr = inner;
    }
    let fuel = eval::Fuel::new(eval::FUEL);
    let value = match eval::exact(expr, &fuel).ok()? {
        Some(value) => value,
        None => {
            let mut free = std::collections::BTreeSet::new();
            eval::symbols(expr, &mut free);
            let c = complex::complex(expr, 0, &fuel).filter(|c| free.is_empty() && c.im == 0.0)?;
            num_rational::BigRational::from_float(c.re)?
        }
    };
    Some((value, parsed.tail, percent))
}

#[cfg(test)]
mod tests;
