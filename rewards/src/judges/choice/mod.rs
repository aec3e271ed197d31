//! `choice`: the letter or the text of an option of a multiple-choice question.
//!
//! What counts, the strongest first; within a kind the last one counts:
//!
//! 1. marked answers (`\boxed{B}`, `<answer>B</answer>`, a JSON field `"answer": "B"`, `#### B`) and cues ("the answer is
//!    (B)", "Answer: B", "correct option: B", "答案是B", "la respuesta es B", "правильный ответ B", …), in order of place;
//! 2. statements: "B is correct", "I choose B", "so it must be B", "leaving B"; different ones contradict each other
//!    unless the writer corrects himself in between ("wait, …"), and such a correction overrules an earlier cue, too;
//! 3. a letter that stands by itself: the whole response, its first or last line ("B. Mitral valve", "**B**");
//! 4. the text of exactly one option: as the whole, at the beginning ("Yes, …"), or in a concluding sentence;
//! 5. the only option that is left when all others are denied.
//!
//! A span names an option by its label (any case, brackets, bold, LaTeX, full-width, the look-alikes and first letters of
//! other alphabets), by its text (up to case, punctuation and articles), or by a part of the text that only one option has.
//!
//! | response | read as |
//! |---|---|
//! | `The answer is (B) Aortic stenosis.` | B |
//! | `A is wrong. Wait, no: the answer is A.` | A |
//! | `It is not A but C.` | C |
//! | `A. Fever` `B. Cough` … (all options) | nothing: a list chooses nothing |
//! | `A or B`, `either`, `could be B` | nothing (`ambiguous` where it is the answer) |
//! | `A patient …`, `I think …`, `vitamin B`, `E. coli` | nothing: words, no labels |
//! | `not B`, `B is incorrect` | nothing |
//! | what stands in think tags, or in ones that do not close | nothing |
//!
//! Reference: `{"answer": "B", "options": ["…", …], "letters": "ABCD"}`; the answer may also be the text of an option.
//! `letters` may be a list (`["I", "II", "III"]`, `["1", "2"]`), `options` an object from labels to texts; both may be
//! absent (then A to J count). Without an answer the outcome is unverifiable but carries the label that was read.

mod claims;
mod lines;
mod options;
mod read;
mod statements;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use self::claims::{Claim, Strength};
use self::options::{Options, Set};
use self::read::Reading;
use crate::answer::extract::{self, Extract, Missing, MultiAnswer, Think};
use crate::answer::text;
use crate::answer::words::Phrases;
use crate::error::ConfigError;
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Settings of the `choice` reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChoiceConfig {
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
    /// What counts when no option is chosen plainly: nothing (`strict`, the default) or the only option that the last
    /// sentence with one names (`lenient`).
    pub extract: Extract,
    /// The reference may name several options (`AC`, `"A, C"`, `["A", "C"]`): all and only these are right. Default false.
    pub several: bool,
}

/// The `choice` reward.
pub struct Choice {
    config: ChoiceConfig,
}

