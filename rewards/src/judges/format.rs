//! `format`: the response has the required shape. Empty tags earn nothing.
//!
//! | style | full match of |
//! |---|---|
//! | `think_answer` | `<think>…</think> <answer>…</answer>`, once each, nothing outside but white space |
//! | `answer` | exactly one `<answer>…</answer>`, no think tags required |
//! | `think` | `<think>…</think>` and then free text, both with content |
//! | `boxed` | at least one `\boxed{…}` with content, outside of think |
//! | `pattern = "…"` | a regular expression; anchor it to match the whole |
//!
//! | response | `think_answer` | `answer` | `think` | `boxed` |
//! |---|---|---|---|---|
//! | `<think>a</think> <answer>b</answer>` | correct | correct | correct | incorrect |
//! | `<think></think> <answer>b</answer>` · `<think>a</think> <answer> </answer>` | incorrect | by its answer | incorrect | incorrect |
//! | `Well. <answer>b</answer>` | incorrect | correct | incorrect | incorrect |
//! | `<answer>b</answer> <answer>c</answer>` | incorrect | incorrect | incorrect | incorrect |
//! | `<think>a</think> It is \boxed{b}` | incorrect | incorrect | correct | correct |
//!
//! Content is a letter, a digit or a sign that says something, such as `∞`, `∅` or `+`; dots and dashes are none. With
//! `graded` the score is the share of the requirements that hold. The content is not judged: put an answer beside it.

use serde::{Deserialize, Serialize};

use crate::answer::extract;
use crate::answer::turn::own_turn;
use crate::error::ConfigError;
use crate::judges::pattern::Matcher;
use crate::reward::{Outcome, Reward, RewardError, Verdict};
use crate::task::{Response, Task};

/// Settings of the `format` reward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FormatConfig {
    /// Required shape. Default `think_answer`.
    pub style: FormatStyle,
    /// A regular expression that must match instead of `style`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Share of the requirements that hold instead of all or nothing (not for `boxed`). Default false.
    pub graded: bool,
    /// The prompt already opened `<think>`, so the response starts inside it. Default false.
    pub think_opened: bool,
}

/// Shape that a response must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatStyle {
    /// `<think>…</think><answer>…</answer>` and nothing else.
    #[default]
    ThinkAnswer,
    /// One `<answer>…</answer>`.
    Answer,
    /// `<think>…</think>` and then free text.
    Think,
    /// A `\boxed{…}` outside of think.
    Boxed,
}

/// Whether a text says something.
fn has_content(text: &str) -> bool {
    // Letters that show nothing.
    let blank = |c: char| matches!(c, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}');
    let symbol = |c: char| matches!(c as u32, 0xB1 | 0xD7 | 0xF7 | 0xAC | 0x2190..=0x23FF | 0x25A0..=0x27BF | 0x27C0..=0x2BFF | 0x1F000..=0x1FAFF);
    // A line of plus or equals signs is an ornament.
    let operator = matches!(text.trim(), "+" | "<" | ">" | "=" | "<=" | ">=" | "!=" | "==");
    operator || text.chars().any(|c| c.is_alphanumeric() && !blank(c) || symbol(c))
}

/// The `format` reward.
pub struct Format {
    config: FormatConfig,
    pattern: Option<Matcher>,
}

impl Format {
    /// Checks the settings.
    ///
    /// # Errors
    /// When `pattern` is not a regular expression.
    pub fn new(config: FormatConfig) -> Result<Self, ConfigError> {
        let pattern = config.pattern.as_deref().map(|p| Matcher::new("format", p)).transpose()?;
        Ok(Self { config, pattern })
    }

