//! `yes_no` and `yes_no_maybe`: a yes/no question, answered in one of several languages.
//!
//! Looked at in this order: the last explicit answer (box, tag, cue such as "the answer is"), the beginning of the
//! response ("Yes, because …"), its last line. A span counts where it begins with one of the words or holds exactly one
//! of them, as a whole word: "no" is not found in "know" or "not", and "there is no evidence" at the beginning of nothing.
//!
//! | response | `yes_no` | `yes_no_maybe` |
//! |---|---|---|
//! | `Yes, it does.` · `The answer is **yes**.` · `是的。` | yes | yes |
//! | `No.` · `Nein, …` · `不是` | no | no |
//! | `Maybe` · `The answer is uncertain.` | ambiguous | maybe |
//! | `Yes and no` · `yes or no` | ambiguous | ambiguous |
//! | `not yes` · `It depends.` · `I know.` | no answer | no answer |
//!
//! Words of English, Chinese, Spanish, French, German, Portuguese, Italian, Russian, Japanese, Korean, Arabic and Hindi
//! are known. Reference: `{"answer": "yes"}`; a boolean counts as yes or no.

use serde::{Deserialize, Serialize};

use crate::extract::{self, ExtractPolicy, MultiAnswer, Rule, Think};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};
use crate::text;
use crate::words;

/// Settings of the `yes_no` and `yes_no_maybe` rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct YesNoConfig {
    /// Whether "maybe" is an answer of its own (always so in `yes_no_maybe`). Default false.
    pub maybe: bool,
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `yes_no` reward.
pub struct YesNo {
    config: YesNoConfig,
    name: &'static str,
}

/// An answer to a yes/no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Maybe,
}

impl Answer {
    fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Maybe => "maybe",
        }
    }
}

/// What a span says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    One(Answer),
    Several,
    Denied,
    Nothing,
}

fn is_cjk(c: char) -> bool {
    matches!(c as u32, 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xAC00..=0xD7A3)
}

/// Every answer word of `span` with its place, the longest at a place; single Chinese characters only at the beginning.
fn found(span: &str) -> Vec<(usize, usize, Answer)> {
    let lower = span.to_lowercase();
    let mut all: Vec<(usize, usize, Answer)> = Vec::new();
    for (key, answer) in [("yes", Answer::Yes), ("no", Answer::No), ("maybe", Answer::Maybe)] {
        for word in words::entries(key).map(|e| e.phrase) {
            let cjk = word.chars().all(is_cjk);
            for (at, _) in lower.match_indices(word).take(64) {
                let end = at + word.len();
                let before = lower[..at].chars().next_back();
                let after = lower[end..].chars().next();
                let solid = |c: Option<char>| {
                    c.is_some_and(|c| {
                        c.is_alphanumeric() || c == '\'' || c == '’' || c == '-' || c as u32 == 0x093F
                    })
                };
                let inside = if cjk { before.is_some_and(is_cjk) } else { solid(before) || solid(after) };
                if !inside {
                    all.push((at, end, answer));
                }
            }
        }
    }
    all.sort_by_key(|(at, end, _)| (*at, std::cmp::Reverse(*end)));
    all.dedup_by(|next, kept| next.0 < kept.1);
    all
}