/// What a response chooses.
#[derive(Debug, PartialEq)]
enum Choosing {
    Option(usize, &'static str),
    Several(Set, &'static str),
    None(&'static str),
}

/// The part of a response that is meant for the reader, without white space around it.
fn visible(response: &str, think: Think) -> Result<&str, Missing> {
    let body = extract::strip_think(response, think == Think::RequireClosed)?;
    Ok(text::tail(body, extract::INPUT_BYTES).trim())
}

impl Choice {
    /// Checks the settings.
    ///
    /// # Errors
    /// None today; kept for settings that can contradict each other.
    pub fn new(config: ChoiceConfig) -> Result<Self, ConfigError> {
        Ok(Self { config })
    }

    fn choose(&self, response: &str, options: &Options) -> Choosing {
        let body = match visible(response, self.config.think) {
            Ok(body) => body,
            Err(missing) => return Choosing::None(missing.reason()),
        };
        if let Some(index) = options.whole(body) {
            return Choosing::Option(index, "option_text");
        }
        if extract::gives_up(body) {
            return Choosing::None(Missing::Retracted.reason());
        }
        let sentences = claims::sentences(body, options);
        let mut found: Vec<Claim> = Vec::new();
        claims::marked(body, options, &mut found);
        claims::cues(body, &sentences, options, &mut found);
        let mut weak: Vec<Claim> = Vec::new();
        statements::statements(body, &sentences, options, &mut weak);
        let mut denied = Set::default();
        let mut deny = |claims: &[Claim]| {
            for claim in claims {
                if let Reading::Denied(set) = claim.reading {
                    denied.add(set);
                }
            }
        };
        // Also those that a marked answer holds.
        deny(&weak);
        statements::remarks(body, &sentences, options, &mut weak);
        // What lies within a marked answer is that answer.
        let inside = |c: &Claim, m: &Claim| c.start >= m.start && c.end <= m.end;
        let marks: Vec<Claim> = found.iter().filter(|c| c.strength == Strength::Marked).cloned().collect();
        weak.retain(|c| !marks.iter().any(|m| inside(c, m)));
        found.retain(|c| c.strength == Strength::Marked || !marks.iter().any(|m| inside(c, m)));
        let (mut strong, soft): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|c| c.strength >= Strength::Cue);
        weak.extend(soft);
        strong.sort_by_key(|c| (c.end, std::cmp::Reverse(c.start)));
        weak.sort_by_key(|c| (c.end, c.start));
        if let Some(verdict) = self.explicit(body, options, &strong, &weak) {
            return verdict;
        }
        if let Some(verdict) = stated(body, &weak) {
            return verdict;
        }
        deny(&strong);
        deny(&weak);
        denied.add(lines::denied_lines(body, options));
        let by_itself = lines::letter(body, options).or_else(|| {
            // A text that is mentioned is not chosen where its letter is denied.
            lines::option_text(body, options).filter(|(set, ..)| !set.iter().any(|i| denied.holds(i)))
        });
        if let Some((set, span, rule)) = by_itself {
            return self.together(set, &options.residue(span), rule);
        }
        if self.config.extract == Extract::Lenient
            && let Some(index) = lenient(body, options, denied)
        {
            return Choosing::Option(index, "lenient");
        }
        match lines::eliminated(denied, options) {
            Some(set) => several(set, "elimination"),
            None if !denied.is_empty() => Choosing::None(Missing::Negated.reason()),
            None => Choosing::None(Missing::NotFound.reason()),
        }
    }

    /// The last marked answer or cue, unless the writer corrects it afterwards.
    fn explicit(&self, body: &str, options: &Options, strong: &[Claim], weak: &[Claim]) -> Option<Choosing> {
        let last = strong.iter().rposition(|c| matches!(c.reading, Reading::Chosen(_) | Reading::Open))?;
        let claim = &strong[last];
        let Reading::Chosen(mut set) = claim.reading else {
            return Some(Choosing::None("the question is left open"));
        };
        // Adjacent marks of one kind are one answer.
        if claim.strength == Strength::Marked {
            let mut start = claim.start;
            for before in strong[..last].iter().rev().filter(|c| c.rule == claim.rule) {
                let Reading::Chosen(more) = before.reading else { break };
                if before.end > start || !adjoining(&body[before.end..start]) {
                    break;
                }
                set.add(more);
                start = before.start;
            }
        }
        if self.config.multi_answer == MultiAnswer::RejectIfConflicting {
            strong.iter().filter_map(|c| claims::chosen(c.reading)).for_each(|more| set.add(more));
        }
        let after = weak.iter().rev().find(|c| {
            c.start >= claim.end && claims::chosen(c.reading).is_some_and(|s| s.len() == 1 && s != set)
        });
        if let Some(later) = after
            && claims::corrects(&body[claim.end..later.end])
            && let Reading::Chosen(other) = later.reading
        {
            return Some(several(other, later.rule));
        }
        if extract::is_retracted(&body[claim.end..]) {
            return Some(Choosing::None(Missing::Retracted.reason()));
        }
        Some(self.together(set, &options.residue(&body[claim.start..claim.end]), claim.rule))
    }

    /// The options of a set; where several may be the answer, not those that `span` gives as alternatives.
    fn together(&self, set: Set, span: &str, rule: &'static str) -> Choosing {
        static OR: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["or", "hedge", "among"]));
        match self.config.several && set.len() > 1 && OR.hold(span) {
            true => Choosing::None("the options are alternatives"),
            false => several(set, rule),
        }
    }