    /// The requirements with whether each holds; all must hold for the strict form.
    fn requirements(&self, text: &str) -> Vec<(&'static str, bool)> {
        let count = |tag: &str| text.matches(tag).count();
        let filled = |open: &str, close: &str| {
            (text.split_once(open).and_then(|(_, rest)| rest.split_once(close)))
                .is_some_and(|(inner, _)| has_content(inner))
        };
        let answer = [
            ("one <answer> … </answer>", count("<answer>") == 1 && count("</answer>") == 1),
            ("an answer that is not empty", filled("<answer>", "</answer>")),
        ];
        let one_think = ("one <think> … </think>", count("<think>") == 1 && count("</think>") == 1);
        let filled_think = ("thoughts that are not empty", filled("<think>", "</think>"));
        match self.config.style {
            FormatStyle::Boxed => vec![(
                "a \\boxed{…} outside of think",
                extract::strip_think(text, false)
                    .ok()
                    .is_some_and(|body| extract::boxed(body).iter().any(|c| has_content(c.text))),
            )],
            FormatStyle::Answer => {
                let outside = text.find("<answer>").zip(text.find("</answer>")).is_some_and(|(a, b)| a < b);
                let mut list = answer.to_vec();
                list.push(("tags in order", outside));
                list
            }
            FormatStyle::Think => {
                let parts = text.split_once("<think>").and_then(|(before, rest)| {
                    rest.split_once("</think>").map(|(_, after)| (before.trim().is_empty(), after))
                });
                vec![
                    one_think,
                    filled_think,
                    ("text after the thoughts", parts.is_some_and(|(_, after)| has_content(after))),
                    ("nothing before the thoughts", parts.is_some_and(|(first, _)| first)),
                ]
            }
            FormatStyle::ThinkAnswer => {
                let positions: Option<Vec<usize>> =
                    ["<think>", "</think>", "<answer>", "</answer>"].iter().map(|t| text.find(t)).collect();
                let whole = positions.is_some_and(|p| {
                    p.is_sorted()
                        && text[..p[0]].trim().is_empty()
                        && text[p[1] + "</think>".len()..p[2]].trim().is_empty()
                        && text[p[3] + "</answer>".len()..].trim().is_empty()
                });
                let mut list = vec![one_think, filled_think];
                list.extend(answer);
                list.push(("nothing outside of the tags, in order", whole));
                list
            }
        }
    }
}