fn read(span: &str, head_only: bool) -> Reading {
    let span = text::head(span.trim(), 400);
    let all = found(span);
    let Some((at, end, answer)) = all.first().copied() else { return Reading::Nothing };
    let lower = span.to_lowercase();
    let lead = lower[..at].trim_matches(|c: char| !c.is_alphanumeric());
    let denied = |lead: &str| {
        lead.rsplit(' ')
            .take(3)
            .any(|w| matches!(w, "not" | "isn't" | "never" | "cannot" | "nicht" | "pas" | "не"))
    };
    // "不是" begins like a denial and is the answer "no".
    let plain_no = answer == Answer::No && lead.is_empty();
    if denied(lead) || !plain_no && text::is_negated(span) {
        return Reading::Denied;
    }
    let rest = &lower[end..];
    let open = matches!(
        lead,
        "" | "definitely" | "clearly" | "probably" | "likely" | "oh" | "well" | "a" | "text" | "boxed"
    );
    let link = rest.trim_start().trim_start_matches(['/', ',', '*']).trim_start();
    let joined = all.iter().skip(1).any(|(next, _, other)| {
        *other != answer
            && lower[end..*next].split_whitespace().all(|w| {
                let w = w.trim_matches(|c: char| !c.is_alphanumeric());
                matches!(
                    w,
                    "" | "and"
                        | "or"
                        | "but"
                        | "also"
                        | "y"
                        | "o"
                        | "et"
                        | "ou"
                        | "und"
                        | "oder"
                        | "maybe"
                        | "e"
                        | "和"
                        | "或"
                )
            })
    });
    if joined {
        return Reading::Several;
    }
    let stop = rest.is_empty()
        || !rest.starts_with(char::is_alphanumeric) && (!rest.starts_with(' ') || link.is_empty());
    let because = ["because", "since", "as ", "it ", "there ", "this ", "the ", "they ", "that "]
        .iter()
        .any(|w| link.starts_with(w));
    let cjk = lower[at..end].chars().all(is_cjk);
    if open && (stop || because && answer != Answer::No || cjk) {
        return if rest.trim_start().starts_with('?') { Reading::Several } else { Reading::One(answer) };
    }
    if head_only {
        return Reading::Nothing;
    }
    // "no evidence" is no "no": inside a longer span only a word that ends a clause counts.
    let closed: Vec<Answer> = (all.iter())
        .filter(|(_, end, _)| {
            !lower[*end..]
                .trim_start_matches(['*', '"', '\'', '`', '}', ')'])
                .starts_with(|c: char| c == ' ' || c.is_alphanumeric())
        })
        .map(|(.., a)| *a)
        .collect();
    match closed.first() {
        Some(one) if closed.iter().all(|a| a == one) => Reading::One(*one),
        Some(_) => Reading::Several,
        None => Reading::Nothing,
    }
}

impl YesNo {
    /// The reward with these settings; `name` is its metric key.
    pub fn new(config: YesNoConfig, name: &'static str) -> Self {
        Self { config, name }
    }

    /// The last explicit answer, the beginning, the last line.
    fn answer(&self, body: &str) -> (Reading, &'static str) {
        let candidates = extract::candidates(body);
        let mut last = None;
        let mut conflict = false;
        for candidate in &candidates {
            let reading = read(candidate.text, false);
            if reading == Reading::Nothing && candidate.rule == Rule::Cue {
                continue;
            }
            conflict |= last.is_some_and(|(before, _)| before != reading);
            last = Some((reading, candidate.rule.name()));
        }
        if conflict && self.config.multi_answer == MultiAnswer::RejectIfConflicting {
            return (Reading::Several, "cue");
        }
        if let Some(found) = last.filter(|(r, _)| *r != Reading::Nothing) {
            return found;
        }
        let lines: Vec<&str> = body.lines().filter(|l| l.chars().any(char::is_alphanumeric)).collect();
        let (Some(first), Some(end)) = (lines.first(), lines.last()) else {
            return (Reading::Nothing, "none");
        };
        match read(first, true) {
            Reading::Nothing => {
                let so = end
                    .trim()
                    .trim_start_matches("Therefore, ")
                    .trim_start_matches("So, ")
                    .trim_start_matches("Thus, ");
                (read(so, true), "last_line")
            }
            reading => (reading, "beginning"),
        }
    }

    fn gold_of(&self, task: &Task) -> Option<Answer> {
        let answers = task.answers();
        let Reading::One(answer) = read(answers.first()?, true) else { return None };
        (answer != Answer::Maybe || self.config.maybe).then_some(answer)
    }
}