    /// Whether exactly the options of the reference are chosen.
    fn all_and_only(&self, options: &Options, task: &Task, response: Response<'_>) -> Outcome {
        let list = |set: Set| set.iter().map(|i| options.label(i).to_string()).collect::<Vec<_>>().join(", ");
        let Some(gold) = options.golds(&task.reference) else {
            return Outcome::of(Verdict::Unverifiable, "choice", "the reference names no options");
        };
        let chosen = match visible(response.text, self.config.think) {
            // Nothing but labels.
            Ok(body) => match options.word(body.trim_matches(|c: char| !c.is_alphanumeric())) {
                Some(set) => Choosing::Several(set, "letter"),
                None => match options.listed(body) {
                    Some(set) => Choosing::Several(set, "option_text"),
                    None => self.choose(response.text, options),
                },
            },
            Err(missing) => Choosing::None(missing.reason()),
        };
        let (set, rule) = match chosen {
            Choosing::Option(index, rule) => (Set::one(index), rule),
            Choosing::Several(set, rule) => (set, rule),
            Choosing::None(reason) => {
                return Outcome::of(Verdict::NoAnswer, "choice", reason).with_gold(list(gold));
            }
        };
        let verdict = if set == gold { Verdict::Correct } else { Verdict::Incorrect };
        let reason = format!("chose {}, reference {}", list(set), list(gold));
        Outcome::of(verdict, rule, reason)
            .with_extracted(list(set))
            .with_prediction(list(set))
            .with_gold(list(gold))
    }

    fn outcome(&self, task: &Task, response: Response<'_>) -> Outcome {
        let options = Options::of(task, self.config.several);
        if self.config.several {
            return self.all_and_only(&options, task, response).with_work(response.text.len() as u64);
        }
        let answers = if task.reference.is_object() { task.answers() } else { Vec::new() };
        let gold = answers.first().and_then(|a| options.gold(a));
        let chosen = self.choose(response.text, &options);
        let label = |i: usize| options.label(i).to_string();
        let read = if let Choosing::Option(index, _) = chosen { Some(index) } else { None };
        let mut outcome = match (&chosen, gold) {
            (Choosing::Option(index, rule), Some(gold)) => {
                let verdict = if *index == gold { Verdict::Correct } else { Verdict::Incorrect };
                Outcome::of(verdict, *rule, format!("chose {}, reference {}", label(*index), label(gold)))
            }
            (Choosing::Several(set, rule), Some(_)) => {
                let list: Vec<String> = set.iter().map(label).collect();
                Outcome::of(
                    Verdict::Ambiguous,
                    *rule,
                    format!("several or hedged options: {}", list.join(", ")),
                )
            }
            (Choosing::None(reason), Some(_)) => Outcome::of(Verdict::NoAnswer, "choice", *reason),
            (_, None) => {
                let reason = match answers.is_empty() {
                    true => "the reference has no answer",
                    false => "the reference names no option",
                };
                let rule = if let Choosing::Option(_, rule) = chosen { rule } else { "choice" };
                Outcome::of(Verdict::Unverifiable, rule, reason)
            }
        };
        outcome.extracted = read.map(label);
        outcome.prediction = outcome.extracted.clone();
        outcome.gold = gold.map(label);
        outcome.with_work(response.text.len() as u64)
    }
}

/// Statements without a cue: all agree, or the last one corrects those before it.
fn stated(body: &str, weak: &[Claim]) -> Option<Choosing> {
    let said: Vec<(&Claim, Set)> =
        weak.iter().filter_map(|c| claims::chosen(c.reading).map(|s| (c, s))).collect();
    let (last, mut set) = *said.last()?;
    for (before, other) in said.iter().rev().skip(1).take(8) {
        if *other == set || before.end > last.start && other.len() <= set.len() {
            continue;
        }
        // "Narrowed down to A and B; the rash favours B."
        if set.len() == 1 && other.len() > 1 && set.iter().all(|i| other.holds(i)) {
            break;
        }
        let between = body.get(before.end.min(last.end)..last.end).unwrap_or("");
        if claims::corrects(between) {
            break;
        }
        set.add(*other);
    }
    // A denial of the same option behind it takes it back.
    let denied = weak.iter().any(|c| {
        c.start >= last.end
            && matches!(c.reading, Reading::Denied(d) if set.only().is_some_and(|i| d.holds(i)))
    });
    if denied || extract::is_retracted(&body[last.end..]) {
        return Some(Choosing::None(Missing::Retracted.reason()));
    }
    Some(several(set, last.rule))
}