impl Reward for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn score(&self, _: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let work = response.text.len() as u64;
        if let Some(matcher) = &self.pattern {
            let hit = match matcher.for_text(response.text) {
                Ok(pattern) => pattern.is_match(response.text),
                Err(reason) => {
                    return Ok(Outcome::of(Verdict::Incorrect, "pattern", reason).with_work(work));
                }
            };
            let verdict = if hit { Verdict::Correct } else { Verdict::Incorrect };
            let reason = if hit { "the pattern matches" } else { "the pattern does not match" };
            return Ok(Outcome::of(verdict, "pattern", reason).with_work(work));
        }
        let opened;
        let own = own_turn(response.text);
        let text = if self.config.think_opened && !own.trim_start().starts_with("<think>") {
            opened = format!("<think>{own}");
            &opened
        } else {
            own
        };
        let list = self.requirements(text);
        let held = list.iter().filter(|(_, ok)| *ok).count();
        let Some((missing, _)) = list.iter().find(|(_, ok)| !ok) else {
            return Ok(Outcome::of(Verdict::Correct, "tags", "well formed").with_work(work));
        };
        let reason = format!("lacks {missing}");
        let score = if self.config.graded { held as f64 / list.len() as f64 } else { 0.0 };
        Ok(Outcome::graded(score, "tags", reason).with_work(work))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let answer = task.answers().into_iter().next()?;
        let gold = match (self.pattern.is_some(), self.config.style) {
            (true, _) => return None,
            (_, FormatStyle::ThinkAnswer) => {
                format!("<think>\n…so it is {answer}\n</think>\n<answer>{answer}</answer>")
            }
            (_, FormatStyle::Think) => format!("<think>\n…so it is {answer}\n</think>\n{answer}"),
            (_, FormatStyle::Answer) => format!("<answer>{answer}</answer>"),
            (_, FormatStyle::Boxed) => format!("\\boxed{{{answer}}}"),
        };
        Some(gold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;

    fn check(config: FormatConfig, text: &str, want: f64) {
        let reward = Format::new(config).unwrap();
        assert_eq!(score_one(&reward, &Task::default(), Response::new(text)).score, Some(want), "{text:?}");
    }

    #[test]
    fn think_answer_is_strict() {
        let c = |text, want| check(FormatConfig::default(), text, want);
        c("<think>a</think><answer>b</answer>", 1.0);
        c("\n<think>\na\n</think>\n\n<answer>\nb\n</answer>\n", 1.0);
        c("<think></think><answer>b</answer>", 0.0);
        c("<think>a</think><answer> </answer>", 0.0);
        c("<think>a</think><answer>...</answer>", 0.0);
        c("<think>a</think>so <answer>b</answer>", 0.0);
        c("x<think>a</think><answer>b</answer>", 0.0);
        c("<think>a</think><answer>b</answer>x", 0.0);
        c("<think>a<think>b</think></think><answer>b</answer>", 0.0);
        c("<answer>b</answer><think>a</think>", 0.0);
        c("<think>a<answer>b</answer></think>", 0.0);
        c("<think>a</think><answer>b</answer><answer>c</answer>", 0.0);
        c("<think>a</answer><answer>b</think>", 0.0);
        c("", 0.0);
    }

    #[test]
    fn other_styles() {
        let style = |style| FormatConfig { style, ..FormatConfig::default() };
        check(style(FormatStyle::Answer), "so <answer>4</answer>", 1.0);
        check(style(FormatStyle::Answer), "so <answer></answer>", 0.0);
        check(style(FormatStyle::Answer), "</answer>4<answer>", 0.0);
        check(style(FormatStyle::Boxed), "so \\boxed{4}", 1.0);
        check(style(FormatStyle::Boxed), "so \\boxed{}", 0.0);
        check(style(FormatStyle::Boxed), "<think>\\boxed{4}</think> 4", 0.0);
        check(style(FormatStyle::Boxed), "\\boxed{∅}", 1.0);
        let graded = FormatConfig { graded: true, ..FormatConfig::default() };
        check(graded.clone(), "<think>a</think><answer>b</answer>", 1.0);
        check(graded, "<think>a</think> b", 0.4);
        let opened = FormatConfig { think_opened: true, ..FormatConfig::default() };
        check(opened, "a</think><answer>b</answer>", 1.0);
        let pattern = FormatConfig { pattern: Some("^x+$".into()), ..FormatConfig::default() };
        check(pattern.clone(), "xxx", 1.0);
        check(pattern, "xxy", 0.0);
    }

    #[test]
    fn signs_are_content() {
        for sign in ["∞", "∅", "√", "→", "≤", "+", ">", "✓", "😀", "⊂"] {
            check(FormatConfig::default(), &format!("<think>a</think><answer>{sign}</answer>"), 1.0);
        }
        for nothing in
            ["…", "...", "-", "—", "?", "_", "***", "===", "\u{3164}", "\u{200b}", "。", "「」", "·", "\"\""]
        {
            check(FormatConfig::default(), &format!("<think>a</think><answer>{nothing}</answer>"), 0.0);
        }
    }

    #[test]
    fn think_and_then_free_text() {
        let think = FormatConfig { style: FormatStyle::Think, ..FormatConfig::default() };
        let c = |text, want| check(think.clone(), text, want);
        c("<think>a</think>b", 1.0);
        c("\n<think>\na\n</think>\n\nIt is **b**.\n", 1.0);
        c("<think>a</think> <answer>b</answer>", 1.0);
        c("<think>a</think>", 0.0);
        c("<think>a</think> ...", 0.0);
        c("<think> </think>b", 0.0);
        c("<think>a", 0.0);
        c("a</think>b", 0.0);
        c("b", 0.0);
        c("Well. <think>a</think>b", 0.0);
        c("<think>a</think>b</think>c", 0.0);
        c("<think>a</think>b<think>c</think>d", 0.0);
        c("</think>a<think>b", 0.0);
        let opened = FormatConfig { think_opened: true, ..think };
        check(opened.clone(), "a</think>b", 1.0);
        check(opened.clone(), "<think>a</think>b", 1.0);
        check(opened.clone(), "</think>b", 0.0);
        check(opened.clone(), "a</think>b</think>c", 0.0);
        check(opened, "b", 0.0);
    }
}