impl Reward for YesNo {
    fn name(&self) -> &str {
        self.name
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let Some(gold) = self.gold_of(task) else {
            return Ok(Outcome::of(Verdict::Unverifiable, self.name, "the reference is neither yes nor no"));
        };
        let policy = ExtractPolicy { think: self.config.think, ..ExtractPolicy::default() };
        let body = match extract::strip_think(response.text, policy.think == Think::RequireClosed) {
            Ok(body) => text::tail(body, extract::INPUT_BYTES),
            Err(missing) => return Ok(Outcome::of(Verdict::NoAnswer, self.name, missing.reason())),
        };
        let (reading, rule) = self.answer(body);
        let outcome = match reading {
            Reading::One(Answer::Maybe) if !self.config.maybe => {
                Outcome::of(Verdict::Ambiguous, rule, "neither yes nor no")
            }
            Reading::One(answer) => {
                let verdict = if answer == gold { Verdict::Correct } else { Verdict::Incorrect };
                Outcome::of(verdict, rule, format!("said {}, reference {}", answer.name(), gold.name()))
                    .with_extracted(answer.name())
                    .with_prediction(answer.name())
            }
            Reading::Several => Outcome::of(Verdict::Ambiguous, rule, "several answers"),
            Reading::Denied => Outcome::of(Verdict::NoAnswer, rule, "the answer is denied"),
            Reading::Nothing => Outcome::of(Verdict::NoAnswer, rule, "no yes or no"),
        };
        Ok(outcome.with_gold(gold.name()).with_work(response.text.len() as u64))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        Some(format!("<answer>{}</answer>", self.gold_of(task)?.name()))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        match (self.gold_of(task), task.answers().into_iter().next()) {
            (Some(_), _) => Ok(()),
            (None, None) => Err(TaskError::MissingField { reward: self.name.into(), field: "answer" }),
            (None, Some(gold)) => Err(TaskError::BadGold {
                reward: self.name.into(),
                gold,
                reason: "it is neither yes nor no".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    fn check(maybe: bool, text: &str, want: &str) {
        let reward = YesNo::new(YesNoConfig { maybe, ..YesNoConfig::default() }, "yes_no");
        let outcome = score_one(&reward, &Task::new("t", json!({"answer": "yes"})), Response::new(text));
        let got = outcome.extracted.as_deref().unwrap_or(match outcome.verdict {
            Verdict::Ambiguous => "ambiguous",
            _ => "",
        });
        assert_eq!(got, want, "{text:?} {}", outcome.reason);
    }

    #[test]
    fn answers() {
        for text in [
            "Yes",
            "yes.",
            "Yes, it does.",
            "**Yes**",
            "<answer>yes</answer>",
            "The answer is yes.",
            "\\boxed{yes}",
            "Answer: Yes, because it grows.",
            "It grows in all cases.\n\nYes.",
            "是的。",
            "Sí.",
            "Oui, toujours.",
            "Ja.",
            "{\"answer\": \"yes\"}",
            "<think>no</think>yes",
            "The answer is no. Wait, the answer is yes.",
        ] {
            check(false, text, "yes");
        }
        for text in ["No", "no, it does not", "Nein.", "Non.", "不是。", "否", "The answer is: no", "没有"]
        {
            check(false, text, "no");
        }
    }

    #[test]
    fn no_answers() {
        for text in [
            "",
            "I know.",
            "It is not yes.",
            "There is no evidence for it in this text.",
            "It depends.",
            "Nobody knows.",
            "<think>yes",
            "Yesterday it rained.",
            "<answer></answer>",
            "The answer is not yes.",
        ] {
            check(false, text, "");
        }
        for text in ["Yes and no.", "yes or no", "yes/no", "<answer>yes, no</answer>", "Maybe."] {
            check(false, text, "ambiguous");
        }
        check(true, "Maybe.", "maybe");
        check(true, "The answer is maybe.", "maybe");
        check(true, "yes, no, maybe", "ambiguous");
    }

    #[test]
    fn references() {
        let reward = YesNo::new(YesNoConfig::default(), "yes_no");
        assert!(reward.check_task(&Task::new("t", json!({"answer": "maybe"}))).is_err());
        assert!(reward.check_task(&Task::new("t", json!({"answer": true}))).is_ok());
        assert!(reward.check_task(&Task::new("t", json!({"answer": "Paris"}))).is_err());
    }
}