/// The only option that the last sentence with one names; a denial on the way there ends the search.
fn lenient(body: &str, options: &Options, denied: Set) -> Option<usize> {
    for sentence in extract::last_sentences(body) {
        if read::is_negated(sentence) || text::is_hedged(sentence) || read::is_open(sentence) {
            return None;
        }
        let set = read::named(sentence, options);
        if !set.is_empty() {
            return set.only().filter(|i| !lines::is_listed(sentence, options) && !denied.holds(*i));
        }
    }
    None
}

fn adjoining(gap: &str) -> bool {
    static LINK: LazyLock<Phrases> = LazyLock::new(|| Phrases::of(&["and", "or"]));
    let words = |w: &str| {
        let w = w.trim_matches(|c: char| !c.is_alphanumeric());
        matches!(w, "" | "text" | "textbf" | "quad" | "qquad") || LINK.opening(w) == Some(w.len())
    };
    gap.len() <= 32 && gap.split_whitespace().all(words)
}

fn several(set: Set, rule: &'static str) -> Choosing {
    match set.only() {
        Some(index) => Choosing::Option(index, rule),
        None => Choosing::Several(set, rule),
    }
}

impl Reward for Choice {
    fn name(&self) -> &str {
        "choice"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        Ok(self.outcome(task, response))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let answers = task.answers();
        let options = Options::of(task, self.config.several);
        if self.config.several {
            let set = options.golds(&task.reference)?;
            let list: Vec<&str> = set.iter().map(|i| options.label(i)).collect();
            return Some(format!("<think>\n…\n</think>\n<answer>{}</answer>", list.join(", ")));
        }
        let label = options.label(options.gold(answers.first()?)?).to_string();
        Some(format!("<think>\n…\n</think>\n<answer>{label}</answer>"))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        let answers = task.answers();
        let Some(answer) = answers.first() else {
            return Err(TaskError::MissingField { reward: "choice".into(), field: "answer" });
        };
        let options = Options::of(task, self.config.several);
        let found = if self.config.several {
            options.golds(&task.reference).map(|_| 0)
        } else {
            options.gold(answer)
        };
        match found {
            Some(_) => Ok(()),
            None => Err(TaskError::BadGold {
                reward: "choice".into(),
                gold: answer.clone(),
                reason: "it is neither a letter nor the text of exactly one option".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::{Value, json};

    fn chosen(text: &str) -> Option<String> {
        let reference =
            json!({"options": ["Mitral stenosis", "Aortic stenosis", "Aortic regurgitation", "Vitamin B12"]});
        let reward = Choice::new(ChoiceConfig::default()).unwrap();
        let outcome = score_one(&reward, &Task::new("t", reference), Response::new(text));
        assert_eq!(outcome.verdict, Verdict::Unverifiable);
        outcome.extracted
    }

    fn check(text: &str, want: &str) {
        let got = chosen(text);
        assert_eq!(got.as_deref().unwrap_or(""), want, "{text:?}");
    }

    #[test]
    fn letters() {
        check("B", "B");
        check("(B)", "B");
        check("b", "B");
        check("B. Aortic stenosis", "B");
        check("**B**", "B");
        check("The answer is B.", "B");
        check("The answer is (B) Aortic stenosis.", "B");
        check("Answer: C", "C");
        check("**Answer:** C", "C");
        check("The correct answer is option C, because of the murmur.", "C");
        check("\\boxed{C}", "C");
        check("\\boxed{\\text{C}}", "C");
        check("<answer>C</answer>", "C");
        check("{\"answer\": \"C\"}", "C");
        check("答案是C。", "C");
        check("So B is correct.", "B");
        check("I would choose D here.", "D");
        check("A is incorrect because of the age. B is the correct answer.", "B");
        check("Aortic regurgitation", "C");
        check("B is tempting, but the answer is C.", "C");
        check("The answer is aortic regurgitation.", "C");
        check("The answer is A. Wait, the answer is B.", "B");
        check("<think>A?</think>B", "B");
    }

    #[test]
    fn no_letter() {
        check("", "");
        check("I am not sure.", "");
        check("A patient with chest pain needs an ECG.", "");
        check("The answer is not B.", "");
        check("It is either A or B.", "");
        check("The answer is A or B.", "");
        check("<answer>A, B</answer>", "");
        check("\\boxed{A} or \\boxed{B}", "");
        check("<think>The answer is B", "");
        check("The answer cannot be determined.", "");
        check("A. Mitral stenosis\nB. Aortic stenosis\nC. Aortic regurgitation\nD. Vitamin B12", "");
        check("I think vitamins matter. A lot of people need them.", "");
        check("B is incorrect.", "");
        check("A is a possibility, and so is B.", "");
        check("The answer is E.", "");
        check("The answer is a matter of debate.", "");
    }

    #[test]
    fn several_options_are_all_and_only_right() {
        let reward = Choice::new(ChoiceConfig { several: true, ..ChoiceConfig::default() }).unwrap();
        let options = json!(["Asthma", "Anemia", "Arthritis", "Angina"]);
        let check = |answer: Value, text: &str, want: Verdict| {
            let task = Task::new("t", json!({"answer": answer, "options": options}));
            let outcome = score_one(&reward, &task, Response::new(text));
            assert_eq!(outcome.verdict, want, "{text:?} {}", outcome.reason);
        };
        for answer in [
            json!("AC"),
            json!("A, C"),
            json!("A and C"),
            json!(["A", "C"]),
            json!(["Asthma", "Arthritis"]),
            json!("CA"),
        ] {
            for text in [
                "AC",
                "A, C",
                "The answer is A and C.",
                "答案：AC",
                "\\boxed{A, C}",
                "\\boxed{C,A}",
                "Answer: CA",
                "<answer>A\nC</answer>",
                "\\boxed{A}, \\boxed{C}",
                "**A, C**",
            ] {
                check(answer.clone(), text, Verdict::Correct);
            }
            for text in ["A", "ABC", "The answer is A, B and C.", "ABCD", "B, D", "\\boxed{A}"] {
                check(answer.clone(), text, Verdict::Incorrect);
            }
            for text in ["", "The answer is A or C.", "A. Asthma\nB. Anemia\nC. Arthritis\nD. Angina"] {
                let task = Task::new("t", json!({"answer": answer, "options": options}));
                assert_eq!(score_one(&reward, &task, Response::new(text)).score, Some(0.0), "{text:?}");
            }
        }
        check(json!("B"), "B", Verdict::Correct);
        check(json!("B"), "BC", Verdict::Incorrect);
        assert!(reward.check_task(&Task::new("t", json!({"answer": "AX", "options": options}))).is_err());
        let task = Task::new("t", json!({"answer": "AC", "options": options}));
        assert_eq!(reward.gold(&task).as_deref(), Some("<think>\n…\n</think>\n<answer>A, C</answer>"));
        assert!(Choice::new(ChoiceConfig::default()).unwrap().check_task(&task).is_err());
    }

    #[test]
    fn verdicts() {
        let reward = Choice::new(ChoiceConfig::default()).unwrap();
        let check = |reference: Value, text: &str, want: Verdict| {
            let outcome = score_one(&reward, &Task::new("t", reference), Response::new(text));
            assert_eq!(outcome.verdict, want, "{text:?} {}", outcome.reason);
        };
        check(json!({"answer": "B"}), "B", Verdict::Correct);
        check(json!({"answer": "B"}), "C", Verdict::Incorrect);
        check(json!({"answer": "B"}), "A or B", Verdict::Ambiguous);
        check(json!({"answer": "B"}), "", Verdict::NoAnswer);
        check(json!({"answer": "yes", "options": ["yes", "no"]}), "A", Verdict::Correct);
        check(
            json!({"answer": "J", "options": ["x", "y"], "letters": "JK"}),
            "Answer: K",
            Verdict::Incorrect,
        );
        check(json!({"answer": "Q"}), "A", Verdict::Unverifiable);
        assert!(reward.check_task(&Task::new("t", json!({"answer": "Q"}))).is_err());
        assert!(reward.check_task(&Task::new("t", json!({}))).is_err());
    }
}
